"""The most that a hostile peer of each kind can do, as docs/SECURITY.md says it."""

import hashlib
import struct
import threading
import zlib

import pytest

from tests.harness.mesh import SLOWNESS, until
from tests.integration.test_cache_tiers import (COLD, counter, mesh_client, picture, redis, siftmesh)
from tests.integration.test_hostile_peers import BAD_REQUEST, DONE, JOB, OK, PING, PONG, Peer

UNDECODABLE = 10
CANON = siftmesh.canonical({})


def key_of(image, kind=1):
    return hashlib.sha256(hashlib.sha256(image).digest() + bytes([kind]) + CANON
                          + siftmesh.ALGORITHM).digest()


def features(image, key=None, count=1, size=(96, 72), canon=CANON):
    """Forged ones of `image`: whole, and all zeros."""
    digest = hashlib.sha256(image).digest()
    head = struct.pack("<4sHHIII4xI4x", b"SMFB", 1, 160, count, *size, len(canon))
    return head + digest + (key or key_of(image)) + canon + bytes(64 - len(canon) + 148 * count)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width=96, height=72):
    """Whole, and black."""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes((width + 1) * height))) + chunk(b"IEND", b""))


def post(mesh, image):
    return mesh.post("/v1/features", image, headers={"Accept": "application/octet-stream"})


def is_right(answer, image):
    """Computed for this picture, with features that are not all zeros."""
    body = answer.body
    return (answer.status == 200 and body[:4] == b"SMFB" and body[64:96] == key_of(image)
            and any(body[160:]))


def say(client, **body):
    payload = body.pop("payload", b"")
    return client._submit({"service": "cache", **body}, payload, 20 * SLOWNESS)


# ---- a client of the mesh ----

def test_a_client_puts_nothing_that_its_key_does_not_mean(mesh):
    mesh.start(gateway=COLD)
    image, other = picture(800), picture(801)
    key, digest = key_of(image), hashlib.sha256(image).digest()
    known = {"image_sha256": digest, "params": CANON}
    denoised = key_of(image, 2)
    with mesh_client(mesh) as client:
        for forged in [
                {"key": key, "payload": png()},  # the other kind
                {"key": key, "payload": png(), **known},
                {"key": denoised, "payload": png()},  # a key alone proves nothing
                {"key": denoised, "payload": png(), "params": CANON,
                 "image_sha256": hashlib.sha256(other).digest()},
                {"key": key, "payload": features(other)},  # another picture
                {"key": key, "payload": features(other, key)},
                {"key": key, "payload": features(image, count=5000, size=(4, 4))},
                {"key": key, "payload": features(image), "params": CANON[:-1] + b"\1"},
                {"key": key, "payload": features(image),
                 "image_sha256": hashlib.sha256(other).digest()},
                {"key": denoised, "payload": features(image), **known},
                {"key": denoised, "payload": b"\x89PNG\r\n\x1a\n<script>", **known},
                {"key": key, "status": UNDECODABLE},  # a refusal of a picture not known
                {"key": key, "status": UNDECODABLE, "params": CANON,
                 "image_sha256": hashlib.sha256(other).digest()}]:
            assert say(client, method="put", **forged)[0] == BAD_REQUEST, forged
        # Of a picture that it knows, but was not asked to compute.
        for lease in (0, 1):
            assert say(client, method="put", key=key, status=UNDECODABLE, lease=lease,
                       **known)[0] == OK
    assert post(mesh, image).cache == "miss"
    assert is_right(post(mesh, image), image)
    assert mesh.post("/v1/denoise", image).cache == "miss"
    until(lambda: counter(mesh, "puts_refused_total") == 13, "each is counted")


# ---- Redis ----

def record(key, payload, params=CANON):
    """As cacher/tier/record.h says."""
    head = struct.pack("<4sHHQ32sIIIHHI", b"SMRC", 1, 0, 2000000000, key, 96, 72, 1,
                       len(params), 0, len(payload))
    return head + struct.pack("<I", zlib.crc32(head + params + payload)) + params + payload


