"""What operators do over HTTP and with `siftmesh cache`: look, forget one result, a tag, all."""

import http.client
import json
import os
import resource
import subprocess

import pytest

from tests.harness.mesh import until
from tests.harness.scenes import encoded
from tests.harness.stores import Redis

TOKEN = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def picture(seed):
    return encoded(".png", width=64, height=64, seed=seed)


@pytest.fixture(scope="module")
def admin_mesh(request, tmp_path_factory):
    from tests.integration.conftest import running
    folder = tmp_path_factory.mktemp("admin")
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    for mesh in running(request, folder):
        mesh.start(gateway={"admin_token_file": token})
        yield mesh


def key_of(answer):
    assert answer.status == 200, answer.body
    return answer.headers["etag"].strip('"').split("-")[0]


def purge(mesh, *words):
    return mesh.command("cache", "purge", *words).stdout.decode()


def test_status_shows_slots_queues_and_the_cache(admin_mesh):
    answer = admin_mesh.get("/v1/status")
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    status = answer.json()
    assert status["services"]["extract"]["slots"] == 2
    assert {queue["jobs"] for queue in status["services"]["extract"]["queues"]} == {0}
    assert any(worker["service"] == "cache" for worker in status["workers"])


def test_status_without_a_broker_is_503(mesh):
    mesh.start(gateway={"mesh_wait_ms": 500})
    mesh.kill("broker")
    until(lambda: mesh.get("/readyz").status == 503, "the gateway misses the broker")
    assert mesh.get("/v1/status").status == 503


