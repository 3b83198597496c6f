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

import hashlib
import os
import re
import struct
import time

import msgpack
import numpy
import zmq

HEADER = struct.Struct("<4sBBHHBBI16sQ16sQ")
HELLO, WELCOME, SUBMIT, ACCEPT, FINAL, REJECT = 1, 2, 3, 4, 5, 6
PING, PONG, BYE, STATS = 8, 9, 10, 24
NORMAL = 1
OK, MISS = 0, 20
OF_INPUT = (9, 10, 11)  # what the cache remembers of a picture that cannot be used
ALGORITHM = b"siftmesh-2:nlm1:sift2:vlfeat-0.9.21"
KINDS = {"features": 1, "denoise": 2}

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


def cost(image, method, given):
    """Memory that a job is expected to need, in bytes; the formula is in proto/picture.h."""
    size = _picture_size(image)
    if not size:
        return (256 << 10) + len(image)
    value = {name: given.get(name, default) for name, _, default in PARAMETERS}
    width, height, depth = size
    pixels, n, sigma = width * height, value["octave_layers"], value["sigma"]
    doubled = value["first_octave"] < 0
    stage = 8 * pixels
    if method == "denoise" or value["denoise"] == "nlm":
        stage = max(stage, pixels * depth + (4 << 20))
    if method == "features" and value["sift"] == "vlfeat":
        stage = max(stage, 4 * pixels * (1 + (4 if doubled else 1) * (4 * n + 10)))
    elif method == "features":
        column = int(512 + 256 * n + (1536 + 430 * n) * sigma)
        columns = max(width, height) * (2 if doubled else 1)
        stage = max(stage, 3 * pixels + columns * column + int(46000 * sigma * sigma))
    return (256 << 10) + pixels * depth + stage + len(image)


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


class Mesh:
    """A session with the broker at `front`. `curve_key` and `curve_server`: files with our
    keys and the broker's public one, required for a broker on another host."""

    def __init__(self, front=None, timeout=5.0, curve_key=None, curve_server=None):
        base = os.environ.get("XDG_RUNTIME_DIR")
        folder = f"{base}/siftmesh" if base else f"/tmp/siftmesh-{os.getuid()}"
        self._prefix, self._count, self._epoch = os.urandom(8), 0, 0
        self._heartbeat, self._pinged = 0.2, time.monotonic()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, f"python-{self._prefix.hex()}".encode())
        self._socket.setsockopt(zmq.LINGER, 100)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        front = front or f"ipc://{folder}/front.sock"
        try:
            self._secure(front, curve_key, curve_server)
            self._socket.connect(front)
            self._hello(timeout)
        except Exception:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._epoch:
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
        request = self._send(STATS, self._new_id(), {})
        return json.loads(self._answer(request, (STATS,), timeout)[3])

    # ---- requests ----

    def _compute(self, method, image, parameters, timeout):
        end = time.monotonic() + timeout
        canon = canonical(parameters)
        digest = hashlib.sha256(image).digest()
        key = hashlib.sha256(digest + bytes([KINDS[method]]) + canon + ALGORITHM).digest()
        asked = {"service": "cache", "method": "get", "key": key}
        status, body, payload = self._submit(asked, b"", min(timeout, 20.0))
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
                      "key": key, "lease": lease, "params": canon}
            self._submit(settle, payload if status == OK else b"", 1.0)
        if status != OK:
            raise self._error(status, body)
        return payload, False

    @staticmethod
    def _error(status, body):
        return Error(body.get("code", str(status)), body.get("detail", ""),
                     body.get("limit", 0), body.get("actual", 0),
                     body.get("retry_after_ms", 0))

    def _submit(self, body, payload, timeout, cost_bytes=0):
        request = self._send(SUBMIT, self._new_id(), body, payload,
                             budget_ms=max(1, int(timeout * 1000)), cost_bytes=cost_bytes)
        _, status, body, payload = self._answer(request, (FINAL, REJECT), timeout)
        return status, body, payload

    def _answer(self, request, verbs, timeout):
        end = time.monotonic() + timeout
        while True:
            verb, status, got, _, body, payload = self._receive(end)
            if got == request and verb in (*verbs, FINAL, REJECT):
                return verb, status, body, payload

    # ---- frames ----

    def _secure(self, front, curve_key, curve_server):
        if curve_key and front.startswith("tcp://"):
            if not curve_server:
                raise ValueError("curve_key needs curve_server beside it")
            (self._socket.curve_publickey, self._socket.curve_secretkey,
             self._socket.curve_serverkey) = read_keys(curve_key, curve_server)
        elif _leaves_this_host(front):
            raise PermissionError(f"{front}: tcp beyond loopback needs curve_key")

    def _hello(self, timeout):
        end = time.monotonic() + timeout
        body = {"role": "client", "name": f"python:{os.getpid()}"}
        while True:
            self._send(HELLO, bytes(16), body)
            try:
                verb, _, _, epoch, body_in, _ = self._receive(
                    min(end, time.monotonic() + 0.2))
            except TimeoutError:
                if time.monotonic() >= end:
                    raise
                continue
            if verb == WELCOME:
                self._epoch = epoch
                self._heartbeat = max(0.02, body_in.get("heartbeat_ms", 1000) / 1000)
                return

    def _new_id(self):
        self._count += 1
        return self._prefix + struct.pack("<Q", self._count)

    def _send(self, verb, request, body, payload=b"", budget_ms=0, cost_bytes=0):
        header = HEADER.pack(b"SMP1", 1, verb, 0, 0, NORMAL, 0, budget_ms, request,
                             cost_bytes, request, self._epoch)
        frames = [header, msgpack.packb(body)] + ([payload] if payload else [])
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            pass  # not connected: silence will show it
        return request

    def _receive(self, end):
        while True:
            if self._epoch and time.monotonic() - self._pinged > self._heartbeat:
                self._pinged = time.monotonic()
                self._send(PING, bytes(16), {})
            left = end - time.monotonic()
            if not self._socket.poll(max(0, int(min(left, self._heartbeat) * 1000) + 1)):
                if left <= 0:
                    raise TimeoutError("no answer from the mesh")
                continue
            frames = self._socket.recv_multipart()
            if len(frames) < 2 or len(frames[0]) != HEADER.size:
                continue
            magic, version, verb, _, status, _, _, _, request, _, _, epoch = HEADER.unpack(
                frames[0])
            if magic != b"SMP1" or version != 1 or verb == PONG:
                continue
            if verb == BYE:
                raise ConnectionResetError("the broker ended the session")
            body = msgpack.unpackb(frames[1]) if frames[1] else {}
            payload = frames[2] if len(frames) > 2 else b""
            return verb, status, request, epoch, body, payload
