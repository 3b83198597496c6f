"""The reader of a log may stall, or go: no service waits."""

import http.client
import json
import os
import pty
import re
import socket
import subprocess
import tempfile
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.harness.mesh import BIN, SLOWNESS, until

REQUESTS_MAX = 20000


def reader_and_writer(kind):
    if kind == "pipe":
        return os.pipe()
    if kind == "terminal":
        reader, writer = pty.openpty()
        attributes = termios.tcgetattr(writer)
        attributes[1] &= ~termios.OPOST  # a line's end stays one byte
        termios.tcsetattr(writer, termios.TCSANOW, attributes)
        return reader, writer
    return [s.detach() for s in socket.socketpair()]


@pytest.fixture(params=["pipe", "terminal", "socket"])
def gateway(request):
    """A gateway that logs each request, and the descriptor that nobody reads yet."""
    with tempfile.TemporaryDirectory(prefix="smt-") as runtime:
        reader, writer = reader_and_writer(request.param)
        process = subprocess.Popen(
            [BIN / "siftmesh-gateway", "--runtime-dir", runtime, "--listen", "127.0.0.1:0",
             "--log-level", "debug", "--log-format", "json"],
            stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
        os.close(writer)
        path = Path(runtime) / "gateway.port"
        try:
            port = int(until(lambda: path.exists() and path.read_text().strip(), "its port"))
            yield process, reader, http.client.HTTPConnection("127.0.0.1", port,
                                                              timeout=20 * SLOWNESS)
        finally:
            process.kill()
            process.wait()


def get(connection, path, method="GET"):
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def dropped(connection):
    _, text = get(connection, "/metrics")
    return int(re.search(r"^siftmesh_gateway_log_lines_dropped_total (\d+)", text,
                         re.M).group(1))


def refused(connection):
    """A request that is logged."""
    assert get(connection, "/v1/features", "POST")[0] in (400, 411, 415, 503)


def stall(connection):
    """Asks until lines are dropped; each request is answered."""
    for number in range(REQUESTS_MAX):
        refused(connection)
        assert get(connection, "/livez")[0] == 200
        if number % 200 == 0 and dropped(connection) > 10:
            return
    raise AssertionError(f"no line was dropped in {REQUESTS_MAX} requests")


def test_a_log_whose_reader_stalls_holds_up_nobody(gateway):
    process, reader, connection = gateway
    stall(connection)
    chunks = []

    def read():
        try:
            while chunk := os.read(reader, 1 << 16):
                chunks.append(chunk)
        except OSError:
            pass  # a terminal's end
    thread = threading.Thread(target=read)
    thread.start()
    until(lambda: b"were dropped" in b"".join(chunks), "it is told how many")
    before = dropped(connection)
    refused(connection)
    process.terminate()
    assert process.wait(40 * SLOWNESS) == 0
    thread.join(20 * SLOWNESS)
    text = b"".join(chunks).decode()
    lines = [json.loads(line) for line in text.splitlines()]  # each one whole
    told = sum(line["lines"] for line in lines if "were dropped" in line["msg"])
    assert told >= before > 10
    assert lines[-1]["msg"] == "stopped"


def test_it_ends_in_time_though_its_log_is_stalled(gateway):
    process, _, connection = gateway
    stall(connection)
    connection.close()
    began = time.monotonic()
    process.terminate()
    assert process.wait(20 * SLOWNESS) == 0
    assert time.monotonic() - began < 5 * SLOWNESS


def test_a_reader_that_goes_ends_nothing(gateway):
    process, reader, connection = gateway
    os.close(reader)
    for _ in range(50):
        refused(connection)
        assert get(connection, "/livez")[0] == 200
    assert process.poll() is None
    assert dropped(connection) > 0
    process.terminate()
    assert process.wait(40 * SLOWNESS) == 0
