"""What docs/OPERATIONS.md tells operators to do, done."""

import json
import os
import re
import subprocess

from tests.harness.mesh import BIN, ROOT, free_port, until
from tests.harness.scenes import encoded
from tests.harness.stores import Postgres, Redis
from tests.harness.up import Up

PAGE = (ROOT / "docs/OPERATIONS.md").read_text()


def picture(seed):
    return encoded(".png", width=64, height=64, seed=seed)


def test_the_redis_user_of_the_page_may_do_all_that_is_needed(mesh):
    line = re.search(r"^ACL SETUSER (siftmesh on >secret .*)\n```", PAGE, re.M).group(1)
    with Redis() as redis:
        assert redis.command("ACL", "SETUSER", *line.split()) == "OK"
        redis.command("SET", "another:application", "1")
        mesh.start(gateway={"hot_bytes_max": 0}, cacher={
            "memory_bytes_max": 0, "redis": redis.url.replace("://", "://siftmesh:secret@")})
        tags = {"X-Cache-Tag": "documented"}
        key = mesh.post("/v1/features", picture(1), headers=tags).headers["etag"].strip('"')[:64]
        mesh.post("/v1/features", picture(2))
        until(lambda: redis.command("KEYS", "siftmesh:feat:*").count("feat") == 2, "both kept")
        assert mesh.get("/v1/features/" + key).headers["x-cache"] == "hit"
        for words, left in ((["--tag", "documented"], 1), (["--older-than", "1h"], 1),
                            (["--all", "--dry-run"], 1), (["--all"], 0)):
            mesh.command("cache", "purge", *words)
            assert redis.command("KEYS", "siftmesh:feat:*").count("feat") == left, words
        assert redis.command("GET", "another:application") == "1"
        assert "NOPERM" not in mesh.logs() and "refuses" not in mesh.logs()


def test_redis_starts_with_the_settings_of_the_page(tmp_path):
    block = re.search(r"In `redis.conf`:\n\n```\n(.*?)```", PAGE, re.S).group(1)
    conf = tmp_path / "redis.conf"
    conf.write_text(block)
    with Redis(conf=conf) as redis:
        for line in block.splitlines():
            if not line.startswith("#"):
                name, value = line.split()
                value = {"4gb": str(4 << 30)}.get(value, value)
                assert redis.command("CONFIG", "GET", name).split() == [name, value]


def test_the_commands_of_the_page_restore_a_backup_of_postgres(mesh, tmp_path):
    backup, restore = re.findall(r"```\n((?:pg_dump|psql) -d siftmesh .*?)```", PAGE, re.S)
    with Postgres() as server:
        server.query("CREATE DATABASE siftmesh")
        env = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(server.port),
               "PGUSER": "siftmesh", "PATH": f"{server.bin}:{os.environ['PATH']}"}

        def count():
            return server.query("SELECT count(*) FROM siftmesh.results", database="siftmesh")

        def run(commands):
            subprocess.run(["sh", "-ec", commands], check=True, cwd=tmp_path, env=env, timeout=60)

        url = f"postgres://siftmesh@127.0.0.1:{server.port}/siftmesh"
        mesh.start(cacher={"store": url})
        body = mesh.post("/v1/features", picture(4)).body
        until(lambda: count() == "1", "stored")
        run(backup)
        mesh.post("/v1/features", picture(5))
        until(lambda: count() == "2", "stored")
        mesh.kill("cacher")
        mesh.kill("gateway")
        run(restore)
        assert count() == "1"
        mesh.start_one("cacher")
        mesh.start_one("gateway")
        mesh.wait_ready()
        again = mesh.post("/v1/features", picture(4))
        assert again.headers["x-cache"] == "hit" and again.body == body


def test_a_postgres_user_needs_no_more_than_a_database_of_its_own(mesh):
    sql = re.search(r"`(CREATE DATABASE siftmesh OWNER siftmesh)`", PAGE).group(1)
    with Postgres() as server:
        server.query("CREATE ROLE app LOGIN")
        server.query(sql.replace("OWNER siftmesh", "OWNER app"))
        url = f"postgres://app@127.0.0.1:{server.port}/siftmesh"
        mesh.start(cacher={"store": url})
        body = mesh.post("/v1/features", picture(3)).body
        until(lambda: mesh.counter("monitor", "siftmesh_cacher_store_puts_total") == 1, "stored")
        mesh.kill("cacher")
        mesh.kill("gateway")
        mesh.start_one("cacher")
        mesh.start_one("gateway")
        mesh.wait_ready()
        again = mesh.post("/v1/features", picture(3))
        assert again.headers["x-cache"] == "hit" and again.body == body


def test_a_second_host_is_added_as_the_page_says(tmp_path):
    section = PAGE[PAGE.index("## Across hosts"):]
    for address in ("10.0.0.1:5555", "10.0.0.1:5556", "10.0.0.1:5557"):
        section = section.replace(address, f"127.0.0.1:{free_port()}")
    section = section.replace("/etc/siftmesh", str(tmp_path))
    keys, broker, host2 = re.findall(r"```(?:ini)?\n(.*?)```", section, re.S)[:3]
    subprocess.run(["sh", "-ec", keys], check=True, timeout=60, stdout=subprocess.DEVNULL,
                   env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
    (tmp_path / "broker.ini").write_text(broker)
    (tmp_path / "host2.ini").write_text(host2)

    def extractors(up):
        done = subprocess.run([BIN / "siftmesh", "status", "--json", "--config",
                               tmp_path / "broker.ini"], env=up.environment,
                              capture_output=True, text=True, timeout=30)
        workers = json.loads(done.stdout)["workers"] if done.returncode == 0 else []
        return sum(worker["service"] == "extract" for worker in workers)

    with Up(tmp_path, "--config", tmp_path / "broker.ini", "--slots", "1") as up:
        up.wait_ready()
        with open(tmp_path / "host2.log", "wb") as log:
            other = subprocess.Popen(
                [BIN / "siftmesh-extractor", "--config", tmp_path / "host2.ini", "--slots", "1",
                 "--runtime-dir", up.short / "host2"], stdout=log, stderr=log)
        try:
            until(lambda: extractors(up) == 2, "the broker has both supervisors")
        finally:
            other.terminate()
            other.wait(60)
