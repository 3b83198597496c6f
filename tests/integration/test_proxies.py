"""Behind HAProxy and nginx, configured as deploy/ says: what the proxy counts as one request
the gateway counts as one, and every answer goes to who asked.

Each request has an id of its own (X-Request-Id), which the proxy and the gateway log; what
a smuggled request would be known by is an id too.
"""

import collections
import json
import random
import shutil
import subprocess

import pytest

from tests.harness.mesh import free_port, until
from tests.harness.proxy import Proxy, find
from tests.harness.raw import Raw, chunked, post
from tests.harness.scenes import encoded

NAMES = {}  # of attempts, for a failure's message
PICTURE = encoded(".png", width=64, height=48, seed=41)


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def behind(request, tmp_path_factory):
    from tests.integration.conftest import running
    if not find(request.param) or not find("openssl"):
        pytest.skip(f"{request.param} or openssl is not installed")
    for mesh in running(request, tmp_path_factory.mktemp("mesh")):
        mesh.start(gateway={"access_log": "all", "trusted_proxies": "127.0.0.1"})
        folder = tmp_path_factory.mktemp(request.param)
        proxy = Proxy(request.param, folder, mesh.port())
        mesh.ids = iter(range(1, 1 << 32))
        try:
            proxy.wait_ready()
            yield mesh, proxy
        finally:
            if getattr(request.node, "failed_so_far", False):
                print((folder / "out.log").read_text()[-3000:])
            proxy.stop()


def new_id(mesh, kind="a"):
    return f"{kind * 8}{next(mesh.ids):024x}"


def gateway_log(mesh):
    """id -> how often the gateway says that it ended such a request."""
    counts = collections.Counter()
    for line in mesh.processes["gateway"].text().splitlines():
        entry = json.loads(line)
        if entry["msg"] == "request":
            counts[entry["id"]] += 1
    return counts


def proxy_log(proxy):
    return collections.Counter(id for id, _, sent_on in proxy.log() if sent_on)


def ours(counts):
    """Those with an id that a test gave; not the probes of the proxy and the harness."""
    return {id: n for id, n in counts.items() if id[:8] in ("aaaaaaaa", "bbbbbbbb")}


def difference(mesh, proxy):
    """(id, name of the attempt, times in the proxy's log, in the gateway's) where unequal.
    Without those that the gateway did not understand, so could not know the id of: it
    counts them, and there must be so many."""
    there, here = ours(proxy_log(proxy)), ours(gateway_log(mesh))
    malformed = mesh.counter("gateway", "siftmesh_gateway_http_malformed_total")
    unknown = [id for id in there if id not in here]
    if len(unknown) == malformed and all(there[id] == 1 for id in unknown):
        there = {id: n for id, n in there.items() if id in here}
    return [(id, NAMES.get(id), there.get(id), here.get(id))
            for id in {*there, *here} if there.get(id) != here.get(id)]


def check_counts(mesh, proxy):
    """Proxy and gateway saw the same requests, each once. Ids of the gateway's."""
    try:
        until(lambda: not difference(mesh, proxy), "both saw the same")
    except AssertionError:
        raise AssertionError(difference(mesh, proxy)) from None
    counts = ours(gateway_log(mesh))
    assert set(counts.values()) <= {1}, {id: n for id, n in counts.items() if n > 1}
    return counts


def get(id, path="/v1/features/" + "0" * 64, more=""):
    return f"GET {path} HTTP/1.1\r\nHost: h\r\nX-Request-Id: {id}\r\n{more}\r\n".encode()


def valid_requests(mesh, count, seed):
    """(id, bytes, status) of mixed requests."""
    chance = random.Random(seed)
    out = []
    for i in range(count):
        id = new_id(mesh)
        body = encoded(".png", width=48, height=40, seed=chance.randrange(6))
        kind = chance.choice(["get", "page", "post", "chunked", "bad"])
        if kind == "get":
            out.append((id, get(id), 404))
        elif kind == "page":
            out.append((id, get(id, "/version"), 200))
        elif kind == "post":
            out.append((id, post(body, X_Request_Id=id), 200))
        elif kind == "chunked":
            out.append((id, chunked(body, step=chance.choice([7, 100, 4000]), X_Request_Id=id),
                        200))
        else:
            out.append((id, get(id, "/v1/features?descriptors=none&h=1"), 405))
    return out


