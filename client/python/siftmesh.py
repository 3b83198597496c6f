"""siftmesh: features of pictures from a mesh, over ZeroMQ, from Python.

    import siftmesh

    with siftmesh.Mesh("ipc:///run/user/1000/siftmesh/front.sock") as mesh:
        features = mesh.features(open("photo.jpg", "rb").read(), max_features=500)
        print(features.keypoints.shape, features.descriptors.shape)

A broker on another host needs keys: `siftmesh keygen me` makes them, its operator allows
me.pub, and

    siftmesh.Mesh("tcp://broker.example:5555", curve_key="me.key", curve_server="broker.pub")

Needs pyzmq, msgpack and numpy (Debian: python3-zmq python3-msgpack python3-numpy). A Mesh
belongs to one thread. Protocol: docs/PROTOCOL.md.
"""

import contextlib
import hashlib
import os
import re
import stat
import struct
import time

import msgpack
import numpy
import zmq

HEADER = struct.Struct("<4sBBHHBBI16sQ16sQ")
HELLO, WELCOME, SUBMIT, ACCEPT, FINAL, REJECT, CANCEL = 1, 2, 3, 4, 5, 6, 7
PING, PONG, BYE, STATS = 8, 9, 10, 24
NORMAL = 1
OK, DRAINING, UNAVAILABLE, MISS = 0, 17, 18, 20
OF_INPUT = (9, 10, 11, 28)  # what the cache remembers of a picture that cannot be used
ALGORITHM = b"siftmesh-2:nlm1:sift2:vlfeat-0.9.21"
KINDS = {"features": 1, "denoise": 2}
HELLO_FIRST_S, HELLO_MAX_S = 0.01, 0.2  # waits for WELCOME, doubled
SILENT_INTERVALS = 3                    # heartbeats without a frame: is the session there?
RECONNECT_S = 5.0                       # HELLO without an answer for so long: connect anew
AGAIN_S = 0.2                           # before what was not taken is sent again
CACHE_WAIT_S = 20.0                     # as long as another's computation may take
SETTLE_S = 1.0                          # for the cache to take a result

# proto/params.tbl: name, packing, default; choices are indices.
CHOICES = {
    "denoise": ("nlm", "none"), "upright": (0, 1), "norm": ("l2", "root"),
    "orient": ("exif", "stored"), "sift": ("native", "vlfeat"), "spread": (0, 1),
}
PARAMETERS = (
    ("denoise", "B", "nlm"), ("h", "d", 10.0), ("template", "i", 7), ("search", "i", 21),
    ("first_octave", "i", -1), ("octave_layers", "i", 3), ("contrast", "d", 0.04),
    ("edge", "d", 10.0), ("sigma", "d", 1.6), ("max_features", "i", 0),
    ("upright", "B", 0), ("norm", "B", "l2"), ("orient", "B", "exif"),
    ("sift", "B", "native"), ("spread", "B", 0),
)


class Error(Exception):
    """The mesh ended a request with an error: `code`, `detail`, `limit`, `actual`."""

    def __init__(self, code, detail, limit=0, actual=0, retry_after_ms=0):
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail
        self.limit, self.actual, self.retry_after_ms = limit, actual, retry_after_ms


class Features:
    """keypoints: (n, 5) float32 x, y, scale, orientation, response; descriptors: (n, 128)
    uint8; width, height: pixels; key: hex; cached: computed before."""

    def __init__(self, blob, cached=False):
        magic, version, header, count, self.width, self.height = struct.unpack_from(
            "<4sHHIII", blob)
        if magic != b"SMFB" or version != 1 or len(blob) != header + 148 * count:
            raise ValueError("not a feature blob of version 1")
        self.key = bytes(blob[64:96]).hex()
        self.cached = cached
        self.keypoints = numpy.frombuffer(blob, "<f4", 5 * count, header).reshape(-1, 5)
        self.descriptors = numpy.frombuffer(
            blob, "u1", 128 * count, header + 20 * count).reshape(-1, 128)


