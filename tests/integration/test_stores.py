"""Stores as they are met: not there, damaged, or with somebody between."""

import contextlib
import os
import re
import socket
import subprocess
import threading

import pytest

from tests.harness.mesh import BIN, ROOT, SLOWNESS, free_port, until
from tests.harness.stores import PgBouncer, Postgres, Redis
from tests.integration.test_cache_tiers import COLD, counter, keys, post, stored


def said(mesh, words):
    return [line for line in mesh.processes["cacher"].text().splitlines() if words in line]


def no_folder(path):
    path.parent.rmdir()
    return path.parent.mkdir


def damaged(path):
    path.write_bytes(b"SQLite format 3" + bytes(5000))
    return path.unlink


def foreign(path):
    path.write_text("a letter, not a database\n" * 500)
    return path.unlink


@pytest.mark.parametrize("harm", [no_folder, damaged, foreign])
def test_a_store_that_cannot_be_opened_is_done_without_until_it_can(mesh, tmp_path, harm):
    path = tmp_path / "folder/results.db"
    path.parent.mkdir()
    mend = harm(path)
    mesh.start(gateway=COLD, cacher={"store": f"sqlite://{path}", "store_breaker_ms_max": 200})
    assert [post(mesh, 700).cache for _ in range(3)] == ["miss", "hit", "hit"]
    until(lambda: counter(mesh, "store_breaker") == 2, "the breaker is open")
    assert len(said(mesh, "store cannot be used")) == 1
    mend()
    until(lambda: stored(mesh) == 1, "what waited is stored")
    assert len(said(mesh, "store cannot be used")) == len(said(mesh, "store answers again")) == 1
    assert not said(mesh, "store is by-passed")


def test_up_starts_with_a_damaged_file(mesh, tmp_path):
    path = tmp_path / "siftmesh/results.db"
    path.parent.mkdir(mode=0o700)
    foreign(path)
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    environment.pop("SIFTMESH_CONFIG", None)
    process = subprocess.Popen(
        [BIN / "siftmesh", "up", "--runtime-dir", mesh.runtime, "--listen", "127.0.0.1:0",
         "--monitor-listen", "127.0.0.1:0", "--slots", "1"], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: mesh.get("/readyz").status == 200 and mesh.slots() > 0, "it is up", 40)
        assert [post(mesh, 710).cache for _ in range(2)] == ["miss", "hit"]
    finally:
        process.terminate()
        assert process.wait(60 * SLOWNESS) == 0
    assert path.read_text().startswith("a letter")


# ---- Redis ----

class Name:
    """An address behind which the server changes, as behind a name or a virtual address:
    what was connected stays with the old one."""

    def __init__(self, port):
        self.port_behind, self.pairs = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port_behind))
                self.pairs += [near, far]
                for source, sink in ((near, far), (far, near)):
                    self.threads.append(threading.Thread(target=self.pump, args=(source, sink)))
                    self.threads[-1].start()

    @staticmethod
    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for one in [self.listener, *self.pairs]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self.threads:
            thread.join()


def test_a_redis_that_became_a_replica_is_left_for_its_successor(mesh):
    with Redis() as old, Redis() as new:
        name = Name(old.port)
        try:
            mesh.start(gateway=COLD, cacher={"redis": f"redis://127.0.0.1:{name.port}/0"})
            post(mesh, 720)
            until(lambda: len(keys(old)) == 1, "the old one is written to")
            old.command("replicaof", "127.0.0.1", new.port)
            until(lambda: "role:slave" in old.command("info", "replication"), "it is a replica")
            name.port_behind = new.port
            for seed in range(721, 727):
                post(mesh, seed)
            until(lambda: len(keys(new)) == 6, "the new one has all that came since")
            until(lambda: counter(mesh, "redis_puts_total") == 7, "what was written is counted")
            assert counter(mesh, "redis_puts_lost_total") == 0
            assert len(said(mesh, "redis is left for its successor")) == 1
        finally:
            mesh.processes["cacher"].kill()
            name.close()


def test_puts_that_redis_refuses_are_not_counted_as_written(mesh):
    with Redis("--min-replicas-to-write", "1") as server:
        mesh.start(gateway=COLD, cacher={"redis": server.url})
        for seed in range(730, 733):
            post(mesh, seed)
        until(lambda: counter(mesh, "redis_puts_lost_total") == 3, "all are refused")
        assert counter(mesh, "redis_puts_total") == 0
        assert keys(server) == set()


