"""slowhttptest in its three modes: the others are served, the attackers are cut off by the
deadlines, and no client gets more connections than its share. No clock decides here; what
an attack costs the others is measured by `./dev bench slow`."""

import http.client

import pytest

from tests.harness.mesh import SLOWNESS, Answer, until
from tests.harness.raw import Raw, post
from tests.harness.scenes import encoded
from tests.harness.slow import MODES, Attack, installed

pytestmark = pytest.mark.skipif(not installed(), reason="slowhttptest is not installed")

CONNECTIONS = 200
# Totals of a second, which bytes hardly extend.
STRICT = {"head_timeout_ms": 1000, "body_timeout_ms": 1000, "write_timeout_ms": 1000,
          "body_rate_min": "100M"}


class Healthy:
    """Another client, at 127.0.0.2."""

    def __init__(self, mesh):
        self.mesh, self.count = mesh, 0

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.mesh.port(), timeout=60 * SLOWNESS,
            source_address=("127.0.0.2", 0))
        connection.request(method, path, body=body)
        answer = Answer(connection.getresponse())
        connection.close()
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer

    def round(self):
        """Every kind of request once."""
        self.count += 1
        picture = encoded(".png", width=48, height=40, seed=1000 + self.count)
        self.ask("GET", "/livez")
        key = self.ask("POST", "/v1/features", picture).json()["key"]
        self.ask("GET", f"/v1/features/{key}")


def large_key(mesh):
    """Of 9 MB of JSON: twice what the kernel takes for a connection."""
    noise = encoded(".png", width=2400, height=1800, noise=60.0, seed=3)
    answer = mesh.post("/v1/features?denoise=none&contrast=0", noise)
    assert len(answer.body) > 8 << 20
    return answer.json()["key"]


def counter(mesh, name):
    return mesh.counter("gateway", f"siftmesh_gateway_http_{name}")


@pytest.mark.parametrize("mode", MODES)
def test_an_attack_is_cut_off_and_the_others_are_served(mesh, mode):
    mesh.start(gateway={**STRICT, "connections_max": 1000})
    key = large_key(mesh)
    healthy = Healthy(mesh)
    before = counter(mesh, "accepted_total")
    with Attack(mode, mesh.url, key, CONNECTIONS, 60) as attack:
        until(lambda: counter(mesh, "accepted_total") >= before + CONNECTIONS, "they came")
        # Each of them is closed by a deadline, while the others are served.
        until(lambda: healthy.round() or counter(mesh, "timeouts_total") >= CONNECTIONS,
              "each was cut off", 60)
        until(lambda: healthy.round() or counter(mesh, "connections") < 20, "they are gone", 60)
        attack.stop()
    assert healthy.count >= 2
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_buffered_bytes") == 0,
          "their bytes are given back")
    assert mesh.processes["gateway"].alive()


def picture(seed, size):
    """A picture of `size` bytes: what follows its end does not matter."""
    return encoded(".jpg", width=64, height=48, seed=seed).ljust(size, b"x")


def test_slow_uploads_shut_out_nobody(mesh):
    """Uploads that announce much and send little hold little; those that have sent much and
    then dawdle give way to others."""
    size = 1 << 20
    mesh.start(gateway={"buffered_bytes_max": 4 * size, "body_bytes_max": size,
                        "body_timeout_ms": 600000, "request_timeout_ms": 600000})
    announced = [Raw(mesh.port()).send(post(b"x" * size)[:2000]) for _ in range(40)]
    until(lambda: 0 < mesh.counter("gateway", "siftmesh_gateway_buffered_bytes")
          <= len(announced) * (32 << 10), "they hold what they sent")
    for i in range(5):
        assert mesh.post("/v1/features", picture(i, size)).status == 200

    full = [Raw(mesh.port()).send(post(b"x" * size)[:-1]) for _ in range(2)]
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_buffered_bytes") >= 2 * size,
          "all memory is taken")
    number = iter(range(100, 1000))
    until(lambda: mesh.post("/v1/features", picture(next(number), size)).status == 200,
          "the slowest gives way")
    for _ in range(10):
        assert mesh.post("/v1/features", picture(next(number), size)).status == 200
    assert counter(mesh, "gave_way_total") >= 1
    for raw in announced + full:
        raw.close()


