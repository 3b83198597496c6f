"""What docs/OPERATIONS.md tells operators to do, done."""

import re

from tests.harness.mesh import ROOT, until
from tests.harness.scenes import encoded
from tests.harness.stores import Postgres, Redis

PAGE = (ROOT / "docs/OPERATIONS.md").read_text()


def picture(seed):
    return encoded(".png", width=64, height=64, seed=seed)


def test_the_redis_user_of_the_page_may_do_all_that_is_needed(mesh):
    line = re.search(r"ACL SETUSER (siftmesh on >secret .*?)```", PAGE, re.S).group(1)
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