def make_certificates(folder):
    """ca.pem, and cert.pem with key.pem of `localhost`, signed by it."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-days", "2", "-subj", "/CN=a test's")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "csr.pem",
            "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "cert.pem", "-days", "2", "-extfile", "names")


class TlsRedis(Redis):
    def __init__(self, folder):
        super().__init__()
        self.plain = free_port()  # for redis-cli
        self.options = ["--tls-port", str(self.port), "--tls-auth-clients", "no",
                        *(word for name in ("cert", "key", "ca-cert") for word in
                          (f"--tls-{name}-file", str(folder / f"{name.replace('ca-cert', 'ca')}.pem")))]

    def start(self):
        self.launch(["redis-server", "--port", str(self.plain), "--bind", "127.0.0.1", "--save", "",
                     "--dir", str(self.folder), *self.options])

    def command(self, *words):
        done = subprocess.run(["redis-cli", "-p", str(self.plain), *map(str, words)],
                              capture_output=True, text=True, timeout=30)
        return done.stdout.strip()


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def recipe(folder, server, host="localhost"):
    """stunnel as docs/OPERATIONS.md says, with these addresses: its port."""
    page = (ROOT / "docs/OPERATIONS.md").read_text()
    text = re.search(r"```ini\n(; /etc/stunnel.*?)```", page, re.S)[1]
    port = free_port()
    for old, new in (("127.0.0.1:6380", f"127.0.0.1:{port}"),
                     ("redis.example.net:6379", f"127.0.0.1:{server.port}"),
                     ("redis.example.net", host),
                     ("/etc/ssl/certs/ca-certificates.crt", f"{folder}/ca.pem")):
        assert old in text
        text = text.replace(old, new)
    (folder / "stunnel.conf").write_text(text)
    with open(folder / "stunnel.log", "ab") as log:
        process = subprocess.Popen(["stunnel", str(folder / "stunnel.conf")], stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL)
    try:
        until(lambda: accepts(port), "stunnel listens")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def test_the_recipe_for_tls_to_redis_works(mesh, tmp_path):
    make_certificates(tmp_path)
    with TlsRedis(tmp_path) as server:
        with recipe(tmp_path, server) as port:
            mesh.start(gateway=COLD, cacher={"redis": f"redis://127.0.0.1:{port}/0"})
            post(mesh, 760)
            until(lambda: len(keys(server)) == 1, "Redis has it")
            mesh.kill("cacher")
            mesh.start_one("cacher")
            until(lambda: post(mesh, 760).cache == "hit" and counter(mesh, "redis_hits_total") > 0,
                  "a hit by the tunnel")
        with recipe(tmp_path, server, host="other.example") as port:  # not who it is said to be
            mesh.kill("cacher")
            mesh.start_one("cacher", redis=f"redis://127.0.0.1:{port}/0")
            until(lambda: counter(mesh, "redis_breaker") == 2, "nothing is said to it")
            post(mesh, 761)
        assert len(keys(server)) == 1


# ---- PostgreSQL ----

def rows(server):
    """None before there is a table."""
    try:
        return int(server.query("select count(*) from siftmesh.results"))
    except RuntimeError:
        return None


def test_a_pooler_in_transaction_mode_may_be_before_postgres(mesh):
    with Postgres() as server, PgBouncer(server) as pooler:
        options = {"store": pooler.url, "store_retention_every_s": 1, "memory_bytes_max": 1 << 20}
        mesh.start(gateway=COLD, cacher=options)
        mesh.start_one("cacher")  # a second one: their sessions mix
        until(lambda: len([w for w in mesh.status()["workers"] if w["service"] == "cache"]) == 2,
              "two cachers")
        for seed in range(740, 752):
            assert post(mesh, seed).cache == "miss"
        until(lambda: rows(server) == 12, "all are kept")
        mesh.command("cache", "purge", "--key", "0" * 64)
        for name in ("cacher", "gateway"):
            mesh.processes[name].signal(15)
            mesh.processes[name].wait()
        for one in mesh.replaced:
            one.kill()
        mesh.start_one("cacher")
        mesh.start_one("gateway")
        mesh.wait_ready()
        assert {post(mesh, seed).cache for seed in range(740, 752)} == {"hit"}
        assert not said(mesh, "cannot be used") and not said(mesh, "store takes no results")
        assert len(said(mesh, "a pooler is before the store")) == 1
        # Nothing stays in sessions that others use next.
        until(lambda: server.query("select count(*) from pg_locks where locktype = 'advisory'")
              == "0", "no lock is left")
        # Retention works there, too.
        mesh.kill("cacher")
        mesh.start_one("cacher", store_retention_bytes=1)
        until(lambda: rows(server) == 0, "all is too much")
        assert {pooler.query("show statement_timeout") for _ in range(6)} == {"0"}
        assert pooler.logins() < 120
