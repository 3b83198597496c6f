"""Hostile peers on the ZMTP ports of a live mesh under light load.

After each attack: the broker is the same process, healthy clients were answered all the
while, and the counter that is meant for it has moved.
"""

import os
import resource
import socket
import struct
import sys
import threading
from pathlib import Path

import msgpack
import pytest
import zmq

from tests.harness.mesh import ROOT, SLOWNESS, Mesh, until
from tests.harness.scenes import encoded

sys.path.insert(0, str(ROOT / "client/python"))
from siftmesh import HEADER  # noqa: E402

(HELLO, WELCOME, SUBMIT, ACCEPT, FINAL, REJECT, CANCEL, PING, PONG, BYE, REGISTER, READY, JOB,
 START, PROGRESS, DONE, FAIL, ABORT) = range(1, 19)
OK, BAD_REQUEST, TOO_LARGE, TOO_MANY_PIXELS, FULL = 0, 2, 9, 11, 16
ENDS = ("front", "back", "events")
HUGE = 2**64 - 1
UNSENT = 24 << 20  # bytes on their way to one peer
HELD = 8 << 20     # and held behind them


class Load:
    """A healthy client, one small picture after the other, each new to the cache."""

    def __init__(self, mesh):
        self.mesh, self.answers, self.stopped = mesh, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stopped.wait(0.02):  # light: some tens a second
            picture = encoded(".png", seed=int.from_bytes(os.urandom(4), "little"), width=48,
                              height=40)
            answer = self.mesh.post("/v1/features", picture)
            self.answers.append((answer.status, answer.body[:300]))

    def goes_on(self, count=5):
        """Healthy requests are answered, and all of them were."""
        done = len(self.answers)
        until(lambda: len(self.answers) >= done + count, "healthy requests go on")
        assert {status for status, _ in self.answers} == {200}, self.answers

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


@pytest.fixture(scope="module")
def attacked_mesh(request, tmp_path_factory):
    mesh = Mesh(tmp_path_factory.mktemp("hostile"))
    # Peers of this file do not PING while a slow machine keeps them: 12 s are silence.
    mesh.start(extractor={"slots": 2},
               broker={"unsent_bytes": UNSENT, "held_bytes": HELD, "heartbeat_ms": 4000})
    yield mesh
    if request.session.testsfailed:
        print(mesh.logs())
    mesh.stop()


@pytest.fixture
def attacked(attacked_mesh):
    """A mesh under load; afterwards its broker is the same process and serves."""
    broker = attacked_mesh.processes["broker"]
    with Load(attacked_mesh) as load:
        attacked_mesh.load = load
        load.goes_on(2)
        yield attacked_mesh
        load.goes_on()
    assert broker.alive() and attacked_mesh.processes["broker"] is broker
    assert attacked_mesh.status()["epoch"] == attacked_mesh.__dict__.setdefault(
        "first_epoch", attacked_mesh.status()["epoch"])


def counter(mesh, name):
    """A counter of the broker; of a family, all together."""
    value = mesh.status()["counters"][f"{name}_total"]
    return sum(next(iter(value.values())).values()) if isinstance(value, dict) else value


class moves:
    """The block makes a counter move by `by` at least."""

    def __init__(self, mesh, name, by=1):
        self.mesh, self.name, self.by = mesh, name, by

    def __enter__(self):
        self.before = counter(self.mesh, self.name)

    def __exit__(self, kind, *_):
        if kind is None:
            until(lambda: counter(self.mesh, self.name) >= self.before + self.by,
                  f"{self.name} moves by {self.by}", 40)


# ---- bytes that are no ZMTP ------------------------------------------------------------

def connect(mesh, end):
    s = socket.socket(socket.AF_UNIX)
    s.connect(f"{mesh.runtime}/{end}.sock")  # waits while the backlog is full
    s.settimeout(20 * SLOWNESS)
    return s


def throw(mesh, end, data):
    """A connection with these bytes sent, or as many as the other side takes."""
    s = connect(mesh, end)
    try:
        s.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return s


