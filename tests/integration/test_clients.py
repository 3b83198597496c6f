"""Handles of clients that live longer than their session: idle, asleep, while the broker
is restarted, behind a connection that died.

The Python module is held in this process; libsiftmesh by `siftmesh extract`, which is idle
while it waits for a photo that comes through a pipe.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.harness.mesh import BIN, ROOT, SLOWNESS, free_port, until
from tests.harness.scenes import encoded

sys.path.insert(0, str(ROOT / "client/python"))
import siftmesh  # noqa: E402

BEATS = {"heartbeat_ms": 200}  # a session is over after 0.6 s of silence
SERVICES = ["broker", "cacher", "extractor"]
SLOW = {"sift": "vlfeat"}      # long enough for a test to see the job running


class PythonHandle:
    """siftmesh.Mesh; a call runs in a thread, so that the test can go on."""

    def __init__(self, mesh, folder, front=None):
        self.mesh = siftmesh.Mesh(front or f"ipc://{mesh.runtime}/front.sock")
        self.name = f"python:{os.getpid()}"
        self.features = []
        self.mesh.features(encoded(".png", seed=700, width=80, height=60))

    def ask(self, picture):
        self.thread = threading.Thread(
            target=lambda: self.features.append(self.mesh.features(picture, **SLOW)))
        self.thread.start()

    def answered(self):
        self.thread.join(60 * SLOWNESS)
        return [len(found.keypoints) for found in self.features]

    def close(self):
        self.mesh.close()


class CHandle:
    """`siftmesh extract` with one connection: a first photo, then one through a pipe."""

    def __init__(self, mesh, folder, front=None):
        first, self.pipe = folder / "first.png", folder / "pipe.png"
        first.write_bytes(encoded(".png", seed=700, width=80, height=60))
        os.mkfifo(self.pipe)
        self.out = folder / "out"
        self.process = subprocess.Popen(
            [BIN / "siftmesh", "extract", "--jobs", "1", "--sift", "vlfeat", "--format",
             "lowe", "-o", self.out, "--zmq", front or f"ipc://{mesh.runtime}/front.sock",
             first, self.pipe], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.name = f"client:{self.process.pid}"
        until(lambda: (self.out / "first.png.sift").exists() or self.process.poll(),
              "the first photo has its features")

    def ask(self, picture):
        self.pipe.write_bytes(picture)

    def answered(self):
        said = self.process.communicate(timeout=60 * SLOWNESS)[0]
        assert self.process.returncode == 0, said.decode()
        return [int((self.out / "pipe.png.sift").read_text().split()[0])]

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=[PythonHandle, CHandle])
def handle(request, mesh, tmp_path):
    """A handle that has been used once, and then is idle."""
    mesh.start(services=SERVICES, broker=BEATS)
    until(lambda: mesh.command("status", check=False).returncode == 0 and mesh.slots() > 0,
          "a slot is ready")
    held = request.param(mesh, tmp_path)
    yield held
    held.close()


def has_session(mesh, handle):
    return handle.name in [client["name"] for client in mesh.status()["clients"]]


def jobs_running(mesh):
    return mesh.status()["services"]["extract"]["running"]


def broker_again(mesh):
    mesh.start_one("broker")
    until(lambda: mesh.command("status", check=False).returncode == 0 and mesh.slots() > 0,
          "the slots are known to the new broker", 40)


PICTURE = encoded(".png", seed=701, width=900, height=700)
LARGE = encoded(".png", seed=703, width=2000, height=1500)  # longer than a session's silence


def test_a_handle_that_was_idle_costs_the_next_call_nothing_but_time(mesh, handle):
    until(lambda: not has_session(mesh, handle), "its session is over")
    handle.ask(PICTURE)
    assert handle.answered()[0] > 100


def test_a_broker_restarted_while_the_handle_is_idle_costs_time_alone(mesh, handle):
    mesh.kill("broker")
    handle.ask(PICTURE)  # no broker at all
    broker_again(mesh)
    assert handle.answered()[0] > 100


def test_a_request_in_flight_survives_the_brokers_death(mesh, handle):
    handle.ask(PICTURE)
    until(lambda: jobs_running(mesh) == 1, "the job runs")
    mesh.kill("broker")
    broker_again(mesh)
    assert handle.answered()[0] > 100


def test_a_draining_broker_makes_a_call_wait_for_its_successor(mesh, handle):
    other = threading.Thread(target=lambda: mesh.command(
        "extract", "--h", 40, "--template", 21, "--search", 35, "--timeout", 100, "-",
        input=encoded(".jpg", seed=702, width=1600, height=1200)))
    other.start()
    until(lambda: jobs_running(mesh) == 1, "a job keeps the broker", 40)
    old = mesh.processes["broker"]
    old.signal(signal.SIGTERM)
    handle.ask(PICTURE)
    old.wait()
    broker_again(mesh)
    assert handle.answered()[0] > 100
    other.join()


@pytest.mark.parametrize("handle", [CHandle], indirect=True)  # a process of its own
def test_a_client_that_slept_in_the_middle_of_a_request_goes_on(mesh, handle):
    handle.ask(LARGE)
    until(lambda: jobs_running(mesh) == 1, "the job runs")
    handle.process.send_signal(signal.SIGSTOP)
    until(lambda: not has_session(mesh, handle), "its session is over")
    handle.process.send_signal(signal.SIGCONT)
    assert handle.answered()[0] > 100


class Relay:
    """TCP to TCP; freeze() leaves every connection of now open, and dead."""

    def __init__(self, target):
        self.target, self.pairs, self.frozen = target, {}, set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended.is_set():
            live = [s for s in self.pairs if s not in self.frozen]
            for one in select.select([self.listener, *live], [], [], 0.05)[0]:
                if one is self.listener:
                    near, far = one.accept()[0], socket.create_connection(
                        ("127.0.0.1", self.target))
                    self.pairs.update({near: far, far: near})
                    continue
                data = one.recv(1 << 16)
                other = self.pairs[one]
                if data:
                    other.sendall(data)
                else:
                    self.frozen |= {one, other}

    def freeze(self):
        self.frozen |= set(self.pairs)

    def close(self):
        self.ended.set()
        self.thread.join()
        for one in [self.listener, *self.pairs]:
            one.close()


def test_a_connection_that_died_unseen_is_made_anew(mesh, tmp_path):
    port = free_port()
    mesh.start(services=SERVICES, broker={**BEATS, "front": f"tcp://127.0.0.1:{port}"})
    tell = ["status", "--zmq", f"tcp://127.0.0.1:{port}"]
    until(lambda: b"slot 1" in mesh.command(*tell, check=False).stdout, "a slot is ready")
    relay = Relay(port)
    handles = [kind(mesh, tmp_path, f"tcp://127.0.0.1:{relay.port}")
               for kind in (PythonHandle, CHandle)]
    try:
        relay.freeze()
        for held in handles:
            held.ask(PICTURE)
        for held in handles:
            assert held.answered()[0] > 100
    finally:
        for held in handles:
            held.close()
        relay.close()
