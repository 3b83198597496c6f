"""The mesh on a day when things happen: every service ends once, the disk is full, and
people go on asking: for old and new pictures, in a hurry or not, from handles that idle."""

import http.client
import itertools
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.harness.lived import growth, scrape, usage
from tests.harness.mesh import ROOT, SERVICES, SLOWNESS, until
from tests.harness.scenes import encoded
from tests.harness.up import Up

sys.path.insert(0, str(ROOT / "client/python"))
import siftmesh  # noqa: E402

OLD_PICTURES = 6
DISK_KIB = 1536        # full after some twenty results
RSS_GROWTH_KB = 6144   # of a service, once it has been there for a while
DESCRIPTORS_GROWTH = 4
RECONNECT_S = 0.05
CONFIG = """\
[gateway]
hot_bytes_max = 2097152
[cacher]
memory_bytes_max = 4194304
store_queue_bytes_max = 1048576
store = sqlite://{disk}/results.db
"""  # caches and queues that are full soon: what grows after that is none of theirs
KILLS = [("cacher", signal.SIGKILL), ("extractor", signal.SIGTERM), ("broker", signal.SIGKILL),
         ("monitor", signal.SIGKILL), ("gateway", signal.SIGKILL), ("broker", signal.SIGTERM),
         ("extractor", signal.SIGKILL), ("cacher", signal.SIGTERM)]


class Asker(threading.Thread):
    """Asks in its own way until it is told to end, over one connection while that holds.

    `cuts` are requests whose connection ended without an answer, with their times: only a
    gateway that was killed may do that. Everything else has to be answered 200."""

    def __init__(self, port, pause_s, ends, requests):
        super().__init__(daemon=True)
        self.port, self.pause_s, self.ends, self.requests = port, pause_s, ends, requests
        self.answers, self.wrong, self.cuts = 0, [], []
        self.connection = None

    def ask(self, path, body, headers):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                         timeout=90 * SLOWNESS)
        self.connection.request("POST", path, body=body, headers=headers)
        answer = self.connection.getresponse()
        said = answer.read()
        self.answers += 1
        if answer.status != 200:
            self.wrong.append((answer.status, said[:200]))

    def run(self):
        for path, body, headers in self.requests:
            if self.ends.is_set():
                return
            try:
                self.ask(path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                self.cuts.append((time.monotonic(), repr(error)))
                self.connection = None
                self.ends.wait(RECONNECT_S)
            self.ends.wait(self.pause_s)


def old_pictures():
    pictures = [encoded(".jpg", width=320, height=240, seed=n) for n in range(OLD_PICTURES)]
    return (("/v1/features", picture, {}) for picture in itertools.cycle(pictures))


def new_pictures(first, headers):
    return (("/v1/features", encoded(".png", width=320, height=240, seed=n), headers)
            for n in itertools.count(first))


def denoised_pictures():
    return (("/v1/denoise", encoded(".jpg", width=200, height=150, seed=n), {})
            for n in itertools.count(5000))


def full_disk(folder):
    """The words before a program's that give it alone a small disk at `folder`."""
    if os.geteuid() != 0:
        pytest.skip("a small disk can be mounted by root only")
    return ["unshare", "--mount", "sh", "-c",
            f'mount -t tmpfs -o size={DISK_KIB}k tmpfs "{folder}" && exec "$@"', "sh"]


class Handles:
    """Two handles of the mesh itself: one is used now and then, one only at both ends."""

    def __init__(self, up):
        front = f"ipc://{up.runtime}/front.sock"
        self.picture = encoded(".jpg", width=320, height=240, seed=1)
        self.busy, self.idle = siftmesh.Mesh(front), siftmesh.Mesh(front)
        self.count = self.use(self.idle)

    def use(self, mesh):
        return len(mesh.features(self.picture, timeout=60 * SLOWNESS).keypoints)

    def check(self, mesh):
        assert self.use(mesh) == self.count > 0

    def close(self):
        self.busy.close()
        self.idle.close()


def end_one(up, name, number, ends):
    """Ends a service; returns when its successor is ready, and from when to when it was away."""
    began, pid = time.monotonic(), up.pids[name]
    os.kill(pid, number)
    until(lambda: up.pids[name] != pid, f"{name} is started again", 60)
    return name, began, time.monotonic()


def live(up, seconds, handles, ports):
    """Scrapes every second, uses a handle, ends a service at equal times.
    Returns when which service was away, and samples since the last of them."""
    began, away, samples = time.monotonic(), [], {}
    step = 0.6 * seconds / len(KILLS)
    while time.monotonic() < began + seconds:
        if len(away) < len(KILLS) and time.monotonic() > began + (len(away) + 0.5) * step:
            away.append(end_one(up, *KILLS[len(away)], began + seconds))
            handles.check(handles.busy)
        else:
            for port in ports:
                scrape(port)
        for name, pid in up.pids.items():
            if len(away) == len(KILLS):
                samples.setdefault(name, []).append(usage(pid))
        time.sleep(1)
    assert len(away) == len(KILLS)
    return away, samples


def check_ends(askers, away):
    """Each request had one end, and only a killed gateway left some without an answer."""
    gateway = [(began, until) for name, began, until in away if name == "gateway"]
    for asker in askers:
        assert asker.wrong == []
        assert asker.answers > 5
        for when, why in asker.cuts:
            assert any(a <= when <= b + 1 for a, b in gateway), (why, when, away)


def test_a_day_with_every_service_ended_and_a_full_disk(tmp_path, lived_seconds):
    disk = tmp_path / ".local/share/siftmesh"
    disk.mkdir(parents=True)
    ends = threading.Event()
    config = tmp_path / "siftmesh.conf"
    config.write_text(CONFIG.format(disk=disk))
    with Up(tmp_path, "--config", config, prefix=full_disk(disk)) as up:
        up.wait_ready()
        ports = [up.port("gateway"), up.port("monitor")]
        handles = Handles(up)
        askers = [Asker(ports[0], 0.1, ends, old_pictures()),
                  Asker(ports[0], 0.2, ends, new_pictures(100, {})),
                  Asker(ports[0], 0.2, ends, new_pictures(9000, {"X-Siftmesh-Priority": "batch"})),
                  Asker(ports[0], 0.7, ends, denoised_pictures())]
        for asker in askers:
            asker.start()
        away, samples = live(up, lived_seconds, handles, ports)
        ends.set()
        for asker in askers:
            asker.join(120 * SLOWNESS)
            assert not asker.is_alive()
        handles.check(handles.idle)
        handles.close()
        check_ends(askers, away)
        died = re.findall(r"siftmesh up: (\w+) died", up.text())
        assert sorted(died) == sorted(name for name, _ in KILLS), "nothing ended by itself"
        assert up.status()["services"], "the mesh tells of itself"
        grown = {name: growth(s) for name, s in samples.items() if len(s) > 10}
        assert all(kb < RSS_GROWTH_KB or SLOWNESS > 1 for kb, _ in grown.values()), grown
        assert all(fds <= DESCRIPTORS_GROWTH for _, fds in grown.values()), grown
        pids = up.pids
        assert sorted(pids) == sorted(SERVICES)
        print("growth in KiB and descriptors:", grown,
              "answers:", [asker.answers for asker in askers],
              "cut with the gateway:", sum(len(asker.cuts) for asker in askers))
    assert up.popen.returncode == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()),
          "no service stays")