def is_closed(s):
    """Whether the broker hung up; what it said before is read and dropped."""
    try:
        while s.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)


def command(name, body=b""):
    payload = bytes([len(name)]) + name + body
    return struct.pack("<BB", 4, len(payload)) + payload


def metadata(name, value):
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def ready(kind=b"DEALER", identity=b""):
    return command(b"READY", metadata(b"Socket-Type", kind) + metadata(b"Identity", identity))


def kind_for(end):
    return b"SUB" if end == "events" else b"DEALER"


GARBAGE = {
    "random": os.urandom(1 << 16), "zeros": bytes(1 << 16), "ones": b"\xff" * (1 << 16),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(501),
    "zmtp1": b"\x01\x00" + b"\x05\x00SMP1" * 2000, "zmtp1-huge": b"\xff" + b"\x80" * 9,
    "zmtp2": SIGNATURE + b"\x01\x05\x00\x00" + os.urandom(3000),
    "zmtp9": SIGNATURE + b"\x09\x09" + os.urandom(3000),
    "other-mechanism": SIGNATURE + b"\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32),
    "no-mechanism": SIGNATURE + b"\x03\x00" + b"\xff" * 20 + bytes(32),
    "no-command": GREETING + os.urandom(2000),
    "command-cut-short": GREETING + b"\x04\x05\x05READ",
    "metadata-lies": GREETING + command(b"READY", b"\xffSocket-Type" + b"\xff\xff\xff\xff"),
    "metadata-longer": GREETING + command(b"READY", metadata(b"Socket-Type", b"DEALER")[:-3]),
    "wrong-socket": GREETING + command(b"READY", metadata(b"Socket-Type", b"XPUB")),
    "ready-twice": GREETING + ready() + ready(),
    "error-command": GREETING + command(b"ERROR", b"\xff"),
    "subscribe-garbage": GREETING + ready(b"SUB") + b"\x00\x40" + b"\x01" * 64 + os.urandom(999),
    "ping-garbage": GREETING + ready() + command(b"PING", b"\xff" * 100) + command(b"PING"),
}


@pytest.mark.parametrize("end", ENDS)
def test_garbage_is_dropped(attacked, end):
    with moves(attacked, "connections", len(GARBAGE)), moves(attacked, "connections_ended",
                                                             len(GARBAGE)):
        for name in GARBAGE:
            throw(attacked, end, GARBAGE[name]).close()
    # Where it is wrong by its first bytes, the broker hangs up by itself.
    for name in ("no-mechanism", "other-mechanism", "no-command", "metadata-lies"):
        with throw(attacked, end, GARBAGE[name]) as s:
            assert is_closed(s), name


@pytest.mark.parametrize("end", ENDS)
def test_half_open_peers_are_cut_and_meanwhile_hold_up_nobody(attacked, end):
    kind, whole = kind_for(end), GREETING + ready(kind_for(end))
    stages = [b"", whole[:1], whole[:9], SIGNATURE, whole[:12], GREETING, whole[:-1]]
    assert kind in whole
    with moves(attacked, "handshakes_failed", 10 * len(stages)):
        held = [throw(attacked, end, stage) for stage in stages for _ in range(10)]
        attacked.load.goes_on()
        # One byte now and then is no handshake either: the time is a total.
        for s in held:
            assert is_closed(s)
    for s in held:
        s.close()


def test_many_connections_at_once_hold_up_nobody(attacked):
    with moves(attacked, "connections", 400), moves(attacked, "connections_ended", 400):
        held = [throw(attacked, end, GREETING) for end in ("front", "back") for _ in range(200)]
        attacked.load.goes_on()
        for s in held:
            s.close()


