"""The ZeroMQ side of an open-loop load: a client of the mesh as docs/PROTOCOL.md section 3
says, with any number of requests open.

A request is one SUBMIT to `extract` until its FINAL or REJECT. When the broker has become
another one (BYE, another epoch, WELCOME with `fresh`) what was open is submitted again
with the time that is left. What has no ACCEPT after ACCEPT_S is submitted again, too.
"""

import asyncio
import os
import struct
import time

import msgpack
import zmq

from tests.harness.expected import siftmesh
from tests.harness.openload import PRIORITIES

CANCEL = 7
DRAINING = 17
ACCEPT_S = 5.0
GRACE_S = 2.0  # the broker's own end of a request is waited for this much longer
HELLO_S = 0.2
SILENT_BEATS = 3


class MeshLane:
    def __init__(self, front, ledger, budget_s):
        self.front, self.ledger, self.budget_s = front, ledger, budget_s
        self.prefix, self.ids = os.urandom(8), 0
        self.epoch, self.up, self.heartbeat_s = 0, False, 1.0
        self.heard = self.pinged = self.greeted = 0.0
        self.pending = {}   # id -> (request, sent, accepted)
        self.waiting = []   # no session, or its queue is full
        self.ended_ids = set()
        self.restarts = 0

    async def begin(self):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, f"faults-{self.prefix.hex()}".encode())
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 4000)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.connect(self.front)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.socket.FD, self.read)
        self.ticker = loop.create_task(self.tick())
        end = time.monotonic() + 10
        while not self.up and time.monotonic() < end:
            await asyncio.sleep(0.01)

    async def close(self):
        asyncio.get_running_loop().remove_reader(self.socket.FD)
        self.ticker.cancel()
        if self.up:
            self.send(siftmesh.BYE, bytes(16), {})
        self.context.destroy(linger=100)  # never waits for a socket that was left open

    # ---- requests ----

    def submit(self, request):
        if not self.up:
            self.waiting.append(request)
            return
        left = request.due + self.budget_s - time.monotonic()
        if left <= 0:
            self.ledger.end(request, "gave up", detail=f"after {request.tries} tries")
            return
        self.ids += 1
        request_id = self.prefix + struct.pack("<Q", self.ids)
        picture = request.picture
        body = {"service": "extract", "method": "features", "key": picture.key,
                "image_sha256": picture.sha256, "params": picture.base.canonical}
        if self.send(siftmesh.SUBMIT, request_id, body, picture.bytes,
                     PRIORITIES.index(request.priority), max(1, int(left * 1000))):
            request.tries += 1
            self.pending[request_id] = [request, time.monotonic(), False]
        else:
            self.waiting.append(request)

    def again(self, requests):
        for request in requests:
            self.submit(request)

    def lose_all(self):
        """The broker knows nothing of what is open."""
        lost = [entry[0] for entry in self.pending.values()]
        self.ended_ids.update(self.pending)
        self.pending.clear()
        self.again(lost)

    # ---- the session ----

    def go_down(self):
        self.up = False
        self.greet()

    def greet(self):
        self.greeted = time.monotonic()
        self.send(siftmesh.HELLO, bytes(16), {"role": "client", "name": "faults"})

    def welcome(self, epoch, body):
        if self.up:
            return
        fresh = body.get("fresh", 0) or epoch != self.epoch
        self.restarts += self.epoch not in (0, epoch)
        self.up, self.epoch = True, epoch
        self.heartbeat_s = body["heartbeat_ms"] / 1000
        if fresh:
            self.lose_all()
        waiting, self.waiting = self.waiting, []
        self.again(waiting)

    async def tick(self):
        while True:
            now = time.monotonic()
            if not self.up:
                if now - self.greeted > HELLO_S:
                    self.greet()
            elif now - self.heard > SILENT_BEATS * self.heartbeat_s:
                self.go_down()
            elif now - self.pinged > self.heartbeat_s / 2:
                self.pinged = now
                self.send(siftmesh.PING, bytes(16), {})
            self.look_at_times(now)
            self.read()
            await asyncio.sleep(0.02)

    def look_at_times(self, now):
        for request_id, (request, sent, accepted) in list(self.pending.items()):
            over = now > request.due + self.budget_s + GRACE_S
            if not over and (accepted or not self.up or now < sent + ACCEPT_S):
                continue
            del self.pending[request_id]
            self.ended_ids.add(request_id)
            self.send(CANCEL, request_id, {})
            if over:
                self.ledger.complain(f"request {request.number} has no FINAL in its time")
                self.ledger.end(request, "no FINAL")
            else:
                self.submit(request)
        if self.up:
            waiting, self.waiting = self.waiting, []
        else:
            waiting = [r for r in self.waiting if now > r.due + self.budget_s]
            self.waiting = [r for r in self.waiting if now <= r.due + self.budget_s]
            for request in waiting:
                self.ledger.end(request, "gave up", detail="no broker")
            return
        self.again(waiting)

    # ---- frames ----

    def send(self, verb, request_id, body, payload=b"", priority=1, budget_ms=0):
        header = siftmesh.HEADER.pack(b"SMP1", 1, verb, 0, 0, priority, 0, budget_ms,
                                      request_id, len(payload), request_id, self.epoch)
        frames = [header, msgpack.packb(body)] + ([payload] if payload else [])
        try:
            self.socket.send_multipart(frames, zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return False
        return True

    def read(self):
        """The descriptor is edge-triggered: read until there is nothing."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self.heard = time.monotonic()
            _, _, verb, _, status, _, _, _, request_id, _, _, epoch = \
                siftmesh.HEADER.unpack(frames[0])
            body = msgpack.unpackb(frames[1]) if frames[1] else {}
            if verb == siftmesh.WELCOME:
                self.welcome(epoch, body)
            elif verb == siftmesh.BYE or (verb == siftmesh.PONG and epoch != self.epoch):
                if self.up:
                    self.go_down()
            elif verb in (siftmesh.ACCEPT, siftmesh.FINAL, siftmesh.REJECT):
                self.answer(verb, status, request_id, body, frames[2:])

    def answer(self, verb, status, request_id, body, payload):
        entry = self.pending.get(request_id)
        if entry is None:
            # After CANCEL an answer may still come: once.
            if request_id not in self.ended_ids:
                self.ledger.complain(f"an answer (verb {verb}) to an id that is not open")
            elif verb != siftmesh.ACCEPT:
                self.ended_ids.discard(request_id)
        elif verb == siftmesh.ACCEPT:
            entry[2] = True
        else:
            del self.pending[request_id]
            request = entry[0]
            if verb == siftmesh.FINAL and status == siftmesh.OK:
                self.ledger.end_ok(request, payload[0] if payload else b"")
            elif status == DRAINING:
                self.waiting.append(request)  # for the next broker
            else:
                self.ledger.end(request, body.get("code", str(status)), "",
                                body.get("detail", ""), body.get("retry_after_ms", 0))