def forge(server, key, value):
    import subprocess
    subprocess.run(["redis-cli", "-p", str(server.port), "-x", "set",
                    f"siftmesh:feat:{key.hex()}"], input=value, check=True, capture_output=True)


@pytest.mark.parametrize("forged", ["kind", "picture", "script"])
def test_what_another_program_wrote_into_redis_is_computed_anew(mesh, redis, forged):
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    image = picture(810)
    key = key_of(image)
    value = {"kind": png(), "picture": features(picture(811), key),
             "script": b"\x89PNG\r\n\x1a\n<script>"}[forged]
    forge(redis, key, record(key, value))
    answer = post(mesh, image)
    assert answer.cache == "miss" and is_right(answer, image)
    until(lambda: counter(mesh, "redis_puts_total") == 1, "Redis has the right one instead")
    mesh.kill("cacher")
    mesh.start_one("cacher")
    until(lambda: post(mesh, image).cache == "hit", "which is a hit from now on")
    assert is_right(post(mesh, image), image)


def test_a_picture_that_was_kept_under_a_key_of_features_gives_way(mesh, redis):
    """A key does not encode its kind."""
    mesh.start(gateway=COLD, cacher={"redis": redis.url})
    image = picture(820)
    key = key_of(image)
    forge(redis, key, record(key, png()))
    with mesh_client(mesh) as client:
        assert say(client, method="peek", key=key)[2] == png()  # in memory from now on
        answer = post(mesh, image)
        assert answer.cache == "miss" and is_right(answer, image)
        until(lambda: say(client, method="peek", key=key)[2] == answer.body, "it is replaced")
    until(lambda: counter(mesh, "misfits_total") == 1, "and counted")


# ---- a worker, a cacher ----

def answering(peer, payload, cache="", credit=1):
    """A thread that ends every job with this."""
    def run():
        while not stop.is_set():
            if not peer.socket.poll(20):
                continue
            frames = peer.socket.recv_multipart()
            if frames[0][5] == JOB:
                request, attempt = frames[0][16:32], frames[0][11]
                peer.say(DONE, {"code": "ok", "cache": cache}, payload, request=request,
                         attempt=attempt)
                peer.ready(credit)
            elif frames[0][5] == PING:
                peer.say(PONG)
    stop = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    return lambda: (stop.set(), thread.join())


def forgeries(image):
    other = picture(999)
    return {"picture": features(other), "key": features(other, key_of(image)),
            "size": features(image, size=(960, 720)), "kind": png(), "script": b"<script>",
            "parameters": features(image, canon=CANON[:-1] + b"\1")}


@pytest.mark.parametrize("forged", forgeries(b""))
def test_a_worker_cannot_answer_for_another_picture(mesh, forged):
    mesh.start(services=["broker", "cacher"])
    until(lambda: mesh.command("status", check=False).returncode == 0, "the broker is up")
    image = picture(830)
    with Peer(mesh, "back").register("extract", 1) as worker:
        worker.ready()
        stop = answering(worker, forgeries(image)[forged])
        try:
            mesh.start_one("gateway")
            until(lambda: mesh.get("/livez").status == 200, "the gateway is up")
            assert post(mesh, image).status == 500
            assert post(mesh, image).status == 500  # nothing is kept
        finally:
            stop()


@pytest.mark.parametrize("forged", forgeries(b""))
def test_a_cacher_cannot_answer_for_another_picture(mesh, forged):
    mesh.start(services=["broker", "extractor", "gateway"], gateway=COLD)
    image = picture(840)
    with Peer(mesh, "back").register("cache", 8, 0) as cacher:
        cacher.ready(8)
        stop = answering(cacher, forgeries(image)[forged], "hit", 8)
        try:
            answer = post(mesh, image)
            assert answer.cache == "miss" and is_right(answer, image)
        finally:
            stop()