@pytest.mark.parametrize("end", ENDS)
def test_connections_beyond_the_descriptors_are_refused_and_hold_up_nobody(attacked, end):
    """libzmq itself ends the process where accept() of an ipc socket says EMFILE."""
    broker = attacked.processes["broker"].pid
    before = resource.prlimit(broker, resource.RLIMIT_NOFILE)
    in_use = len(os.listdir(f"/proc/{broker}/fd"))
    with moves(attacked, "connections_refused", 50):
        resource.prlimit(broker, resource.RLIMIT_NOFILE, (in_use + 100, before[1]))
        try:
            held = [connect(attacked, end) for _ in range(200)]
            until(lambda: len(os.listdir(f"/proc/{broker}/fd")) > in_use + 50, "they are many")
            attacked.load.goes_on()
            for s in held:
                s.close()
        finally:
            resource.prlimit(broker, resource.RLIMIT_NOFILE, before)


def test_a_service_raises_its_limit_of_descriptors(attacked):
    for process in attacked.processes.values():
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, 1 << 20), process.name


# 8-byte lengths: of frames, of commands, with more to come, just above the bound.
HUGE_FRAMES = {
    "2^63": b"\x02" + struct.pack(">Q", 2**63), "2^64-1": b"\x02" + struct.pack(">Q", HUGE),
    "2^63-1": b"\x02" + struct.pack(">Q", 2**63 - 1),
    "more": b"\x03" + struct.pack(">Q", 2**40),
    "command": b"\x06" + struct.pack(">Q", 2**63),
    "above": b"\x02" + struct.pack(">Q", (640 << 20) + 1),
    "second frame": b"\x01\x01x" + b"\x02" + struct.pack(">Q", 2**63),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", sorted(HUGE_FRAMES))
def test_huge_lengths_end_the_connection(attacked, end, name):
    with moves(attacked, "connections_ended"):
        with throw(attacked, end, GREETING + ready(kind_for(end)) + HUGE_FRAMES[name]) as s:
            assert is_closed(s)


def resident(mesh):
    text = Path(f"/proc/{mesh.processes['broker'].pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_announced_bytes_that_do_not_come_cost_no_memory(attacked):
    before = resident(attacked)
    largest = b"\x02" + struct.pack(">Q", 640 << 20)
    held = [throw(attacked, "front", GREETING + ready() + largest + b"x") for _ in range(50)]
    attacked.load.goes_on()
    assert resident(attacked) < before + (64 << 20)
    with moves(attacked, "connections_ended", 50):
        for s in held:
            s.close()


# ---- ZMTP that is no SMP/1 -------------------------------------------------------------

class Peer:
    """A peer that says what it likes."""

    def __init__(self, mesh, end, identity=None, keeps=1000):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, keeps)  # messages that ZeroMQ reads ahead
        if identity is not None:
            self.socket.setsockopt(zmq.ROUTING_ID, identity)
        self.socket.connect(f"ipc://{mesh.runtime}/{end}.sock")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, verb, body=None, payload=None, request=bytes(16), status=0, attempt=0,
            cost=0, epoch=0, budget_ms=0, priority=1):
        header = HEADER.pack(b"SMP1", 1, verb, 0, status, priority, attempt, budget_ms, request,
                             cost, bytes(16), epoch)
        packed = body if isinstance(body, bytes) else msgpack.packb(body or {})
        self.socket.send_multipart([header, packed] + ([] if payload is None else [payload]))

    def hear(self, *verbs):
        """The next message with one of these verbs: verb, status, request, attempt, body."""
        while True:
            until(lambda: self.socket.poll(0), f"a message with verb {verbs}")
            frames = self.socket.recv_multipart()
            _, _, verb, _, status, _, attempt, _, request, *_ = HEADER.unpack(frames[0])
            if verb in verbs:
                body = msgpack.unpackb(frames[1]) if frames[1] else {}
                return verb, status, request, attempt, body

    def silent(self, *verbs):
        """None of these verbs has come before the answer to a PING, which is the last."""
        self.say(PING)
        return self.hear(PONG, *verbs)[0] == PONG

    def hello(self):
        self.say(HELLO, {"role": "client", "name": "hostile"})
        self.hear(WELCOME)
        return self

    def register(self, service, slots=1, slots_max=None, **more):
        self.say(REGISTER, {"service": service, "name": "hostile", "slots": slots,
                            "slots_max": slots if slots_max is None else slots_max, **more})
        self.hear(WELCOME)
        return self

    def ready(self, credit=1, slots=1):
        self.say(READY, {"credit": credit, "slots": slots})
        return self