def test_keep_alive_and_pipelined_requests_are_each_answered_once(behind):
    mesh, proxy = behind
    asked = []
    for seed in range(4):
        requests = valid_requests(mesh, 12, seed)
        with Raw(proxy.port, tls=proxy.tls) as raw:
            if seed % 2:  # one after the other, or all at once
                raw.send(b"".join(data for _, data, _ in requests))
            for id, data, status in requests:
                if not seed % 2:
                    raw.send(data)
                got, headers, _ = raw.answer()
                assert (got, headers["x-request-id"]) == (status, id)
        asked += [id for id, _, _ in requests]
    counts = check_counts(mesh, proxy)
    assert set(asked) <= set(counts)


def test_many_clients_at_once_share_the_proxys_connections(behind):
    mesh, proxy = behind
    clients = [Raw(proxy.port, tls=proxy.tls) for _ in range(24)]
    requests = [valid_requests(mesh, 10, 100 + i) for i in range(len(clients))]
    for step in range(10):
        for client, mine in zip(clients, requests):
            client.send(mine[step][1])
        for client, mine in zip(clients, requests):
            status, headers, _ = client.answer()
            assert (status, headers["x-request-id"]) == (mine[step][2], mine[step][0])
    for client in clients:
        client.close()
    counts = check_counts(mesh, proxy)
    assert {id for mine in requests for id, _, _ in mine} <= set(counts)