def canonical(given):
    """The canonical bytes of parameters, proto/params.h."""
    unknown = set(given) - {name for name, _, _ in PARAMETERS}
    if unknown:
        raise ValueError(f"no parameter {', '.join(sorted(unknown))}")
    out = b"\x01"
    for name, packing, default in PARAMETERS:
        value = given.get(name, default)
        if name in CHOICES:
            value = CHOICES[name].index(value)
        out += struct.pack("<" + packing, value)
    return out


def _picture_size(image):
    """Width, height and bytes a pixel from the head of a picture; None where it is none.
    The same as proto/picture.c."""
    if image[:3] == b"\xff\xd8\xff":
        at = 2
        while match := re.compile(rb"\xff+([^\x00\xff])").search(image, at):
            marker, at = match[1][0], match.end()
            if marker == 1 or 0xd0 <= marker <= 0xd7:
                continue
            length, height, width = struct.unpack_from(">HxHH", image[at:at + 7] + bytes(7))
            if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):
                return width, height, 1
            if marker in (0xd8, 0xd9, 0xda) or at + length > len(image):
                return None
            at += max(2, length)
    elif image[:8] == b"\x89PNG\r\n\x1a\n" and len(image) >= 25:
        return *struct.unpack_from(">II", image, 16), 2 if image[24] == 16 else 1
    elif image[:4] == b"RIFF" and image[8:12] == b"WEBP" and len(image) >= 30:
        kind, data = image[12:16], image[20:30]
        if kind == b"VP8X":
            return 1 + int.from_bytes(data[4:7], "little"), \
                1 + int.from_bytes(data[7:10], "little"), 1
        if kind == b"VP8L":
            bits = int.from_bytes(data[1:5], "little")
            return 1 + (bits & 0x3fff), 1 + (bits >> 14 & 0x3fff), 1
        if kind == b"VP8 ":
            return *(side & 0x3fff for side in struct.unpack_from("<HH", data, 6)), 1
    else:
        space = rb"(?:\s|#[^\r\n]*)*"
        head = re.match(rb"P([1-6])" + 2 * (space + rb"(\d+)") + rb"(?:" + space + rb"(\d+))?",
                        image)
        if head:
            deep = head[1] not in (b"1", b"4") and int(head[4] or 0) > 255
            return int(head[2]), int(head[3]), 2 if deep else 1
    return None


def _features_in(pixels, value):
    """Features that so many pixels may have."""
    density = 0.14 * min(value["octave_layers"], 4) / (value["sigma"] * value["sigma"])
    for _ in range(-1, value["first_octave"]):
        density /= 4
    return int(min(5000 + pixels * density, 1000000))


def _features_bytes(width, height, value):
    """Memory that they take."""
    most, wanted = _features_in(width * height, value), value["max_features"]
    if value["sift"] == "vlfeat":
        return 480 * most
    if wanted == 0 or wanted >= most:
        return 300 * most
    rows = min(2 * (36 * value["sigma"] + 32), min(width, height))
    waiting = _features_in(max(width, height) * rows, value)
    return (2 * wanted + 1028) * 200 + 48 * wanted + 140 * waiting


def cost(image, method, given):
    """Memory that a job may need, in bytes; the formula is in proto/picture.h."""
    size = _picture_size(image)
    if not size:
        return (1 << 20) + len(image)
    value = {name: given.get(name, default) for name, _, default in PARAMETERS}
    width, height, depth = size
    pixels, n, sigma = width * height, value["octave_layers"], value["sigma"]
    doubled = value["first_octave"] < 0
    stage = 8 * (width + 64) * (height + 64) + 256 * width
    if method == "denoise" or value["denoise"] == "nlm":
        stage = max(stage, pixels * depth + (4 << 20))
    more = _features_bytes(width, height, value)
    if method == "features" and value["sift"] == "vlfeat":
        stage = max(stage, more + 4 * pixels * (1 + (4 if doubled else 1) * (4 * n + 10)))
    elif method == "features":
        column = int(512 + 256 * n + (1536 + 430 * n) * sigma)
        columns = max(width, height) * (2 if doubled else 1)
        stage = max(stage, more + columns * column + int(46000 * sigma * sigma))
    return (1 << 20) + pixels * depth + stage + len(image)