def number(n):
    return n.to_bytes(16, "little")


def test_messages_of_many_parts_are_counted(attacked):
    for end in ("front", "back"):
        with Peer(attacked, end) as peer, moves(attacked, "messages_bad", 3):
            peer.socket.send_multipart([b"x"] * 100)
            peer.socket.send_multipart([b""] * 100000)
            peer.socket.send_multipart([HEADER.pack(b"SMP1", 1, HELLO, 0, 0, 1, 0, 0, bytes(16),
                                                    0, bytes(16), 0)] + [os.urandom(100)] * 5000)
            attacked.load.goes_on()


def bodies_that_lie():
    """msgpack whose lengths are not true, and values where others belong."""
    field = b"\x81\xa7service"
    return [
        b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff", b"\x8f", b"\xdd\xff\xff\xff\xff",
        field + b"\xdb\xff\xff\xff\xff", field + b"\xda\xff\xffab", field + b"\xd9\xffab",
        field + b"\xc6\xff\xff\xff\xff", field + b"\xc9\xff\xff\xff\xff\x01",
        field + b"\xa7extract" + b"trailing", field + b"\xa7extr\0ct", field + b"\xcf" + b"\xff" * 8,
        field + b"\xd3" + b"\xff" * 8, field + b"\xc0", field + b"\x91" * 3000,
        b"\x82\xa7service\xa7extract\xa7service\xa5cache", b"\x81\xc0\xc0", b"\xc1",
        b"\x91" * 4096, b"\x81" * 4096, msgpack.packb({"service": "x" * 4000}),
        msgpack.packb({"service": "extract", "key": bytes(33)}), os.urandom(4096), bytes(5000),
    ]


def test_bodies_that_lie_about_lengths_are_refused(attacked):
    lies = bodies_that_lie()
    with Peer(attacked, "front").hello() as peer, moves(attacked, "messages_bad", len(lies)):
        for i, lie in enumerate(lies):
            peer.say(SUBMIT, lie, b"payload", request=number(i + 1))
            verb, status, request, *_ = peer.hear(REJECT, ACCEPT, FINAL)
            assert (verb, status, request) == (REJECT, BAD_REQUEST, number(i + 1)), lie[:40]
    lies.remove(msgpack.packb({"service": "extract", "key": bytes(33)}))  # REGISTER has no key
    with Peer(attacked, "back") as peer, moves(attacked, "messages_bad", len(lies) + 4):
        for lie in lies:
            peer.say(REGISTER, lie)
        peer.register("lies", 1)
        for lie in (b"\x81\xa6credit\xff", b"\x81\xa6credit\xa1x", b"\x8f\xa6credit\x01", b"\xc1"):
            peer.say(READY, lie)


def test_a_hundred_bad_messages_end_a_session(attacked):
    with Peer(attacked, "front").hello() as peer, moves(attacked, "messages_bad", 100):
        for _ in range(100):
            peer.say(SUBMIT, b"\xc1")
        peer.hear(BYE)
        peer.say(SUBMIT, {"service": "extract"}, request=number(7))
        peer.hear(BYE)  # a stranger now


