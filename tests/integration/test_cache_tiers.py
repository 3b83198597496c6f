"""Results that last: memory, Redis and the durable store behind a living mesh."""

import hashlib
import json
import os
import re
import signal
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.harness.mesh import ROOT, SLOWNESS, until
from tests.harness.scenes import encoded
from tests.harness.stores import Postgres, Redis

sys.path.insert(0, str(ROOT / "client/python"))
import siftmesh  # noqa: E402

MODE = 23  # proto/verbs.tbl

# Nothing stays in the gateway: every request asks the cacher.
COLD = {"hot_bytes_max": 0}
SMALL = {"width": 96, "height": 72}


def picture(seed):
    return encoded(".png", seed=9000 + seed, **SMALL)


@pytest.fixture
def redis():
    with Redis() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    """A URL of a durable store."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/results.db"
    else:
        with Postgres() as server:
            yield server.url


def mesh_client(mesh):
    return siftmesh.Mesh(f"ipc://{mesh.runtime}/front.sock")


def message(client):
    """The next one about a request: (verb, status, request, body, payload)."""
    end = time.monotonic() + 20 * SLOWNESS
    return until(lambda: client._step(end), "a message comes")


def counter(mesh, name):
    return mesh.counter("monitor", f"siftmesh_cacher_{name}")


def computed(mesh):
    return mesh.counter("monitor", "siftmesh_extractor_jobs_done_total")


def keys(redis):
    return {k for k in redis.command("keys", "siftmesh:feat:*").split() if k}


def post(mesh, seed):
    answer = mesh.post("/v1/features", picture(seed),
                       headers={"Accept": "application/octet-stream"})
    assert answer.status == 200, answer.body
    return answer


def own_stats(mesh):
    """What the cacher that was started last says of itself; {} until it is known."""
    pid = mesh.processes["cacher"].pid
    return next((w["stats"] for w in mesh.status()["workers"]
                 if w["service"] == "cache" and w["pid"] == pid), {})


def is_known(mesh):
    pid = mesh.processes["cacher"].pid
    until(lambda: any(w["service"] == "cache" and w["pid"] == pid
                      for w in mesh.status()["workers"]), "the new cacher is known")


def restart(mesh):
    mesh.kill("cacher")
    mesh.start_one("cacher")
    is_known(mesh)


def test_results_in_redis_outlive_the_cacher(mesh, redis):
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    first = post(mesh, 1)
    assert first.cache == "miss"
    assert post(mesh, 1).cache == "hit"
    until(lambda: len(keys(redis)) == 1, "the result is in Redis")
    restart(mesh)
    again = post(mesh, 1)
    assert (again.cache, again.body) == ("hit", first.body)
    # What Redis found, memory has now.
    assert post(mesh, 1).cache == "hit"
    until(lambda: counter(mesh, "redis_hits_total") == 1 and
          counter(mesh, "memory_hits_total") == 1, "each tier counted its hit")
    # A look at a key finds it behind memory, too.
    restart(mesh)
    key = first.headers["etag"].strip('"').split("-")[0]
    assert mesh.get("/v1/features/" + key).status == 200


def test_one_look_up_serves_all_who_ask_meanwhile(mesh, redis):
    mesh.start(gateway=COLD, cacher={"redis": redis.url, "redis_timeout_ms": 5000})
    post(mesh, 2)
    until(lambda: len(keys(redis)) == 1, "the result is in Redis")
    restart(mesh)
    until(lambda: counter(mesh, "redis_connects_total") > 0, "Redis is connected")
    os.kill(redis.process.pid, signal.SIGSTOP)
    with mesh_client(mesh) as one:
        key = hashlib.sha256(b"").digest()
        ids = [one._send(siftmesh.SUBMIT, one._new_id(), {
            "service": "cache", "method": "get", "key": key}, budget_ms=20000)
            for _ in range(50)]
        until(lambda: counter(mesh, "parked_now") == 50, "all wait")
        os.kill(redis.process.pid, signal.SIGCONT)
        ends = {}
        while len(ends) < 2:  # the first one computes, the others wait for it
            verb, status, request, body, _ = message(one)
            if verb == siftmesh.FINAL:
                ends[request] = (status, body)
            if len(ends) == 1 and request in ends:
                status, body = ends[request]
                assert status == siftmesh.MISS and body["lease"] > 0
                one._send(siftmesh.SUBMIT, one._new_id(), {
                    "service": "cache", "method": "drop", "key": key,
                    "lease": body["lease"]}, budget_ms=5000)
        assert set(ends) <= set(ids)
    until(lambda: counter(mesh, "looks_total") == 1 and
          counter(mesh, "looks_shared_total") == 49, "one look-up for fifty")


def stopped(redis):
    os.kill(redis.process.pid, signal.SIGSTOP)


def killed(redis):
    redis.kill()


@pytest.mark.parametrize("harm", [stopped, killed])
def test_a_redis_that_is_gone_costs_hits_alone(mesh, redis, harm):
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    kept = post(mesh, 10)
    until(lambda: len(keys(redis)) == 1, "the result is in Redis")
    harm(redis)
    # Memory answers all the same, and what is new is computed.
    for seed in range(11, 17):
        assert post(mesh, 10).body == kept.body
        assert post(mesh, seed).cache == "miss"
    until(lambda: counter(mesh, "redis_breaker") == 2, "the breaker is open")
    before = counter(mesh, "redis_errors_total")
    for seed in range(17, 21):
        assert post(mesh, seed).cache == "miss"
    until(lambda: counter(mesh, "redis_passed_by_total") > 0, "it is not asked any more")
    assert counter(mesh, "redis_errors_total") <= before + 2  # probes may fail
    if harm is stopped:
        os.kill(redis.process.pid, signal.SIGCONT)
    else:
        redis.start()
    until(lambda: counter(mesh, "redis_breaker") == 0, "Redis is asked again")

    def lands(seeds=iter(range(30, 1000))):
        post(mesh, next(seeds))
        return len(keys(redis)) > 1
    until(lands, "and written to")


def test_two_cachers_share_a_redis(mesh, redis):
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    mesh.start_one("cacher")
    until(lambda: len([w for w in mesh.status()["workers"] if w["service"] == "cache"]) == 2,
          "two cachers")
    seeds = range(100, 116)
    bodies = [post(mesh, seed).body for seed in seeds]
    until(lambda: len(keys(redis)) == len(seeds), "all are in Redis")
    for _ in range(3):
        assert [post(mesh, seed).body for seed in seeds] == bodies
    mesh.kill("cacher")
    assert [post(mesh, seed).body for seed in seeds] == bodies
    assert post(mesh, 199).cache == "miss"
    until(lambda: computed(mesh) >= len(seeds) + 1, "the monitor has seen the last one")
    assert computed(mesh) == len(seeds) + 1


def test_two_cachers_grant_one_lease_for_a_key(mesh):
    mesh.start(services=["broker", "cacher"])
    mesh.start_one("cacher")
    until(lambda: mesh.command("status", check=False).returncode == 0 and
          len([w for w in mesh.status()["workers"] if w["service"] == "cache"]) == 2,
          "two cachers")
    with mesh_client(mesh) as holder, mesh_client(mesh) as other:
        for number in range(12):  # of which each cacher has some
            key, value = blob(number, count=10)
            ask = {"service": "cache", "method": "get", "key": key}
            status, body, _ = holder._submit(ask, b"", 20 * SLOWNESS)
            assert status == siftmesh.MISS and body["lease"] > 0
            waiting = other._send(siftmesh.SUBMIT, other._new_id(), ask, budget_ms=9000)
            put = {"service": "cache", "method": "put", "key": key, "lease": body["lease"]}
            assert holder._submit(put, value, 20 * SLOWNESS)[0] == siftmesh.OK
            verb, request = None, None
            while (verb, request) != (siftmesh.FINAL, waiting):
                verb, status, request, body, payload = message(other)
            assert (status, payload) == (siftmesh.OK, value)
            assert body["cache"] in ("coalesced", "hit")


def test_a_purge_takes_our_keys_and_nobody_elses(mesh, redis):
    for i in range(50):
        redis.command("set", f"other:{i}", "theirs")
    redis.command("set", "siftmesh:other", "theirs too")
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    for seed in range(200, 208):
        post(mesh, seed)
    until(lambda: len(keys(redis)) == 8, "all are in Redis")
    out = mesh.command("cache", "purge", "--all", "--dry-run").stdout.decode()
    assert "8 results would be removed" in out
    assert len(keys(redis)) == 8
    one = sorted(keys(redis))[0].rsplit(":", 1)[1]
    out = mesh.command("cache", "purge", "--prefix", one[:16]).stdout.decode()
    assert "1 results removed" in out
    assert len(keys(redis)) == 7
    out = mesh.command("cache", "purge", "--all").stdout.decode()
    assert "7 results removed" in out
    assert not keys(redis)
    assert redis.command("dbsize") == "51"
    assert post(mesh, 200).cache == "miss"


def test_a_purge_of_a_dead_tier_says_so(mesh, redis):
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    post(mesh, 1)
    redis.kill()
    done = mesh.command("cache", "purge", "--all", check=False)
    assert done.returncode != 0
    assert b"redis could not be purged" in done.stderr


def test_a_broken_picture_costs_a_slot_once(mesh):
    mesh.start(gateway=COLD)
    broken = picture(1)[:200]
    first = mesh.post("/v1/features", broken)
    assert first.status == 422
    until(lambda: counter(mesh, "puts_negative_total") == 1, "the refusal is known")
    for _ in range(5):
        again = mesh.post("/v1/features", broken)
        assert again.status == 422
        one, two = first.json(), again.json()
        one.pop("request_id"), two.pop("request_id")
        assert one == two
    until(lambda: counter(mesh, "negative_hits_total") == 5, "the cacher knew it")
    mesh.command("cache", "purge", "--all")
    assert mesh.post("/v1/features", broken).status == 422
    until(lambda: counter(mesh, "puts_negative_total") == 2, "and had to ask again")


def test_a_leaseholder_that_dies_hands_over(mesh):
    mesh.start(cacher={"lease_ms": 1500}, extractor={"slots": 1})
    path = "/v1/features?sift=vlfeat"
    slow = encoded(".png", seed=9300, width=900, height=700)
    first = threading.Thread(target=lambda: ignore(lambda: mesh.post(path, slow)))
    first.start()
    until(lambda: mesh.status()["services"]["extract"]["running"] == 1, "it computes")
    mesh.kill("gateway")
    mesh.start_one("gateway")
    mesh.wait_ready()
    answer = mesh.post(path, slow)
    assert answer.status == 200
    first.join()


def ignore(ask):
    try:
        ask()
    except Exception:  # the gateway was killed: that is what the test is about
        pass


# ---- pressure ----


def blob(number, count=1000):
    """A feature blob of some 148 KB under a key of its own."""
    image = hashlib.sha256(str(number).encode()).digest()
    canon = siftmesh.canonical({})
    key = hashlib.sha256(image + b"\1" + canon + siftmesh.ALGORITHM).digest()
    head = struct.pack("<4sHHIII4xI4x", b"SMFB", 1, 160, count, 640, 480, len(canon))
    head += image + key + canon + bytes(64 - len(canon))
    assert len(head) == 160
    return key, head + bytes(148 * count)


def pss_bytes(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) * 1024


def say_level(client, level, ttl_ms=60000):
    client._exchange(MODE, {"level": level, "reason": "a test", "ttl_ms": ttl_ms},
                     20 * SLOWNESS, answer=MODE)


def test_under_pressure_memory_goes_back_to_the_system_and_comes_again(mesh):
    bound = 64 << 20
    # No monitor: it would say levels of its own.
    mesh.start(services=["broker", "cacher"],
               cacher={"memory_bytes_max": bound, "restore_ms": 300})
    until(lambda: mesh.command("status", check=False).returncode == 0, "the broker is up")
    cacher = mesh.processes["cacher"].pid
    instrumented = SLOWNESS != 1  # a sanitizer keeps what was freed for a while

    def stats():
        return own_stats(mesh)
    until(lambda: stats().get("bytes_max") == bound, "the cacher is up")
    with mesh_client(mesh) as client:
        for number in range(400):
            key, value = blob(number)
            body = {"service": "cache", "method": "put", "key": key,
                    "cost_us": 90000 if number % 4 == 0 else 1000}
            status, _, _ = client._submit(body, value, 20 * SLOWNESS)
            assert status == siftmesh.OK
        full = pss_bytes(cacher)
        assert full > 50 << 20
        say_level(client, "forced")
        until(lambda: stats()["bytes_max"] == bound // 2, "half of the bound")
        until(lambda: instrumented or pss_bytes(cacher) < full - (24 << 20), "memory went back")
        for number in range(0, 400, 4):  # what was dear to compute is there still
            status, _, _ = client._submit(
                {"service": "cache", "method": "peek", "key": blob(number)[0]}, b"", 20)
            assert status == siftmesh.OK
        say_level(client, "critical")
        until(lambda: stats()["bytes"] <= bound // 10, "a tenth")
        until(lambda: instrumented or pss_bytes(cacher) < full - (48 << 20), "and more went back")
        say_level(client, "normal")
        until(lambda: stats()["bytes_max"] == bound, "the whole bound again")
        say_level(client, "forced", ttl_ms=3000)
        until(lambda: stats()["bytes_max"] == bound // 2, "half again")
    until(lambda: stats()["bytes_max"] == bound, "silence ends it, too")


# ---- the durable store ----


def stored(mesh):
    return counter(mesh, "store_puts_total")


def test_results_in_the_store_outlive_everything_else(mesh, store):
    mesh.start(gateway=COLD, cacher={"store": store})
    bodies = [post(mesh, seed).body for seed in range(400, 404)]
    # No waiting: SIGTERM writes what is not written yet.
    mesh.processes["cacher"].signal(signal.SIGTERM)
    assert mesh.processes["cacher"].wait() == 0
    mesh.start_one("cacher")
    is_known(mesh)
    again = [post(mesh, seed) for seed in range(400, 404)]
    assert [a.body for a in again] == bodies
    assert [a.cache for a in again] == ["hit"] * 4
    # A put that met the old one leaving was given to the new one, which has it in memory.
    until(lambda: counter(mesh, "store_hits_total") >= 1 and counter(
        mesh, "store_hits_total") + counter(mesh, "memory_hits_total") >= 4, "all were kept")


def test_what_the_store_finds_redis_gets_and_answers_next(mesh, redis, tmp_path):
    options = {"redis": redis.url, "store": f"sqlite://{tmp_path}/results.db"}
    mesh.start(gateway=COLD, cacher=options)
    body = post(mesh, 410).body
    until(lambda: stored(mesh) == 1 and len(keys(redis)) == 1, "both have it")
    redis.command("flushall")
    restart(mesh)
    assert post(mesh, 410).body == body
    until(lambda: len(keys(redis)) == 1, "Redis has it again")
    restart(mesh)
    assert post(mesh, 410).cache == "hit"
    until(lambda: counter(mesh, "redis_hits_total") == 1, "and answered")
    assert counter(mesh, "store_hits_total") == 0


def test_a_warm_up_before_readiness_leaves_nothing_to_look_for(mesh, redis, tmp_path):
    url = f"sqlite://{tmp_path}/results.db"
    mesh.start(gateway=COLD, cacher={"store": url})
    for seed in range(420, 426):
        post(mesh, seed)
    until(lambda: stored(mesh) == 6, "all are stored")
    mesh.kill("cacher")
    mesh.start_one("cacher", redis=redis.url, warm_ms=20000, warm_before_ready=True)
    until(lambda: own_stats(mesh).get("entries") == 6, "it came up warm")
    until(lambda: len(keys(redis)) == 6, "Redis is warm, too")
    for seed in range(420, 426):
        assert post(mesh, seed).cache == "hit"
    until(lambda: own_stats(mesh)["memory_hits_total"] == 6, "all from memory")
    assert own_stats(mesh)["store_hits_total"] == own_stats(mesh)["redis_hits_total"] == 0
    with mesh_client(mesh) as client:
        status, _, payload = client._submit(
            {"service": "cache", "method": "warm", "key": bytes(32)}, b"", 20 * SLOWNESS)
        assert status == siftmesh.OK
        assert json.loads(payload)["ended"] == "all"


def told(mesh):
    return mesh.command("cache", "stats").stdout.decode()


@pytest.mark.parametrize("durable", [False, True])
def test_a_warm_up_fills_an_emptied_redis_from_memory_too(mesh, redis, tmp_path, durable):
    store = {"store": f"sqlite://{tmp_path}/results.db"} if durable else {}
    mesh.start(gateway=COLD, cacher={"redis": redis.url, **store})
    for seed in range(426, 430):
        post(mesh, seed)
    until(lambda: len(keys(redis)) == 4, "Redis has all")
    redis.command("flushall")
    out = mesh.command("cache", "warm").stdout.decode()
    until(lambda: len(keys(redis)) == 4, f"and again: {out}")
    until(lambda: re.search(r"^  memory +- +4 ", told(mesh), re.M), "the cacher is heard")
    assert re.search(r"^  redis +closed +- +- ", told(mesh), re.M), "what is not known is a dash"


@pytest.mark.parametrize("with_redis", [False, True])
def test_a_warm_up_from_a_store_that_is_down_says_so(mesh, redis, with_redis):
    more = {"redis": redis.url} if with_redis else {}
    mesh.start(services=["broker", "cacher"],
               cacher={"store": "postgres://nobody@127.0.0.1:1/none", **more})
    until(lambda: "cacher" in mesh.command("status").stdout.decode(), "the cacher is there")
    done = mesh.command("cache", "warm", check=False)
    assert done.returncode != 0 and b"store" in done.stderr, done
    assert b"not answer" in done.stderr, done


def test_a_purge_empties_every_tier(mesh, redis, store):
    mesh.start(gateway=COLD, cacher={"redis": redis.url, "store": store})
    tag = {"X-Cache-Tag": "album-7"}
    for seed in range(430, 434):
        mesh.post("/v1/features", picture(seed), headers=tag if seed < 432 else {})
    until(lambda: stored(mesh) == 4 and len(keys(redis)) == 4, "all are everywhere")
    out = mesh.command("cache", "purge", "--tag", "album-7", "--dry-run").stdout.decode()
    assert "2 results would be removed" in out
    out = mesh.command("cache", "purge", "--tag", "album-7").stdout.decode()
    assert "2 results removed" in out
    assert len(keys(redis)) == 2
    restart(mesh)
    assert [post(mesh, seed).cache for seed in range(430, 434)] == ["miss"] * 2 + ["hit"] * 2


def test_a_postgres_that_is_killed_costs_hits_alone_and_comes_back(mesh):
    with Postgres() as server:
        mesh.start(gateway=COLD, cacher={"store": server.url, "store_query_ms": 1000,
                                         "store_get_ms": 500, "store_connect_ms": 500})
        kept = post(mesh, 440)
        until(lambda: stored(mesh) == 1, "the result is stored")
        server.kill()
        for seed in range(441, 445):
            assert post(mesh, 440).body == kept.body
            assert post(mesh, seed).cache == "miss"
        until(lambda: counter(mesh, "store_breaker") == 2, "the breaker is open")
        server.start()
        until(lambda: stored(mesh) == 5, "what waited is written", 60)
        restart(mesh)
        assert [post(mesh, seed).cache for seed in range(440, 445)] == ["hit"] * 5


def test_the_mesh_that_up_starts_keeps_results_in_the_users_folder(mesh, tmp_path):
    import subprocess
    from tests.harness.mesh import BIN
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    environment.pop("SIFTMESH_CONFIG", None)

    def up():
        (mesh.runtime / "gateway.port").unlink(missing_ok=True)
        process = subprocess.Popen(
            [BIN / "siftmesh", "up", "--runtime-dir", mesh.runtime, "--listen", "127.0.0.1:0",
             "--monitor-listen", "127.0.0.1:0", "--slots", "1"], env=environment,
            stdout=subprocess.DEVNULL)
        until(lambda: mesh.get("/readyz").status == 200 and mesh.slots() > 0, "it is up", 40)
        return process
    for cache in ("miss", "hit"):
        process = up()
        try:
            assert post(mesh, 450).cache == cache
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60 * SLOWNESS) == 0
    folder = tmp_path / "data/siftmesh"
    assert (folder / "results.db").exists()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_purge_goes_on_where_its_cursor_says(mesh, redis):
    import msgpack
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    for seed in range(460, 464):
        post(mesh, seed)
    until(lambda: len(keys(redis)) == 4, "all are in Redis")
    with mesh_client(mesh) as client:
        def purge(**body):
            status, outcome, payload = client._submit(
                {"service": "cache", "method": "purge", "key": bytes(32)},
                msgpack.packb(body), 20 * SLOWNESS)
            return json.loads(payload) if status == siftmesh.OK else outcome["code"]
        whole = purge(dry_run=1)
        assert (whole["matched"], whole["removed"], whole["cursor"]) == (4, 0, "")
        assert whole["tiers"]["memory"] == whole["tiers"]["redis"] == {
            "matched": 4, "removed": 0}
        # Tiers before had 5, this one 3 until now: of 4 more, 2 are new.
        assert purge(dry_run=1, cursor="redis:5:3:")["matched"] == 2
        assert purge(dry_run=1, cursor="redis:9:0:")["matched"] == 0
        for bad in ("redis", "redis:5:3", "tape:0:0:", ":0:0:", "redis:x:0:", "redis:0:0:zz"):
            assert purge(dry_run=1, cursor=bad) in ("bad_request", "internal"), bad
        assert purge(prefix="XY") == "bad_request"
        assert purge(tag="a,b") == "bad_request"
        assert purge(tag="a", older_s=5) == "bad_request"
        assert len(keys(redis)) == 4
        # What is younger than a minute stays.
        assert purge(older_s=60)["removed"] == 0
        assert purge()["removed"] == 4
    assert not keys(redis)


def test_the_plan_says_what_redis_needs(mesh):
    mesh.start(gateway=COLD)
    for _ in range(3):
        for seed in range(470, 474):
            post(mesh, seed)
    with mesh_client(mesh) as client:
        status, _, payload = client._submit(
            {"service": "cache", "method": "plan", "key": bytes(32)}, b"", 20 * SLOWNESS)
    assert status == siftmesh.OK
    plan = json.loads(payload)
    assert plan["entry"]["results"] == 4
    sizes = [len(post(mesh, seed).body) for seed in range(470, 474)]
    assert plan["entry"]["mean_bytes"] == sum(sizes) / 4
    assert plan["entry"]["redis_bytes"] > plan["entry"]["mean_bytes"]
    assert plan["sample"]["keys"] == 4 and plan["sample"]["rate"] == 1
    assert abs(plan["curve"][-1]["hit_ratio"] - 8 / 12) < 0.01
    assert abs(plan["memory"]["hit_ratio"] - 8 / 12) < 0.1


def test_a_cacher_ends_in_time_while_redis_hangs(mesh, redis):
    mesh.start(gateway=COLD, cacher={"redis": redis.url, "redis_timeout_ms": 20000,
                                     "flush_ms": 300})
    post(mesh, 480)
    until(lambda: len(keys(redis)) == 1, "Redis is connected")
    stopped(redis)
    with mesh_client(mesh) as client:
        ask = {"service": "cache", "method": "get", "key": hashlib.sha256(b"x").digest()}
        client._send(siftmesh.SUBMIT, client._new_id(), ask, budget_ms=30000)
        until(lambda: own_stats(mesh).get("looks_now") == 1, "a look-up waits for it")
        cacher = mesh.processes["cacher"]
        cacher.signal(signal.SIGTERM)
        assert cacher.wait(10) == 0


def test_hits_of_the_store_go_on_while_redis_hangs(mesh, redis, tmp_path):
    mesh.start(gateway=COLD, cacher={"redis": redis.url,
                                     "store": f"sqlite://{tmp_path}/results.db"})
    bodies = [post(mesh, seed).body for seed in range(490, 498)]
    until(lambda: own_stats(mesh).get("store_puts_total") == 8, "all are stored")
    stopped(redis)
    restart(mesh)  # memory is empty, and Redis was never heard of
    again = [post(mesh, seed) for seed in range(490, 498)]
    assert [a.body for a in again] == bodies
    assert [a.cache for a in again] == ["hit"] * 8
    assert post(mesh, 498).cache == "miss"
    until(lambda: own_stats(mesh)["store_hits_total"] == 8, "the store had them")
    assert own_stats(mesh)["redis_hits_total"] == 0