def resident_bytes(process):
    with open(f"/proc/{process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_readers_that_read_nothing_hold_no_more_than_the_bound(mesh):
    """Each answer is too large for the hot cache, so that each is rendered anew."""
    bound = 48 << 20
    mesh.start(gateway={"answers_bytes_max": bound, "answers_bytes_per_peer": bound // 2,
                        "hot_bytes_max": 1 << 20})
    key, gateway = large_key(mesh), mesh.processes["gateway"]
    healthy = Healthy(mesh)
    healthy.round()
    gauge, before = "siftmesh_gateway_outgoing_bytes", resident_bytes(gateway)
    readers, held = [], [0]

    def read_nothing():
        source = f"127.0.1.{1 + len(readers) % 8}"
        raw = Raw(mesh.port(), receive_bytes=4096, source=source)
        readers.append(raw.send(f"GET /v1/features/{key} HTTP/1.1\r\nHost: h\r\n\r\n"))
        held.append(mesh.counter("gateway", gauge))

    def is_full():
        """One of them found no room. Requests at the same time share an answer."""
        read_nothing()
        lines = mesh.get("/metrics").body.decode().splitlines()
        full = [line for line in lines if 'requests_total{status="full"}' in line]
        return full and not full[0].endswith(" 0") or counter(mesh, "gave_way_total") > 0

    for _ in range(40):
        read_nothing()
    until(is_full, "there is no room", 60)
    # Others are served, small answers and large ones.
    for _ in range(5):
        healthy.round()
    until(lambda: mesh.request("GET", f"/v1/features/{key}").status == 200,
          "the slowest gives way")
    held.append(mesh.counter("gateway", gauge))
    assert 8 << 20 < max(held) <= bound
    if SLOWNESS == 1:  # a sanitizer keeps what was freed for a while
        assert resident_bytes(gateway) - before < 1.5 * bound
    assert counter(mesh, "gave_way_total") >= 1
    for raw in readers:
        raw.close()
    until(lambda: mesh.counter("gateway", gauge) == 0, "their bytes are given back")


def test_an_answer_above_its_bound_is_422(mesh):
    mesh.start(gateway={"answer_bytes_max": 100000})
    noise = encoded(".png", width=640, height=480, noise=60.0, seed=4)
    answer = mesh.post("/v1/features?denoise=none&contrast=0", noise)
    assert answer.status == 422, answer.status
    document = answer.json()
    assert document["code"] == "answer_too_large"
    assert document["limit"] == 100000 < document["actual"]
    # The result is known; it may be asked for in fewer bytes.
    few = mesh.post("/v1/features?denoise=none&contrast=0&max_features=100", noise)
    assert few.status == 200 and len(few.body) <= 100000


@pytest.mark.parametrize("mode", MODES)
def test_one_address_gets_no_more_than_its_share(mesh, mode):
    """With deadlines that do not help in time: places are kept free by the bound alone."""
    share = 40
    mesh.start(gateway={"connections_max": 120, "connections_per_peer": share,
                        "head_timeout_ms": 60000, "body_timeout_ms": 60000,
                        "write_timeout_ms": 60000})
    key = large_key(mesh)
    healthy = Healthy(mesh)
    with Attack(mode, mesh.url, key, CONNECTIONS, 60):
        # The metrics are read by a connection of another address, too.
        def refused():
            text = healthy.ask("GET", "/metrics").body.decode()
            return dict(line.split() for line in text.splitlines() if line[0] != "#"
                        and "{" not in line)
        name = "siftmesh_gateway_http_refused_connections_total"
        until(lambda: float(refused()[name]) >= CONNECTIONS - share, "the rest was turned away")
        for _ in range(5):
            healthy.round()
        counts = refused()
        assert float(counts["siftmesh_gateway_http_timeouts_total"]) == 0
        until(lambda: float(refused()["siftmesh_gateway_http_connections"]) <= share + 1,
              "those turned away are gone")