def _key_lines(path):
    with open(path, encoding="ascii", errors="replace") as file:
        lines = [line.strip() for line in file]
    return [line for line in lines if line and not line.startswith("#")]


def read_keys(curve_key, curve_server):
    """Own public and secret key and the broker's public key, from files of proto/curve.h."""
    if os.stat(curve_key).st_mode & 0o077:
        raise PermissionError(f"{curve_key}: others may read this secret; chmod 600")
    try:
        own = dict(line.split(None, 1) for line in _key_lines(curve_key))
        server, = (line.split()[0] for line in _key_lines(curve_server))
        keys = [own["public"], own["secret"], server]
    except (KeyError, ValueError):
        keys = []
    if [len(key) for key in keys] != [40, 40, 40]:
        raise ValueError(f"{curve_key} or {curve_server} is no file of siftmesh keygen")
    return [key.encode() for key in keys]


def _leaves_this_host(address):
    """Whether only CURVE can tell who is at the other end."""
    loopback = r"tcp://(localhost|\[::1\]|127(\.\d{1,3}){3}):[^:]*"
    return not re.fullmatch(rf"(ipc|inproc)://.*|{loopback}", address)


def check_front(front):
    """PermissionError unless only this user or root can be behind an ipc address; the rule
    is that of siftmesh_check_front() in client/siftmesh.h."""
    if not front.startswith("ipc:///"):
        return
    folder = os.path.dirname(front[len("ipc://"):])
    try:
        link, seen = os.lstat(folder), os.stat(folder)
    except FileNotFoundError:
        return  # nothing is sent before there is a connection
    parent = os.lstat(os.path.dirname(folder))
    roots = parent.st_uid == 0 and stat.S_ISDIR(parent.st_mode) and not parent.st_mode & 0o022
    for owner in (link.st_uid, seen.st_uid):
        if owner not in (0, os.geteuid()) and not roots:
            raise PermissionError(f"{folder} belongs to user {owner}, not to this one "
                                  f"({os.geteuid()}), who would get the pictures")
    if not stat.S_ISDIR(seen.st_mode) or seen.st_mode & 0o077:
        raise PermissionError(f"{folder} has mode {stat.S_IMODE(seen.st_mode):04o}, must have "
                              "0700: others could speak for the mesh")