def test_costs_that_lie_do_not_hold_up_others(attacked):
    with Peer(attacked, "front").hello() as peer:
        for i, cost in enumerate((HUGE, 2**63, 2**63 - 1, 2**40)):
            peer.say(SUBMIT, {"service": "extract", "method": "features"}, b"x",
                     request=number(100 + i), cost=cost)
            verb, status, *_ = peer.hear(REJECT, FINAL)
            assert (verb, status) == (REJECT, TOO_MANY_PIXELS)
        attacked.load.goes_on()
        # No payload, no parameters, a method that is none, no time, no such priority.
        peer.say(SUBMIT, {"service": "extract"}, request=number(200))
        assert peer.hear(FINAL, REJECT)[1] != OK
        peer.say(SUBMIT, {"service": "extract", "method": "\u0001"}, b"x", request=number(201))
        assert peer.hear(FINAL, REJECT)[1] != OK
        peer.say(SUBMIT, {"service": "cache", "method": "put", "key": bytes(32),
                          "lease": HUGE, "cost_us": HUGE}, b"no blob", request=number(202))
        assert peer.hear(FINAL, REJECT)[1] != OK
        peer.say(SUBMIT, {"service": "extract"}, request=number(203), priority=255)
        assert peer.hear(FINAL, REJECT)[:2] == (REJECT, BAD_REQUEST)
        peer.say(SUBMIT, {"service": "extract"}, request=bytes(16))
        assert peer.hear(FINAL, REJECT)[:2] == (REJECT, BAD_REQUEST)


# ---- peers that speak SMP/1 and lie ----------------------------------------------------

def test_replayed_frames_end_nothing_twice(attacked):
    """All that a worker and a client said, once more, and once more after the end."""
    with Peer(attacked, "back").register("replay", 1) as worker, \
            Peer(attacked, "front").hello() as client:
        worker.ready()
        client.say(SUBMIT, {"service": "replay"}, b"in", request=number(1))
        client.hear(ACCEPT)
        client.say(SUBMIT, {"service": "replay"}, b"in", request=number(1))
        assert client.hear(REJECT, FINAL)[:2] == (REJECT, BAD_REQUEST)
        _, _, job, attempt, _ = worker.hear(JOB)
        for _ in range(3):
            worker.say(START, {"slot": 1}, request=job, attempt=attempt)
        with moves(attacked, "frames_late", 5):
            for _ in range(6):
                worker.say(DONE, {}, b"out", request=job, attempt=attempt)
        assert client.hear(FINAL)[1:3] == (OK, number(1))
        assert client.silent(FINAL, REJECT)
        with moves(attacked, "frames_late", 3):
            for verb in (START, PROGRESS, FAIL):
                worker.say(verb, {}, request=job, attempt=attempt)
        for _ in range(3):
            client.say(CANCEL, request=number(1))
        assert client.silent(FINAL, REJECT)


def test_forged_answers_end_nobody_elses_job(attacked):
    with Peer(attacked, "back").register("forge", 1) as worker, \
            Peer(attacked, "back").register("forge", 1) as forger, \
            Peer(attacked, "front").hello() as client, \
            Peer(attacked, "front").hello() as other, \
            Peer(attacked, "back") as stranger:
        worker.ready()
        client.say(SUBMIT, {"service": "forge"}, b"in", request=number(9))
        client.hear(ACCEPT)
        _, _, job, attempt, _ = worker.hear(JOB)
        worker.say(START, {"slot": 1}, request=job, attempt=attempt)
        # Another worker of the service, with the very id of the job.
        with moves(attacked, "frames_forged", 4):
            for verb in (START, PROGRESS, DONE, FAIL):
                forger.say(verb, {"blame": "worker"}, b"forged", request=job, attempt=attempt)
        # Its own worker, about attempts that are not the current one.
        with moves(attacked, "frames_late"):
            worker.say(DONE, {}, b"attempt 0", request=job, attempt=0)
        for wrong in (attempt + 1, 255):
            worker.say(DONE, {}, b"wrong attempt", request=job, attempt=wrong)
        # Ids beside it, and of another epoch.
        low, epoch = struct.unpack("<QQ", job)
        near = [(low + d, epoch) for d in (1, -1, 16384)] + [(low, epoch ^ 1), (0, epoch),
                                                            (2**64 - 1, epoch), (low, 0)]
        for pair in near:
            forger.say(DONE, {}, b"forged", request=struct.pack("<QQ", *pair), attempt=attempt)
        # Somebody without a session, somebody else's client, both with the right ids.
        with moves(attacked, "strangers"):
            stranger.say(DONE, {}, b"forged", request=job, attempt=attempt)
            stranger.hear(BYE)
        other.say(CANCEL, request=number(9))
        other.say(CANCEL, request=job)
        other.say(DONE, {}, b"forged", request=job, attempt=attempt)  # no verb of a client
        forger.say(CANCEL, request=number(9))
        for peer in (other, forger):
            assert peer.silent(FINAL)
        assert client.silent(FINAL, REJECT)
        worker.say(DONE, {}, b"true", request=job, attempt=attempt)
        assert client.hear(FINAL)[1:3] == (OK, number(9))


