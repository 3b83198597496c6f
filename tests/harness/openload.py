"""An open-loop load: requests leave when a seeded schedule says, whatever was answered.

    ledger = Ledger()
    arrivals = schedule(random, book, rate=50, seconds=10, mix=Mix())
    asyncio.run(drive(arrivals, ledger, http=HttpLane(urls, ledger), mesh=MeshLane(...)))

A closed loop slows down with the server and so hides overload (coordinated omission);
here a request is measured from the moment it was due. The ledger keeps every request and
how it ended; the lanes (http below, mesh in openmesh.py) write each end exactly once and
complain about every byte that is not due.
"""

import asyncio
import json
import os
import time
from dataclasses import dataclass, field

PRIORITIES = ("high", "normal", "batch")


@dataclass
class Mix:
    """Parts of the requests."""
    known: float = 0.4    # pictures asked for before
    mesh: float = 0.25    # over ZeroMQ
    high: float = 0.1
    batch: float = 0.3


@dataclass
class Request:
    number: int
    due_s: float          # after the beginning
    picture: object
    priority: str
    lane: str             # "http" or "mesh"
    known: bool
    gateway: int = 0      # of an http request: which
    due: float = 0.0      # all following: time.monotonic()
    sent: float = 0.0
    ended: float = 0.0
    status: object = None  # HTTP status, code of the mesh, "cut", "no connection"
    code: str = ""
    retry_after: int = 0
    tries: int = 0        # SUBMITs of a mesh request
    detail: str = ""

    @property
    def ok(self):
        return self.status == 200

    @property
    def seconds(self):
        return self.ended - self.due


def one_request(random, book, mix, gateways, number, due_s):
    dice = random.random()
    priority = ("high" if dice < mix.high else
                "batch" if dice < mix.high + mix.batch else "normal")
    known = random.random() < mix.known
    picture = random.choice(book.known) if known else book.fresh(random)
    lane = "mesh" if random.random() < mix.mesh else "http"
    return Request(number, due_s, picture, priority, lane, known, random.randrange(gateways))


def schedule(random, book, rate, seconds, mix=Mix(), gateways=1):
    """Poisson arrivals at `rate` a second."""
    requests, at = [], random.expovariate(rate)
    while at < seconds:
        requests.append(one_request(random, book, mix, gateways, len(requests), at))
        at += random.expovariate(rate)
    return requests


@dataclass
class Ledger:
    """Every request and its one end, and everything that must not be."""
    requests: list = field(default_factory=list)
    open: int = 0
    wrong: list = field(default_factory=list)  # sentences
    late_s: float = 0.0  # most that the generator lagged behind its schedule
    cores: float = 0.0   # that the generator itself used while it sent

    def begin(self, request):
        request.sent = time.monotonic()
        self.late_s = max(self.late_s, request.sent - request.due)
        self.requests.append(request)
        self.open += 1

    def end(self, request, status, code="", detail="", retry_after=0):
        if request.status is not None:
            self.complain(f"request {request.number} ended as {request.status}, then {status}")
            return
        request.status, request.code, request.detail = status, code, detail
        request.retry_after, request.ended = retry_after, time.monotonic()
        self.open -= 1

    def end_ok(self, request, blob):
        if not request.picture.is_answer(blob):
            self.complain(f"request {request.number} ({request.lane}) got a wrong answer "
                          f"of {len(blob)} bytes")
        self.end(request, 200)

    def complain(self, sentence):
        self.wrong.append(sentence)

    def counts(self):
        """How many ended how: {"http 200": 12, "mesh full": 3}."""
        found = {}
        for r in self.requests:
            name = f"{r.lane} {r.status}" + (f" {r.code}" if r.code else "")
            found[name] = found.get(name, 0) + 1
        return dict(sorted(found.items()))


