"""CURVE: a mesh over tcp, who gets in, who does not, and what is refused to begin with."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
import zmq

from tests.harness.mesh import BIN, ROOT, until
from tests.harness.scenes import encoded

sys.path.insert(0, str(ROOT / "client/python"))
import siftmesh  # noqa: E402

HELLO, WELCOME = siftmesh.HELLO, siftmesh.WELCOME


def own_address():
    """An address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.99", 9))  # sends nothing
            address = s.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


def free_ports(address, count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind((address, 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def keygen(folder, name):
    subprocess.run([BIN / "siftmesh", "keygen", folder / name], check=True, capture_output=True)
    return folder / f"{name}.key"


class Keys:
    """Endpoints on an address, a key pair for the broker and one for everybody allowed."""

    def __init__(self, folder, address):
        self.folder, self.address = folder, address
        self.front, self.back, self.events = (
            f"tcp://{address}:{port}" for port in free_ports(address, 3))
        self.broker_key, self.key = keygen(folder, "broker"), keygen(folder, "services")
        self.stranger_key = keygen(folder, "stranger")
        self.server, self.other_server = folder / "broker.pub", folder / "stranger.pub"
        self.allowed = folder / "allowed"
        self.allow("services")

    def allow(self, *names):
        new = self.folder / "allowed.new"
        new.write_text("# who may connect\n\n"
                       + "".join((self.folder / f"{n}.pub").read_text() for n in names))
        new.rename(self.allowed)

    @property
    def broker_options(self):
        return {"curve_key": self.broker_key, "curve_allowed": self.allowed}

    def environment(self):
        names = {"front": self.front, "back": self.back, "events": self.events,
                 "curve_key": self.key, "curve_server": self.server}
        return {f"SIFTMESH_MESH_{name.upper()}": str(value) for name, value in names.items()}


@pytest.fixture
def keys(tmp_path, monkeypatch):
    made = Keys(tmp_path, "127.0.0.1")
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


def hello(address, key=None, server=None, kind=zmq.DEALER):
    """A socket that said HELLO as soon as it can, with those keys or in the clear."""
    s = zmq.Context.instance().socket(kind)
    s.setsockopt(zmq.LINGER, 0)
    if key is not None:
        s.curve_publickey, s.curve_secretkey, s.curve_serverkey = siftmesh.read_keys(key, server)
    s.connect(address)
    if kind == zmq.DEALER:
        s.send_multipart([siftmesh.HEADER.pack(b"SMP1", 1, HELLO, 0, 0, 1, 0, 0, bytes(16), 0,
                                               bytes(16), 0), b""])
    return s


def welcomed(s):
    return until(lambda: s.poll(0), "an answer") and s.recv_multipart()[0][5] == WELCOME


def failed(mesh):
    """Handshakes that failed, by why."""
    counters = mesh.status()["counters"]
    return counters["handshakes_failed_total"]["why"]


@pytest.mark.parametrize("where", ["127.0.0.1", "own"])
def test_a_mesh_over_tcp_works_end_to_end(mesh, tmp_path, monkeypatch, where):
    address = own_address() if where == "own" else where
    if address is None:
        pytest.skip("this machine has no address but loopback")
    keys = Keys(tmp_path, address)
    for name, value in keys.environment().items():
        monkeypatch.setenv(name, value)
    mesh.start(broker=keys.broker_options)
    picture = encoded(".png", seed=500)
    assert mesh.post("/v1/features", picture).status == 200
    # libsiftmesh, by the command, and the Python module.
    (tmp_path / "p.png").write_bytes(picture)
    out = mesh.command("extract", "--zmq", keys.front, "--curve-key", keys.key,
                       "--curve-server", keys.server, tmp_path / "p.png").stdout
    with siftmesh.Mesh(keys.front, curve_key=keys.key, curve_server=keys.server) as python:
        features = python.features(picture)
    assert features.cached and len(features.keypoints) == json.loads(out)["count"]
    # The socket of events, too.
    events = hello(keys.events, keys.key, keys.server, zmq.SUB)
    events.setsockopt(zmq.SUBSCRIBE, b"")
    until(lambda: mesh.command("scale", 1) and mesh.command("scale", 2) and events.poll(0),
          "an event")
    assert events.recv_multipart()[0] == b"slots"
    events.close()


@pytest.mark.parametrize("end", ["front", "back", "events"])
def test_who_is_refused_at_each_endpoint(mesh, keys, end):
    mesh.start(services=["broker"], broker=keys.broker_options)
    address = getattr(keys, end)
    kind = zmq.SUB if end == "events" else zmq.DEALER
    refused = {"auth": [], "protocol": []}
    for why, key, server in (("auth", keys.stranger_key, keys.server),
                             ("protocol", keys.key, keys.other_server),
                             ("protocol", None, None)):
        before = failed(mesh).get(why, 0)
        s = hello(address, key, server, kind)
        refused[why].append(s)
        until(lambda: failed(mesh).get(why, 0) > before, f"{why} is counted")
    if end == "front":
        good = hello(address, keys.key, keys.server)
        assert welcomed(good)
        good.close()
    status = mesh.status()
    assert len(status["clients"]) <= 2 and not status["workers"]
    for s in refused["auth"] + refused["protocol"]:
        assert s.poll(0) == 0
        s.close()
    text = mesh.processes["broker"].text()
    assert "key refused" in text
    assert keys.stranger_key.with_suffix(".pub").read_text().split()[0] in text


def test_a_service_that_is_allowed_later_gets_in_by_itself(mesh, keys):
    keys.allow()  # services: not yet
    status = {}

    def workers():
        done = mesh.command("status", "--json", "--curve-key", keys.stranger_key, check=False)
        status.update(json.loads(done.stdout) if done.returncode == 0 else {})
        return [w["service"] for w in status.get("workers", [])]
    mesh.start(services=["broker", "cacher"], broker=keys.broker_options)
    keys.allow("stranger")
    until(lambda: workers() == [] and status and failed_of(status) > 0,
          "the cacher was refused and counted")
    keys.allow("stranger", "services")
    until(lambda: workers() == ["cache"], "the cacher got in")
    # Taken from the list: whoever connects anew is refused.
    keys.allow("services")
    assert mesh.command("status", "--curve-key", keys.stranger_key,
                        check=False).returncode == 69
    mesh.command("status")


def failed_of(status, why="auth"):
    return status["counters"]["handshakes_failed_total"]["why"].get(why, 0)


def test_a_broken_list_leaves_the_old_one_in_force(mesh, keys):
    mesh.start(services=["broker"], broker=keys.broker_options)
    mesh.command("status")
    keys.allowed.write_text("rubbish\n")
    mesh.command("status")
    assert "allowed:1: must begin with a public key" in mesh.processes["broker"].text()
    keys.allowed.unlink()
    mesh.command("status")
    keys.allow("stranger")
    assert mesh.command("status", check=False).returncode == 69
    mesh.command("status", "--curve-key", keys.stranger_key)


def test_a_list_that_is_being_rewritten_leaves_the_old_one_in_force(mesh, keys):
    mesh.start(services=["broker"], broker=keys.broker_options)
    stranger = keys.stranger_key.with_suffix(".pub").read_text()
    log = mesh.processes["broker"].text
    mesh.command("status")
    for part in ("", stranger[:60], stranger[:-1]):  # emptied; cut; but for its last line's end
        keys.allowed.write_text(part)
        mesh.command("status")
    assert "its last line has no end" in log()
    # Lines that are whole, but are they all? The clock of the writer's host tells nothing.
    keys.allowed.write_text(stranger)
    later = time.time() + 3600
    os.utime(keys.allowed, (later, later))
    mesh.command("status")
    assert "rename a new one to it instead" in log()
    until(lambda: mesh.command("status", check=False).returncode == 69, "the new one holds")
    mesh.command("status", "--curve-key", keys.stranger_key)


def test_a_list_that_others_may_write_is_refused(mesh, keys):
    mesh.start(services=["broker"], broker=keys.broker_options)
    mesh.command("status")
    keys.allow("stranger")
    keys.allowed.chmod(0o666)
    mesh.command("status")  # the old one holds
    assert "allowed: others may write to it" in mesh.processes["broker"].text()
    assert mesh.command("status", "--curve-key", keys.stranger_key,
                        check=False).returncode == 69


def test_a_client_without_the_right_keys_is_told(mesh, keys, tmp_path):
    mesh.start(services=["broker"], broker=keys.broker_options)
    mesh.command("status")
    done = mesh.command("status", "--curve-key", keys.stranger_key, check=False)
    assert done.returncode == 69 and b"is our key in the broker's list" in done.stderr
    done = mesh.command("status", "--curve-server", keys.other_server, check=False)
    assert done.returncode == 69 and b"no answer" in done.stderr
    done = mesh.command("status", "--curve-key", tmp_path / "none.key", check=False)
    assert done.returncode == 69 and b"none.key: No such file" in done.stderr
    for own, server in ((keys.stranger_key, keys.server), (keys.key, keys.other_server)):
        with pytest.raises(TimeoutError):
            siftmesh.Mesh(keys.front, timeout=0.5, curve_key=own, curve_server=server)
    with pytest.raises(PermissionError, match="needs curve_key"):
        siftmesh.Mesh("tcp://192.0.2.1:5555")
    with pytest.raises(ValueError, match="no file of siftmesh keygen"):
        siftmesh.Mesh(keys.front, curve_key=keys.key, curve_server=keys.broker_key)


def run(name, *arguments, runtime):
    """A service that ends by itself: its exit code and what it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIFTMESH_MESH_")}
    done = subprocess.run([BIN / f"siftmesh-{name}", "--runtime-dir", runtime,
                           *map(str, arguments)],
                          capture_output=True, timeout=60, env=environment)
    return done.returncode, done.stderr.decode()


def test_what_is_missing_is_said_and_nothing_is_bound(tmp_path):
    keys = Keys(tmp_path, "127.0.0.1")
    runtime = tmp_path / "run"
    anywhere = ("--front", "tcp://0.0.0.0:0")
    code, said = run("broker", *anywhere, runtime=runtime)
    assert code == 77 and "tcp beyond loopback needs CURVE: curve_key" in said
    code, said = run("broker", *anywhere, "--curve-key", keys.broker_key, runtime=runtime)
    assert code == 77 and "needs curve_allowed" in said
    code, said = run("cacher", "--back", "tcp://192.0.2.1:5555", runtime=runtime)
    assert code == 77 and "tcp beyond loopback needs CURVE: curve_key" in said
    code, said = run("cacher", "--back", "tcp://192.0.2.1:5555", "--curve-key", keys.key,
                     runtime=runtime)
    assert code == 77 and "needs curve_server" in said
    keys.key.chmod(0o640)
    code, said = run("cacher", "--curve-key", keys.key, runtime=runtime)
    assert code == 77 and "others may read this secret" in said
    with pytest.raises(PermissionError, match="others may read"):
        siftmesh.Mesh(keys.front, curve_key=keys.key, curve_server=keys.server)
    code, said = run("cacher", "--curve-key", keys.server, runtime=runtime)
    assert code != 0 and "broker.pub" in said
    code, said = run("broker", *anywhere, "--curve-key", keys.broker_key, "--curve-allowed",
                     tmp_path / "absent", runtime=runtime)
    assert code != 0 and "absent: No such file" in said


def test_keygen_makes_a_pair_and_never_overwrites_one(tmp_path):
    def keygen_again():
        return subprocess.run([BIN / "siftmesh", "keygen", tmp_path / "k"], capture_output=True)
    os.umask(os.umask(0))  # whatever it is
    done = keygen_again()
    assert done.returncode == 0
    secret, public = tmp_path / "k.key", tmp_path / "k.pub"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    key = public.read_text().split()[0]
    assert len(key) == 40 and key.encode() in done.stdout
    lines = dict(line.split() for line in secret.read_text().splitlines()
                 if not line.startswith("# "))
    assert lines["public"] == key
    assert zmq.curve_public(lines["secret"].encode()).decode() == key
    assert lines["secret"].encode() not in done.stdout + done.stderr
    before = secret.read_bytes(), public.read_bytes()
    for absent in (None, secret, public):
        if absent is not None:
            absent.rename(tmp_path / "aside")
        done = keygen_again()
        assert done.returncode == 73 and b"not overwritten" in done.stderr
        if absent is not None:
            assert not absent.exists()
            (tmp_path / "aside").rename(absent)
    assert (secret.read_bytes(), public.read_bytes()) == before


def test_older_and_other_protocols_get_past_no_keys(mesh, keys):
    """ZMTP 1.0 and 2.0 have no keys to show; NULL and PLAIN are other mechanisms."""
    mesh.start(services=["broker"], broker=keys.broker_options)
    mesh.command("status")
    address, port = keys.front.removeprefix("tcp://").rsplit(":", 1)
    signature = b"\xff" + bytes(8) + b"\x7f"
    frame = siftmesh.HEADER.pack(b"SMP1", 1, HELLO, 0, 0, 1, 0, 0, bytes(16), 0, bytes(16), 0)
    ready = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    attacks = [
        b"\x01\0" + bytes([len(frame) + 1, 1]) + frame + b"\x01\0",  # 1.0: id, HELLO, body
        signature + b"\x01\x05\0\0" + b"\x01" + bytes([len(frame)]) + frame + b"\0\0",
        signature + b"\x03\0" + b"NULL".ljust(20, b"\0") + bytes(32) + ready,
        signature + b"\x03\0" + b"PLAIN".ljust(20, b"\0") + bytes(32) + ready,
        signature + b"\x03\0" + b"CURVE".ljust(20, b"\0") + bytes(32) + ready,
        signature + b"\x03\0" + b"CURVE".ljust(20, b"\0") + bytes(32) + b"\x04\xc8\x05HELLO"
        + os.urandom(194),
        os.urandom(4000),
    ]
    for attack in attacks:
        with socket.create_connection((address, int(port)), timeout=30) as s:
            s.sendall(attack)
            try:
                while s.recv(4096):  # its greeting, then the end
                    pass
            except ConnectionResetError:
                pass
    status = mesh.status()
    assert len(status["clients"]) <= 2  # commands
    assert status["counters"]["connections_ended_total"] >= len(attacks)
    assert failed_of(status, "protocol") >= 3


def test_handshakes_do_not_hold_up_a_stop(mesh, keys):
    mesh.start(services=["broker"], broker=keys.broker_options)
    mesh.command("status")
    strangers = [hello(keys.front, keys.stranger_key, keys.server) for _ in range(50)]
    broker = mesh.processes["broker"]
    broker.signal(signal.SIGTERM)
    assert broker.wait() == 0
    for s in strangers:
        s.close()
