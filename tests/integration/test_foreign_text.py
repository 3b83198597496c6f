"""Text of peers, of files' names and of answers, wherever it is shown: no byte of it steers
a terminal, and none that is not UTF-8 hides what stands beside it.
"""

import http.server
import json
import os
import subprocess
import sys
import threading

import msgpack
import pytest
import zmq

from tests.harness.mesh import BIN, ROOT, SLOWNESS, Mesh, until

sys.path.insert(0, str(ROOT / "client/python"))
from siftmesh import HEADER  # noqa: E402

HELLO, WELCOME, REJECT, PING, REGISTER, SCALE, SCALED, MODE = 1, 2, 6, 8, 11, 21, 22, 23
EVIL = "\x1b]0;owned\x07\x9b31m\u202e\udcff\udc80"  # the last two: bytes that are no UTF-8
FORBIDDEN = {*map(chr, range(0x20)), *map(chr, range(0x7f, 0xa0)), "\u202e"} - {"\n"}


def packed(body):
    return msgpack.packb(body, unicode_errors="surrogateescape")


class Peer:
    """A peer of the broker by ZeroMQ alone, who says of itself what it likes."""

    def __init__(self, mesh, end, name):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.ROUTING_ID, name)
        self.socket.connect(f"ipc://{mesh.runtime}/{end}.sock")
        self.count = 0

    def say(self, verb, body, payload=None):
        self.count += 1
        header = HEADER.pack(b"SMP1", 1, verb, 0, 0, 1, 0, 0, self.count.to_bytes(16, "big"),
                             0, bytes(16), 0)
        self.socket.send_multipart([header, packed(body), *([payload] if payload else [])])

    def hears(self, *verbs):
        """The next message of one of these verbs."""
        while True:
            assert self.socket.poll(20000 * SLOWNESS), f"none of {verbs} came"
            verb = self.socket.recv_multipart()[0][5]
            assert verb != REJECT
            if verb in verbs:
                return verb


def fit(shown):
    """Bytes that may go to a terminal, as text."""
    text = shown.decode()  # it is UTF-8
    assert not FORBIDDEN & set(text), repr(text)
    return text


@pytest.fixture(scope="module")
def evil_mesh(request, tmp_path_factory):
    """A mesh with a client and two workers whose every text is evil."""
    mesh = Mesh(tmp_path_factory.mktemp("evil"))
    mesh.start(broker={"heartbeat_ms": 60000})  # these peers do not PING
    yield from with_evil_peers(mesh)
    if request.session.testsfailed:
        print(mesh.logs())
    mesh.stop()


def with_evil_peers(mesh):
    client = Peer(mesh, "front", b"evil-client")
    client.say(HELLO, {"role": "c" + EVIL[:4], "name": f"client-{EVIL}", "version": EVIL})
    client.hears(WELCOME)
    workers = []
    for service in ("cache", "other"):
        worker = Peer(mesh, "back", f"evil-{len(workers)}".encode())
        worker.say(REGISTER, {"service": service, "name": f"worker-{EVIL}", "host": EVIL,
                              "version": EVIL, "slots_max": 0, "slots": 1})
        worker.hears(WELCOME)
        stats = {"tiers": [{"name": EVIL[:11], "breaker": EVIL[:11], "last_error": EVIL[:11]}],
                 "slot_list": [{"slot": 1, "state": EVIL[:11]}], EVIL[:11]: 1, "f": {EVIL[:11]: 1}}
        worker.say(PING, {}, json.dumps(stats).encode())
        workers.append(worker)
    client.say(MODE, {"level": "soft", "reason": EVIL, "ttl_ms": 600000})
    assert client.hears(MODE)
    client.say(SCALE, {"service": "extract", "target": 1, "seq": 2**62, "source": "operator",
                       "ttl_ms": 600000, "reason": EVIL})
    assert client.hears(SCALED)
    yield mesh
    for peer in (client, *workers):
        peer.socket.close()


def test_status_shows_every_peer_and_steers_no_terminal(evil_mesh):
    text = fit(evil_mesh.command("status").stdout)
    for word in ("client-?]0;owned", "worker-?]0;owned", "gateway@", "extractor@", "extract",
                 "soft"):
        assert word in text, text
    whole = evil_mesh.command("status", "--json").stdout
    assert whole.isascii()
    status = json.loads(whole)
    assert len(status["workers"]) == 4 and len(status["services"]) == 3
    assert "owned" in status["services"]["extract"]["reason"] + status["mode_reason"]


@pytest.mark.parametrize("words", [["cache", "stats"], ["cache", "stats", "--json"],
                                   ["scale", "1"]])
def test_commands_that_show_what_peers_say_steer_no_terminal(evil_mesh, words):
    fit(evil_mesh.command(*words).stdout)


def test_pages_hold_every_peer_and_are_utf8(evil_mesh):
    def seen():
        page = json.loads(fit(evil_mesh.get("/status", service="monitor").body))
        return "worker-?]0;owned" in json.dumps(page)
    until(seen, "the monitor's page shows the peers")
    metrics = fit(evil_mesh.get("/metrics", service="monitor").body)
    assert 'instance="worker-?]0;owned' in metrics and "siftmesh_gateway" in metrics
    fit(evil_mesh.get("/metrics").body)
    fit(evil_mesh.get("/v1/status").body)


def test_logs_hold_no_byte_that_steers_a_terminal(evil_mesh):
    for name, process in evil_mesh.processes.items():
        for line in process.log.read_bytes().splitlines():
            json.loads(fit(line))


class Liar(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"code": "undecodable", "detail": "evil " + EVIL[:11]}).encode()
        self.send_response(422)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_errors_of_extract_steer_no_terminal(shared_mesh, tmp_path):
    evil = os.fsencode(tmp_path) + b"/x\x1b[31m\xff\xc2\x9b.png"
    with open(evil, "wb") as file:
        file.write(b"P5 no picture")

    def said(*words):
        done = subprocess.run([BIN / "siftmesh", "extract", *words], capture_output=True,
                              timeout=60 * SLOWNESS)
        assert done.returncode != 0
        return fit(done.stderr)
    reach = ["--runtime-dir", shared_mesh.runtime]
    assert "x?[31m???.png" in said(evil, *reach)           # it is no picture
    assert "x?[31m???.pngs" in said(evil + b"s", *reach)   # it is not there
    assert "x?[31m???.png" in said(evil, evil, *reach)     # it is there twice
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        port = server.server_address[1]
        assert "evil ?]0;owned?" in said(evil, "--http", f"http://127.0.0.1:{port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