def attempts(mesh):
    """name -> (id, bytes): requests that two readers might cut differently. Inside is what
    would be the second one, with an id that begins with b."""
    placeholder = "b" * 32
    second = get(placeholder, "/version")
    out = {}

    def add(name, head, body):
        id = new_id(mesh)
        text = f"POST /v1/features HTTP/1.1\r\nHost: h\r\nX-Request-Id: {id}\r\n"
        out[name] = (id, text.encode() + head + b"\r\n" + body)

    size = b"Content-Length: %d\r\n"
    zero = b"0\r\n\r\n"
    te = b"Transfer-Encoding: chunked\r\n"
    add("length and chunked", size % len(zero + second) + te, zero + second)
    add("chunked and length", te + size % 4, zero + second)
    for name, line in {
        "space before the colon": b"Transfer-Encoding : chunked\r\n",
        "tab": b"Transfer-Encoding:\tchunked\r\n",
        "capitals": b"Transfer-Encoding: CHUNKED\r\n",
        "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
        "twice": te + te,
        "identity": b"Transfer-Encoding: chunked, identity\r\n",
        "gzip": b"Transfer-Encoding: gzip, chunked\r\n",
        "quoted": b"Transfer-Encoding: \"chunked\"\r\n",
        "x": b"Transfer-Encoding: xchunked\r\n",
        "folded": b"Transfer-Encoding:\r\n chunked\r\n",
        "after a bare lf": b"X: y\nTransfer-Encoding: chunked\r\n",
        "after a bare cr": b"X: y\rTransfer-Encoding: chunked\r\n",
        "underscore": b"Transfer_Encoding: chunked\r\n",
        "nul": b"Transfer-Encoding: chunked\0\r\n",
    }.items():
        add("te " + name, size % len(zero + second) + line, zero + second)
    for name, line in {
        "two": size % 0 + size % len(second), "two reversed": size % len(second) + size % 0,
        "list": b"Content-Length: 0, %d\r\n" % len(second),
        "same twice": size % len(second) * 2,
        "plus": b"Content-Length: +%d\r\n" % len(second),
        "minus": b"Content-Length: -1\r\n", "hex": b"Content-Length: 0x%x\r\n" % len(second),
        "space inside": b"Content-Length: 1 %d\r\n" % len(second),
        "leading zeros": b"Content-Length: 00%d\r\n" % len(second),
        "huge": b"Content-Length: 18446744073709551616\r\n",
        "space before the colon": b"Content-Length : %d\r\n" % len(second),
        "underscore": b"Content_Length: 0\r\n" + size % len(second),
    }.items():
        add("length " + name, line, second)
    for name, body in {
        "size with 0x": b"0x0\r\n\r\n", "size with a sign": b"+0\r\n\r\n",
        "size with spaces": b"0  \r\n\r\n", "empty size": b"\r\n\r\n",
        "bare lf": b"0\n\n", "extension with a lf": b"0;a=\n\r\n\r\n",
        "size that wraps": b"10000000000000000\r\n\r\n",
        "data longer than its size": b"1\r\nabc\r\n0\r\n\r\n",
        "no crlf after the data": b"3\r\nabc0\r\n\r\n",
        "trailers": b"0\r\nContent-Length: 5\r\nHost: other\r\n\r\n",
    }.items():
        add("chunk " + name, te, body + second)
    id = new_id(mesh)
    out["get with a body"] = (id, get(id, more=f"Content-Length: {len(second)}\r\n") + second)
    id = new_id(mesh)
    out["get with chunks"] = (id, get(id, more="Transfer-Encoding: chunked\r\n") + zero + second)
    id = new_id(mesh)
    out["absolute"] = (id, get(id, "http://other/version") + second)
    id = new_id(mesh)
    out["1.0 and chunked"] = (
        id, get(id).replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\n" + te + b"\r\n")
        + zero + second)
    id = new_id(mesh)
    out["two hosts"] = (id, get(id, more="Host: other\r\n") + second)
    id = new_id(mesh)
    out["no host"] = (id, get(id).replace(b"Host: h\r\n", b"") + second)
    id = new_id(mesh)
    out["upgrade"] = (id, get(id, more="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                              "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n") + second)
    id = new_id(mesh)
    out["expect"] = (id, get(id, more=f"Expect: 100-continue\r\nContent-Length: {len(second)}"
                             "\r\n") + second)
    for name, (id, data) in out.items():
        NAMES[id], inner = name, new_id(mesh, "b")
        NAMES[inner] = "inside " + name
        out[name] = id, data.replace(placeholder.encode(), inner.encode())
    return out


def answers_of(raw, last):
    """All answers until the proxy closes, which `last`, sent after the first, asks it to;
    unless that goes into a body it still waits for."""
    found = []
    try:
        while (answer := raw.answer()) is not None:
            if not found:
                raw.send(last)
            found.append(answer)
    except (AssertionError, OSError, ValueError):
        pass
    return found


def test_no_attempt_at_smuggling_splits_or_doubles_a_request(behind):
    mesh, proxy = behind
    victim = Raw(proxy.port, tls=proxy.tls)
    for name, (_, data) in attempts(mesh).items():
        with Raw(proxy.port, seconds=3, tls=proxy.tls) as raw:
            last = get(new_id(mesh), "/version", "Connection: close\r\n")
            answers = answers_of(raw.send(data), last)
        # Who comes next on the connections that the proxy keeps gets an answer of their own.
        for _ in range(3):
            id = new_id(mesh)
            got = victim.send(get(id)).answer()
            assert got is not None and got[0] == 404, name
            assert got[1]["x-request-id"] == id, name
        assert len(answers) <= 3, name
    victim.close()
    check_counts(mesh, proxy)


def test_what_the_gateway_would_refuse_alone_it_refuses_behind_a_proxy(behind):
    """The bounds hold: a body too large is refused, and the refusal reaches the client."""
    mesh, proxy = behind
    id = new_id(mesh)
    with Raw(proxy.port, tls=proxy.tls) as raw:
        got, headers, body = raw.send(post(b"x" * 300000, path="/v1/features?h=0",
                                           X_Request_Id=id)).answer()
        assert got == 400 and headers["x-request-id"] == id
        assert json.loads(body)["code"] == "bad_parameter"
    check_counts(mesh, proxy)


def test_a_client_of_the_proxy_that_leaves_cancels_its_job(behind):
    mesh, proxy = behind
    before = mesh.counter("gateway", "siftmesh_gateway_mesh_cancelled_total")
    large = encoded(".jpg", width=2400, height=1800, seed=43)
    with Raw(proxy.port, tls=proxy.tls) as raw:
        raw.send(post(large, path="/v1/features?h=40&template=21&search=35",
                      X_Request_Id=new_id(mesh)))
        until(lambda: mesh.status()["services"]["extract"]["running"] == 1, "it runs")
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_mesh_cancelled_total") > before,
          "the gateway saw it leave")
    check_counts(mesh, proxy)


def test_the_gateway_knows_the_clients_address(behind):
    """Its own is not the proxy's; what a client says of itself is not believed."""
    mesh, proxy = behind
    mine = {}
    for last in range(7, 10):
        for lie in ("", "X-Forwarded-For: 6.6.6.6\r\n", "Forwarded: for=6.6.6.6\r\n"):
            id = new_id(mesh)
            mine[id] = f"127.0.0.{last}"
            with Raw(proxy.port, tls=proxy.tls, source=mine[id]) as raw:
                assert raw.send(get(id, "/version", lie)).answer()[0] == 200

    def logged():
        lines = [json.loads(line) for line in mesh.processes["gateway"].text().splitlines()]
        return {line["id"]: line["peer"] for line in lines if line.get("id") in mine}
    until(lambda: logged() == mine, "each request has its client's address")


TUNNEL = """global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server gateway 127.0.0.1:{gateway} {word}
"""


@pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2"])
def test_a_tunnel_tells_the_clients_address_by_the_proxy_protocol(mesh, tmp_path, word):
    if not find("haproxy"):
        pytest.skip("haproxy is not installed")
    mesh.start(gateway={"access_log": "all", "trusted_proxies": "127.0.0.1"})
    port, config = free_port(), tmp_path / "tunnel.cfg"
    config.write_text(TUNNEL.format(port=port, gateway=mesh.port(), word=word))
    tunnel = subprocess.Popen([find("haproxy"), "-db", "-f", str(config)],
                              stdin=subprocess.DEVNULL)

    def connected():
        try:
            return Raw(port, source="127.0.0.7")
        except OSError:
            return None
    try:
        with until(connected, "haproxy listens") as raw:
            for number in range(2):
                id = f"{'a' * 8}{number:024x}"
                assert raw.send(get(id, "/version")).answer()[0] == 200
                until(lambda: f'"id":"{id}"' in mesh.processes["gateway"].text(), "it is logged")
    finally:
        tunnel.terminate()
        tunnel.wait(20)
    lines = [json.loads(line) for line in mesh.processes["gateway"].text().splitlines()]
    peers = [line["peer"] for line in lines if line.get("id", "").startswith("a" * 8)]
    assert peers == ["127.0.0.7"] * 2


def test_http_2_clients_are_served(behind):
    mesh, proxy = behind
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    ids = [new_id(mesh) for _ in range(5)]
    for id in ids:
        done = subprocess.run(
            ["curl", "-sS", "--http2", "-k", "-o", "/dev/null", "-w",
             "%{http_version} %{http_code}", "-H", f"X-Request-Id: {id}", "-H",
             "Content-Type: image/png", "--data-binary", "@-",
             f"https://127.0.0.1:{proxy.port}/v1/features"], input=PICTURE,
            capture_output=True, check=True)
        assert done.stdout == b"2 200"
    assert set(ids) <= set(check_counts(mesh, proxy))


def test_what_is_for_operators_is_not_passed_on(behind):
    mesh, proxy = behind
    sent = []
    for method, path, status in (("GET", "/metrics", 404), ("GET", "/v1/status", 404),
                                 ("GET", "/metrics/", 404), ("GET", "/v1/status/", 404),
                                 ("GET", "/v1/status?x=1", 404),
                                 ("DELETE", "/v1/features/" + "0" * 64, 405)):
        sent.append(new_id(mesh))
        request = get(sent[-1], path).replace(b"GET", method.encode(), 1)
        with Raw(proxy.port, tls=proxy.tls) as raw:
            assert raw.send(request).answer()[0] == status, path
    with Raw(proxy.port, tls=proxy.tls) as raw:
        assert raw.send(get(new_id(mesh), "/version")).answer()[0] == 200
    assert not set(sent) & set(check_counts(mesh, proxy))