def test_frames_with_another_epoch_change_nothing(attacked):
    with Peer(attacked, "front").hello() as client:
        for epoch in (1, 2**52, HUGE):
            client.say(PING, epoch=epoch)
            client.hear(PONG)
            client.say(CANCEL, request=number(1), epoch=epoch)
        client.say(SUBMIT, {"service": "extract", "method": "features"}, b"no picture",
                   request=number(1), epoch=12345)
        assert client.hear(FINAL, REJECT)[1] != OK


def test_another_one_with_a_workers_routing_id_gets_none_of_its_jobs(attacked):
    name = b"worker-of-identity"
    with Peer(attacked, "back", name).register("identity", 1) as worker, \
            Peer(attacked, "back", name) as double, Peer(attacked, "front").hello() as client:
        worker.ready()
        for i in range(5):
            double.say(REGISTER, {"service": "identity", "slots": 9, "slots_max": 9})
            double.say(READY, {"credit": 9, "slots": 9})
            double.say(BYE)
            client.say(SUBMIT, {"service": "identity"}, b"in", request=number(30 + i))
            _, _, job, attempt, _ = worker.hear(JOB)
            worker.say(DONE, {}, b"true", request=job, attempt=attempt)
            assert client.hear(FINAL)[1:3] == (OK, number(30 + i))
            worker.ready()
        while double.socket.poll(0):
            assert HEADER.unpack(double.socket.recv_multipart()[0])[2] != JOB


def test_a_second_register_does_not_change_the_service(attacked):
    with Peer(attacked, "back").register("first", 1) as worker:
        worker.register("extract", 900)
        worker.ready(900, 900)
        attacked.load.goes_on()
        status = attacked.status()
        assert status["services"]["extract"]["slots_max"] < 900
        assert worker.silent(JOB)


def test_registers_of_nothing_are_refused(attacked):
    refused = [{}, {"service": ""}, {"service": "no name!"}, {"service": "\xff\xff"},
               {"service": "../../etc"}]
    with moves(attacked, "sessions_refused", len(refused)):
        for body in refused:
            with Peer(attacked, "back") as peer:
                peer.say(REGISTER, body, request=number(1))
                assert peer.hear(REJECT, WELCOME)[:2] == (REJECT, BAD_REQUEST), body


def test_absurd_credit_takes_no_more_than_its_place(attacked):
    """A worker that claims endless slots and credit, and then begins nothing."""
    with Peer(attacked, "back") as worker, moves(attacked, "start_timeouts"):
        worker.register("extract", HUGE, HUGE, credit_bytes=HUGE)
        for _ in range(5):
            worker.ready(HUGE, HUGE)
            attacked.load.goes_on()
        status = attacked.status()["services"]["extract"]
        assert status["slots_max"] < 2000 and status["target"] < 2000
        assert status["running"] + status["aborting"] <= status["target"]
        worker.say(BYE)
    until(lambda: attacked.status()["services"]["extract"]["workers"] == 1, "it is gone")