class Mesh:
    """A session with the broker at `front`. `curve_key` and `curve_server`: files with our
    keys and the broker's public one, required for a broker on another host.

    It may be idle for as long as you like: a call opens the session anew where the broker
    has closed it. A broker that is restarted, or a machine that slept, costs a call time
    but no error. TimeoutError: no answer within the call's `timeout`.

    It belongs to the process that made it: after fork (multiprocessing) the child makes
    one of its own, and a call on the parent's raises RuntimeError."""

    def __init__(self, front=None, timeout=5.0, curve_key=None, curve_server=None):
        base = os.environ.get("XDG_RUNTIME_DIR")
        folder = f"{base}/siftmesh" if base else f"/tmp/siftmesh-{os.getuid()}"
        self._prefix, self._count = os.urandom(8), 0
        self._owner = os.getpid()
        # The session: is it open, with which broker, how many were new to it.
        self._open, self._epoch, self._sessions = False, 0, 0
        self._heartbeat, self._hello_wait = 1.0, HELLO_FIRST_S
        self._said = self._heard = self._connected = time.monotonic()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 100)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._front = front or f"ipc://{folder}/front.sock"
        try:
            check_front(self._front)
            self._secure(self._front, curve_key, curve_server)
            self._connect()
            self._await_session(time.monotonic() + timeout)
        except Exception:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._owner != os.getpid():
            return  # the socket is the parent's
        if self._open:
            self._send(BYE, bytes(16), {})
        self._socket.close()
        self._context.term()

    def features(self, image, timeout=60.0, **parameters):
        """Features of the picture in `image` (bytes of a JPEG, PNG, WebP or PNM)."""
        blob, cached = self._compute("features", image, parameters, timeout)
        return Features(blob, cached)

    def denoise(self, image, timeout=60.0, **parameters):
        """The denoised picture, bytes of a PNG."""
        return self._compute("denoise", image, parameters, timeout)[0]

    def stats(self, timeout=5.0):
        """The broker's state, as `siftmesh status --json` prints it."""
        import json
        return json.loads(self._exchange(STATS, {}, timeout, answer=STATS)[2])

    # ---- requests ----

    def _compute(self, method, image, parameters, timeout):
        end = time.monotonic() + timeout
        canon = canonical(parameters)
        digest = hashlib.sha256(image).digest()
        key = hashlib.sha256(digest + bytes([KINDS[method]]) + canon + ALGORITHM).digest()
        asked = {"service": "cache", "method": "get", "key": key, "image_sha256": digest,
                 "params": canon}
        status, body, payload = self._ask_cache(asked, min(timeout, CACHE_WAIT_S))
        if status == OK:
            return payload, True
        if status in OF_INPUT:
            raise self._error(status, body)
        lease = body.get("lease", 0) if status == MISS else 0
        work = {"service": "extract", "method": method, "key": key,
                "image_sha256": digest, "params": canon}
        status, body, payload = self._submit(work, image, end - time.monotonic(),
                                             cost(image, method, parameters))
        if lease:
            settle = {"service": "cache", "method": "put" if status == OK else "drop",
                      "key": key, "lease": lease, "image_sha256": digest,
                      "params": canon}
            with contextlib.suppress(TimeoutError):  # not kept: still a result
                self._submit(settle, payload if status == OK else b"", SETTLE_S)
        if status != OK:
            raise self._error(status, body)
        return payload, False

    def _ask_cache(self, asked, timeout):
        try:
            return self._submit(asked, b"", timeout)
        except TimeoutError:
            return UNAVAILABLE, {}, b""  # no cache: compute all the same

    @staticmethod
    def _error(status, body):
        return Error(body.get("code", str(status)), body.get("detail", ""),
                     body.get("limit", 0), body.get("actual", 0),
                     body.get("retry_after_ms", 0))

    def _submit(self, body, payload, timeout, cost_bytes=0):
        return self._exchange(SUBMIT, body, timeout, payload, cost_bytes)

    def _exchange(self, verb, body, timeout, payload=b"", cost_bytes=0, answer=FINAL):
        """Ask until there is an answer, again in each session that does not know the
        question: (status, body, payload) of FINAL, REJECT or the verb `answer`."""
        if self._owner != os.getpid():
            raise RuntimeError("this Mesh was opened by another process; open one after fork")
        end = time.monotonic() + timeout
        trace, request, asked_in, not_before = self._new_id(), None, None, 0.0
        self._begin_call()
        while True:
            now = time.monotonic()
            waits = self._open and asked_in != self._sessions
            if waits and now >= not_before:
                check_front(self._front)
                request = self._new_id()
                budget_ms = max(1, int((end - now) * 1000)) if verb == SUBMIT else 0
                if self._send(verb, request, body, payload, budget_ms, cost_bytes, trace):
                    asked_in = self._sessions
                else:  # no connection: the broker is away
                    not_before = now + AGAIN_S
            later = waits and now < not_before < end
            got = self._step(not_before if later else end)
            if got is None:
                if time.monotonic() >= end:
                    if asked_in is not None:
                        self._send(CANCEL, request, {})
                    raise TimeoutError("no answer from the mesh")
                continue
            came, status, of, body_in, payload_in = got
            if of != request or came not in (FINAL, REJECT, answer):
                continue
            if status == DRAINING and time.monotonic() + AGAIN_S < end:
                asked_in, not_before = None, time.monotonic() + AGAIN_S  # its successor's
                continue
            return status, body_in, payload_in

    # ---- frames ----

    def _secure(self, front, curve_key, curve_server):
        if curve_key and front.startswith("tcp://"):
            if not curve_server:
                raise ValueError("curve_key needs curve_server beside it")
            (self._socket.curve_publickey, self._socket.curve_secretkey,
             self._socket.curve_serverkey) = read_keys(curve_key, curve_server)
        elif _leaves_this_host(front):
            raise PermissionError(f"{front}: tcp beyond loopback needs curve_key")

    def _connect(self):
        self._count += 1
        self._socket.setsockopt(zmq.ROUTING_ID,
                                f"python-{self._prefix.hex()}-{self._count:x}".encode())
        self._connected = time.monotonic()
        self._socket.connect(self._front)

    def _new_id(self):
        self._count += 1
        return self._prefix + struct.pack("<Q", self._count)

    def _send(self, verb, request, body, payload=b"", budget_ms=0, cost_bytes=0, trace=None):
        """The request's id; None: there is no connection."""
        header = HEADER.pack(b"SMP1", 1, verb, 0, 0, NORMAL, 0, budget_ms, request,
                             cost_bytes, trace or request, self._epoch)
        frames = [header, msgpack.packb(body)] + ([payload] if payload else [])
        self._said = time.monotonic()
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            return None
        return request

    # ---- session ----

    def _lose_session(self):
        self._open, self._hello_wait = False, HELLO_FIRST_S
        self._connected = time.monotonic()
        self._said = self._connected - HELLO_MAX_S  # HELLO at once

    def _begin_call(self):
        """A handle that was silent for a heartbeat asks first whether its session lives."""
        self._heard = time.monotonic()
        if self._open and self._heard - self._said >= self._heartbeat:
            self._lose_session()

    def _await_session(self, end):
        self._lose_session()
        while not self._open:
            self._step(end)
            if not self._open and time.monotonic() >= end:
                raise TimeoutError(f"no mesh answers at {self._front}")
        check_front(self._front)

    def _keep_session(self):
        """HELLO while there is no session, PING while there is one; the seconds until the
        next of them."""
        now = time.monotonic()
        if self._open and now - self._heard > SILENT_INTERVALS * self._heartbeat:
            self._lose_session()
        wait = self._heartbeat if self._open else self._hello_wait
        if now - self._said < wait:
            return wait - (now - self._said)
        if self._open:
            self._send(PING, bytes(16), {})
            return self._heartbeat
        # A connection that a sleep or a router killed, or whose handshake was refused, does
        # not come back by itself. The broker may still hold the old one, under its id.
        if now - self._connected > RECONNECT_S:
            self._socket.disconnect(self._front)
            self._connect()
        self._send(HELLO, bytes(16), {"role": "client", "name": f"python:{os.getpid()}"})
        self._hello_wait = min(2 * self._hello_wait, HELLO_MAX_S)
        return self._hello_wait

    def _take_session(self, verb, epoch, body):
        """Whether the message is about the session, not about a request."""
        if verb == WELCOME and not self._open:
            if body.get("fresh", 0) or epoch != self._epoch or not self._sessions:
                self._sessions += 1
            self._open, self._epoch = True, epoch
            self._heartbeat = max(0.02, body.get("heartbeat_ms", 1000) / 1000)
        elif self._open and (verb == BYE or (verb == PONG and epoch != self._epoch)):
            self._lose_session()
        return verb in (WELCOME, PONG, BYE)

    def _step(self, end):
        """One step towards a message about a request: (verb, status, request, body,
        payload), or None: look at the session and the clock, and step again."""
        if not self._socket.poll(0):
            left = min(self._keep_session(), end - time.monotonic())
            if left <= 0 or not self._socket.poll(int(left * 1000) + 1):
                return None
        frames = self._socket.recv_multipart()
        if len(frames) < 2 or len(frames[0]) != HEADER.size:
            return None
        magic, version, verb, _, status, _, _, _, request, _, _, epoch = HEADER.unpack(
            frames[0])
        if magic != b"SMP1" or version != 1:
            return None
        self._heard = time.monotonic()
        try:  # text of other peers comes along
            body = msgpack.unpackb(frames[1], unicode_errors="replace") if frames[1] else {}
        except ValueError:
            return None
        if self._take_session(verb, epoch, body):
            return None
        return verb, status, request, body, frames[2] if len(frames) > 2 else b""
