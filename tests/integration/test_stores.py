"""Stores as they are met: not there, damaged, or with somebody between."""

import contextlib
import socket
import threading

import pytest

from tests.harness.mesh import until
from tests.harness.stores import Redis
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