def test_a_worker_that_never_reads_keeps_nobodys_work(attacked):
    """It says READY for ever, and reads nothing: what it was given is done elsewhere."""
    with Peer(attacked, "back", keeps=1) as worker, moves(attacked, "start_timeouts"):
        worker.say(REGISTER, {"service": "extract", "slots": 4, "slots_max": 4})
        stop = threading.Event()

        def lie():
            while not stop.wait(0.02):
                worker.say(READY, {"credit": 4, "slots": 4})
        liar = threading.Thread(target=lie)
        liar.start()
        try:
            attacked.load.goes_on(15)
        finally:
            stop.set()
            liar.join()
    until(lambda: attacked.status()["services"]["extract"]["workers"] == 1, "it is gone", 40)


class Maker(threading.Thread):
    """A worker that makes 1 MiB of each job, one at a time."""

    def __init__(self, mesh):
        super().__init__()
        self.mesh, self.made, self.over = mesh, 0, threading.Event()

    def run(self):
        with Peer(self.mesh, "back").register("blob", 1000, 0) as worker:
            worker.ready(1, 0)
            while not self.over.is_set():
                if not worker.socket.poll(500):
                    worker.say(PING)
                    continue
                verb, _, job, attempt, _ = worker.hear(*range(1, 27))
                if verb == JOB:
                    worker.say(DONE, {}, bytes(1 << 20), request=job, attempt=attempt)
                    worker.ready(1, 0)
                    self.made += 1
            worker.say(BYE)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def test_a_client_that_reads_slowly_gets_all_and_others_overtake_it(attacked):
    before, lost = resident(attacked), counter(attacked, "finals_lost")
    with Maker(attacked) as maker, Peer(attacked, "front", keeps=1).hello() as client:
        with moves(attacked, "finals_held"):
            for i in range(150):
                client.say(SUBMIT, {"service": "blob"}, b"in", request=number(i + 1))
        for i in range(10):  # of the same lane, behind many that wait
            client.say(PING)
            with Peer(attacked, "front").hello() as other:
                other.say(SUBMIT, {"service": "blob"}, b"in", request=number(1))
                assert other.hear(FINAL)[1] == OK
        attacked.load.goes_on()
        assert maker.made < 100
        # A sanitizer keeps what was freed for a while.
        assert SLOWNESS != 1 or resident(attacked) < before + 2 * UNSENT
        ends = set()
        while len(ends) < 150:
            client.say(PING)
            _, status, request, _, body = client.hear(FINAL)
            assert status == OK, body
            ends.add(request)
    assert counter(attacked, "finals_lost") == lost
    until(lambda: SLOWNESS != 1 or resident(attacked) < before + UNSENT // 2,
          "its bytes are given back")


def test_what_is_too_much_even_to_be_held_ends_at_once(attacked):
    """The worker has 120 jobs before the first result: 24 MiB are on their way, 8 held."""
    with Peer(attacked, "back").register("blob", 1000, 0) as worker, \
            Peer(attacked, "front", keeps=1).hello() as client, \
            moves(attacked, "finals_lost", 10):
        worker.ready(120, 0)
        for i in range(120):
            client.say(SUBMIT, {"service": "blob"}, b"in", request=number(i + 1))
        jobs = [worker.hear(JOB) for _ in range(120)]
        for _, _, job, attempt, _ in jobs:
            worker.say(DONE, {}, bytes(1 << 20), request=job, attempt=attempt)
        statuses = []
        for _ in range(120):
            client.say(PING)
            worker.say(PING)
            _, status, _, _, body = client.hear(FINAL)
            statuses.append(status)
            if status == FULL:
                assert body["actual"] > body["limit"] == HELD and body["retry_after_ms"] > 0
    assert set(statuses) == {OK, FULL}


def test_statistics_that_lie_are_shown_to_nobody(attacked):
    with Peer(attacked, "front").hello() as peer:
        for payload in (b"\xff" * 16384, b"[" * 16384, b'{"a":' * 3000, b"{}" + bytes(100),
                        os.urandom(16384), b"x" * (1 << 20), b'{"jobs": 1e999}', b'"text"'):
            peer.say(PING, payload=payload)
            peer.hear(PONG)
            assert attacked.status()["uptime_s"] >= 0
        page = attacked.get("/metrics", service="monitor")
        assert page.status == 200
