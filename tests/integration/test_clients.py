"""Handles of clients that live longer than their session: idle, asleep, while the broker
is restarted, behind a connection that died.

The Python module is held in this process; libsiftmesh by `siftmesh extract`, which is idle
while it waits for a photo that comes through a pipe.
"""

import os
import re
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
LARGE = encoded(".png", seed=703, width=1400, height=1000)  # longer than a session's silence


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


# ---- whom a client trusts --------------------------------------------------------------

NOBODY = 65534


def refused_by_python(folder):
    with pytest.raises(PermissionError) as error:
        siftmesh.Mesh(f"ipc://{folder}/front.sock", timeout=1)
    return str(error.value)


def refused_by_command(folder):
    """By the C library, too, as the command asks it."""
    done = subprocess.run([BIN / "siftmesh", "status", "--runtime-dir", folder],
                          capture_output=True, text=True)
    assert done.returncode == os.EX_UNAVAILABLE
    return done.stderr


@pytest.mark.parametrize("refused", [refused_by_python, refused_by_command])
def test_a_folder_that_others_can_enter_is_refused(shared_mesh, refused):
    os.chmod(shared_mesh.runtime, 0o755)
    try:
        said = refused(shared_mesh.runtime)
        assert f"{shared_mesh.runtime} has mode 0755, must have 0700" in said
    finally:
        os.chmod(shared_mesh.runtime, 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give a folder away")
@pytest.mark.parametrize("refused", [refused_by_python, refused_by_command])
def test_a_folder_that_another_user_made_first_is_refused(tmp_path, refused):
    tmp_path.chmod(0o1777)  # as /tmp, where anybody may make the default folder
    folder = tmp_path / "siftmesh-0"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    said = refused(folder)
    assert f"{folder} belongs to user {NOBODY}, not to this one (0)" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give a folder away")
def test_an_open_handle_sends_nothing_to_a_folder_that_was_given_away(mesh, tmp_path):
    mesh.start(services=["broker"])
    until(lambda: mesh.command("status", check=False).returncode == 0, "the broker is up")
    with siftmesh.Mesh(f"ipc://{mesh.runtime}/front.sock") as client:
        assert client.stats()["jobs"] == 0
        os.chown(mesh.runtime, NOBODY, NOBODY)
        try:
            with pytest.raises(PermissionError):
                client.stats()
        finally:
            os.chown(mesh.runtime, 0, 0)
        assert client.stats()["jobs"] == 0


def test_root_finds_the_folder_of_the_unit(shared_mesh, tmp_path):
    """/run/siftmesh, of another user; in a namespace of its own, where that is allowed."""
    script = (f"mount -t tmpfs -o mode=755 none /run && mkdir -m 700 /run/siftmesh && "
              f"mount --bind {shared_mesh.runtime} /run/siftmesh && "
              f"chown {NOBODY} /run/siftmesh && "
              f"{BIN}/siftmesh status; code=$?; chown 0 /run/siftmesh; exit $code")
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("no namespace for mounts here")
    environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True,
                          text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.match(r"mesh +ipc:///run/siftmesh/front.sock\n", done.stdout)


FORKED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import siftmesh
mesh, picture = siftmesh.Mesh(sys.argv[2]), open(sys.argv[3], "rb").read()
before = mesh.features(picture).descriptors.tobytes()
pid = os.fork()
if pid == 0:
    try:
        mesh.features(picture, timeout=600)
        os._exit(1)
    except RuntimeError:
        mesh.close()
        with siftmesh.Mesh(sys.argv[2]) as own:
            os._exit(0 if own.features(picture).descriptors.tobytes() == before else 2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert mesh.features(picture).descriptors.tobytes() == before
mesh.close()
"""


def test_after_fork_a_child_is_told_to_open_a_handle_of_its_own(shared_mesh, tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", FORKED, ROOT / "client/python",
         f"ipc://{shared_mesh.runtime}/front.sock", tmp_path / "a.png"],
        capture_output=True, text=True, timeout=120 * SLOWNESS)
    assert done.returncode == 0, done.stderr