class HttpConnection(asyncio.Protocol):
    """One connection, one request at a time, kept for the next one."""

    def __init__(self, lane, gateway):
        self.lane, self.gateway = lane, gateway
        self.request, self.buffer, self.transport = None, bytearray(), None

    def connection_made(self, transport):
        self.transport = transport

    def send(self, request):
        self.request = request
        picture = request.picture
        head = (f"POST {picture.path} HTTP/1.1\r\nHost: faults\r\n"
                f"Content-Type: image/jpeg\r\nAccept: application/octet-stream\r\n"
                f"X-Siftmesh-Priority: {request.priority}\r\n"
                f"Content-Length: {len(picture.bytes)}\r\n\r\n")
        self.transport.write(head.encode() + picture.bytes)

    def data_received(self, data):
        self.buffer += data
        if self.request is None:
            self.lane.ledger.complain(f"bytes without a request: {bytes(self.buffer[:80])}")
            self.transport.close()
            return
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in head[1:])}
        size = end + 4 + int(headers.get("content-length", 0))
        if len(self.buffer) >= size:
            body = bytes(self.buffer[end + 4:size])
            del self.buffer[:size]
            self.answered(int(head[0].split()[1]), headers, body)

    def answered(self, status, headers, body):
        request, self.request = self.request, None
        if self.buffer:
            self.lane.ledger.complain(f"request {request.number}: more than one answer")
        if status == 200:
            self.lane.ledger.end_ok(request, body)
        else:
            problem = json.loads(body)
            self.lane.ledger.end(request, status, problem["code"],
                                 problem.get("detail", ""),
                                 int(headers.get("retry-after", 0)))
        if headers.get("connection", "").lower() == "close":
            self.transport.close()
        else:
            self.lane.idle[self.gateway].append(self)

    def connection_lost(self, _):
        if self in self.lane.idle[self.gateway]:
            self.lane.idle[self.gateway].remove(self)
        if self.request is not None:
            self.lane.ledger.end(self.request, "cut", detail=f"{len(self.buffer)} bytes came")
            self.request = None


class HttpLane:
    """Requests over HTTP, to one of several gateways each."""

    def __init__(self, ports, ledger):
        self.ports, self.ledger = ports, ledger
        self.idle = [[] for _ in ports]

    async def begin(self):
        pass

    def submit(self, request):
        idle = self.idle[request.gateway]
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                connection.send(request)
                return
        asyncio.get_running_loop().create_task(self.connect(request))

    async def connect(self, request):
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: HttpConnection(self, request.gateway), "127.0.0.1",
                self.ports[request.gateway])
        except OSError as error:
            self.ledger.end(request, "no connection", detail=str(error))
            return
        connection.send(request)

    async def close(self):
        for idle in self.idle:
            for connection in list(idle):
                connection.transport.close()


async def drive(requests, ledger, lanes, patience_s, over=None):
    """Send every request when it is due, until the event `over`; then wait until each has
    ended, `patience_s` at most. Returns when the load began and ended."""
    for lane in lanes.values():
        await lane.begin()
    try:
        return await drive_open(requests, ledger, lanes, patience_s, over)
    finally:
        for lane in lanes.values():
            await lane.close()


async def drive_open(requests, ledger, lanes, patience_s, over):
    begin, used = time.monotonic(), sum(os.times()[:2])
    for request in requests:
        request.due = begin + request.due_s
        # Even when late: the answers that have come are to be read.
        await asyncio.sleep(max(0, request.due - time.monotonic()))
        if over is not None and over.is_set():
            break
        ledger.begin(request)
        lanes[request.lane].submit(request)
    last = time.monotonic()
    ledger.cores = (sum(os.times()[:2]) - used) / (last - begin)
    while ledger.open and time.monotonic() < last + patience_s:
        await asyncio.sleep(0.02)
    for request in ledger.requests:
        if request.status is None:
            ledger.complain(f"request {request.number} ({request.lane}) has no end after "
                            f"{time.monotonic() - request.due:.1f} s")
    return begin, last