def test_delete_needs_the_token(admin_mesh):
    path = "/v1/features/" + key_of(admin_mesh.post("/v1/features", picture(1)))
    for headers in ({}, {"Authorization": "Bearer " + TOKEN[:-1]},
                    {"Authorization": "Bearer " + TOKEN + "x"},
                    {"Authorization": "Basic " + TOKEN},
                    {"Authorization": "Bearer " + 5000 * "x"}):
        answer = admin_mesh.request("DELETE", path, headers=headers)
        assert answer.status == 401 and answer.json()["code"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
    assert admin_mesh.get(path).status == 200


def test_without_a_token_file_nobody_deletes(shared_mesh):
    answer = shared_mesh.request("DELETE", "/v1/features/" + "0" * 64, headers=BEARER)
    assert answer.status == 403 and answer.json()["code"] == "forbidden"


def test_a_token_that_is_too_short_stops_the_gateway(mesh, tmp_path):
    short = tmp_path / "short"
    short.write_text("secret\n")
    mesh.start(services=["broker"], gateway={"admin_token_file": short})
    process = mesh.start_one("gateway")
    assert process.wait() != 0
    process.killed = True  # meant to fail
    until(lambda: "ready" in mesh.processes["broker"].text(), "the broker may be stopped")
    assert '"min":16' in process.text() and "secret" not in process.text()


@pytest.mark.parametrize("mode, text, why", [
    (0o644, TOKEN + "\n", "others may read this secret"),
    (0o600, TOKEN + " and more\n", "visible ASCII"),
    (0o600, "\ufeff" + TOKEN + "\n", "visible ASCII")])
def test_a_token_file_that_cannot_work_or_be_secret_stops_the_gateway(mesh, tmp_path, mode,
                                                                      text, why):
    token = tmp_path / "token"
    token.write_text(text)
    token.chmod(mode)
    mesh.start(services=["broker"], gateway={"admin_token_file": token})
    process = mesh.start_one("gateway")
    assert process.wait() != 0
    process.killed = True  # meant to fail
    until(lambda: "ready" in mesh.processes["broker"].text(), "the broker may be stopped")
    assert why in process.text() and TOKEN not in process.text()


def test_a_token_file_of_another_system_is_understood(mesh, tmp_path):
    token = tmp_path / "token"
    token.write_bytes(TOKEN.encode() + b" \t\r\n")
    token.chmod(0o600)
    mesh.start(services=["broker", "cacher", "gateway"], gateway={"admin_token_file": token})
    assert mesh.request("DELETE", "/v1/features/" + "0" * 64, headers=BEARER).status == 200


def test_delete_forgets_the_result_everywhere(admin_mesh):
    first = admin_mesh.post("/v1/features", picture(2))
    path = "/v1/features/" + key_of(first)
    assert admin_mesh.post("/v1/features", picture(2)).headers["x-cache"] == "hit"
    answer = admin_mesh.request("DELETE", path, headers=BEARER)
    assert answer.status == 200 and answer.json() == {"purged": path.split("/")[-1]}
    assert admin_mesh.get(path).status == 404
    again = admin_mesh.post("/v1/features", picture(2))
    assert again.headers["x-cache"] == "miss" and again.body == first.body
    assert admin_mesh.request("DELETE", "/v1/features/abc", headers=BEARER).status == 404


def test_a_purge_reaches_the_other_gateways_hot_cache(mesh):
    mesh.start()
    path = "/v1/features/" + key_of(mesh.post("/v1/features", picture(3)))
    first_port = mesh.port()
    mesh.start_one("gateway")
    mesh.wait_ready()
    assert mesh.get(path).status == 200 and mesh.port() != first_port

    def status_at_first():
        connection = http.client.HTTPConnection("127.0.0.1", first_port, timeout=20)
        connection.request("GET", path)
        return connection.getresponse().status

    assert status_at_first() == 200
    assert "1 results removed" in purge(mesh, "--key", path.split("/")[-1])
    until(lambda: status_at_first() == 404 and mesh.get(path).status == 404, "both forgot")


def test_a_tag_is_purged_and_nothing_else(admin_mesh):
    tagged = [key_of(admin_mesh.post("/v1/features", picture(seed),
                                     headers={"X-Cache-Tag": "album-7, batch:3"}))
              for seed in (4, 5)]
    other = key_of(admin_mesh.post("/v1/features", picture(6),
                                   headers={"X-Cache-Tag": "album-70"}))
    assert "2 results would be removed" in purge(admin_mesh, "--tag", "album-7", "--dry-run")
    assert admin_mesh.get("/v1/features/" + tagged[0]).status == 200
    assert "2 results removed" in purge(admin_mesh, "--tag", "album-7")
    for key in tagged:
        assert admin_mesh.get("/v1/features/" + key).status == 404
    assert admin_mesh.get("/v1/features/" + other).status == 200


def test_a_prefix_an_age_and_all_are_purged(admin_mesh):
    key = key_of(admin_mesh.post("/v1/features", picture(7)))
    assert "0 results removed" in purge(admin_mesh, "--older-than", "1h")
    assert admin_mesh.get("/v1/features/" + key).status == 200
    assert "1 results removed" in purge(admin_mesh, "--prefix", key[:40])
    assert admin_mesh.get("/v1/features/" + key).status == 404
    key = key_of(admin_mesh.post("/v1/features", picture(8)))
    purge(admin_mesh, "--all")
    assert admin_mesh.get("/v1/features/" + key).status == 404


@pytest.mark.parametrize("words", [
    [], ["--all", "--tag", "a"], ["--tag", "a,b"], ["--tag", ""], ["--prefix", "XY"],
    ["--older-than", "soon"], ["--older-than", "0d"], ["--key", "12"], ["--no-such"]])
def test_a_purge_says_what_it_is_to_forget(shared_mesh, words):
    done = shared_mesh.command("cache", "purge", *words, check=False)
    assert done.returncode == 64 and b"--" in done.stderr, done.stderr


@pytest.mark.parametrize("tags", ["a b", "a b!", ",", "x" * 64, ",".join("abcdefghi")])
def test_bad_tags_are_refused(shared_mesh, tags):
    answer = shared_mesh.post("/v1/features", picture(9), headers={"X-Cache-Tag": tags})
    assert answer.status == 400 and "X-Cache-Tag" in answer.json()["detail"]


def test_cache_get_writes_what_is_kept(admin_mesh, tmp_path):
    answer = admin_mesh.post("/v1/features", picture(10),
                             headers={"Accept": "application/octet-stream"})
    out = tmp_path / "features.bin"
    until(lambda: admin_mesh.command("cache", "get", key_of(answer), "--out", out,
                                     check=False).returncode == 0, "the cacher has it")
    assert out.read_bytes() == answer.body
    missing = admin_mesh.command("cache", "get", "0" * 64, "--out", out, check=False)
    assert missing.returncode != 0 and b"no result is known under this key" in missing.stderr


def test_cache_stats_and_plan_are_json_where_asked(admin_mesh):
    for word in ("stats", "plan"):
        assert json.loads(admin_mesh.command("cache", word, "--json").stdout)
        assert admin_mesh.command("cache", word).stdout


# ---- a part of the cache is away ----

def start_with(mesh, tmp_path, **cacher):
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    mesh.start(broker={"worker_wait_ms": 300}, gateway={"admin_token_file": token},
               cacher=cacher)


def kept(mesh):
    return mesh.counter("gateway", "siftmesh_gateway_purges_kept")


def test_a_delete_without_the_cacher_is_kept_until_it_is_done(mesh, tmp_path):
    start_with(mesh, tmp_path, store=f"sqlite://{tmp_path}/results.db")
    path = "/v1/features/" + key_of(mesh.post("/v1/features", picture(20)))
    until(lambda: mesh.counter("monitor", "siftmesh_cacher_store_puts_total") == 1,
          "it is stored")
    mesh.kill("cacher")
    answer = mesh.request("DELETE", path, headers=BEARER)
    assert answer.status == 202 and answer.json() == {"pending": path.split("/")[-1]}
    assert mesh.get(path).status in (404, 503)  # out of the gateway's memory at once
    assert kept(mesh) == 1
    mesh.start_one("cacher")
    until(lambda: kept(mesh) == 0, "it was purged", 30)
    until(lambda: mesh.get(path).status != 503, "the cache is asked again")
    assert mesh.get(path).status == 404
    assert mesh.request("DELETE", path, headers=BEARER).status == 200
    assert mesh.post("/v1/features", picture(20)).headers["x-cache"] == "miss"


def test_a_delete_without_redis_is_kept_until_it_is_done(mesh, tmp_path):
    with Redis() as redis:
        start_with(mesh, tmp_path, redis=redis.url)
        path = "/v1/features/" + key_of(mesh.post("/v1/features", picture(21)))
        redis.kill()
        assert mesh.request("DELETE", path, headers=BEARER).status == 202
        assert kept(mesh) == 1
        redis.start()
        until(lambda: kept(mesh) == 0, "it was purged", 60)
        assert mesh.get(path).status == 404


def test_a_delete_without_a_broker_is_503(mesh, tmp_path):
    start_with(mesh, tmp_path)
    path = "/v1/features/" + key_of(mesh.post("/v1/features", picture(22)))
    mesh.kill("broker")
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_mesh_up") == 0, "it is missed")
    assert mesh.request("DELETE", path, headers=BEARER).status == 503
    assert kept(mesh) == 0


# Root without capabilities is a user as any other.
PLAIN = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def is_read_by_a_neighbour(pid):
    """Whether another process of the same user reads its environment."""
    return subprocess.run([*PLAIN, "cat", f"/proc/{pid}/environ"],
                          capture_output=True).returncode == 0


def test_services_that_hold_secrets_show_their_memory_to_nobody(mesh, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    mesh.prefixes = {name: PLAIN for name in ("broker", "gateway", "cacher")}
    mesh.start(gateway={"admin_token_file": token},
               cacher={"redis": "redis://:secret@127.0.0.1:9"})  # nothing listens there
    pids = {name: mesh.processes[name].pid for name in mesh.prefixes}
    if not is_read_by_a_neighbour(pids["broker"]):
        pytest.skip("on this system no process reads another one's")
    for name in ("gateway", "cacher"):
        assert not is_read_by_a_neighbour(pids[name]), name
        assert resource.prlimit(pids[name], resource.RLIMIT_CORE)[0] == 0
