"""A client that goes away stops the kernel loop that works for it.

Counted in steps of work that the slot did after it was told to stop; that a step at 640x480
is far below 50 ms of work is tests/unit/extractor/test_cancel.c's.
"""

import pytest

from tests.harness.mesh import until
from tests.harness.raw import Raw, chunked, post
from tests.harness.scenes import encoded

LARGE = encoded(".jpg", width=2400, height=1800, seed=5)
SMALL = encoded(".jpg", width=1200, height=900, seed=6)
TIMES = 6
# A second or so each. VLFeat's steps are octaves, and the grace must not end in one.
SLOW = {"nlm": ("/v1/features?h=40&template=21&search=35", LARGE),
        "denoise": ("/v1/denoise?h=40&template=21&search=35", LARGE),
        "vlfeat": ("/v1/features?sift=vlfeat&denoise=none", SMALL)}


def counter(mesh, name):
    return mesh.counter("monitor", f"siftmesh_extractor_{name}")


def cancelled(mesh):
    return sum(float(line.split()[-1])
               for line in mesh.get("/metrics").body.decode().split("\n")
               if line.startswith("siftmesh_gateway_requests_total")
               and 'status="cancelled"' in line)


@pytest.mark.parametrize("kind", SLOW)
def test_a_disconnect_reaches_the_slots_loop(mesh, kind):
    path, picture = SLOW[kind]
    mesh.start(extractor={"slots": 1, "abort_grace_ms": 20000}, monitor={"interval_ms": 50})
    slots = mesh.slot_pids()
    for i in range(TIMES):
        # Each picture is another one, or it would be asked of the cache.
        request = (post, chunked)[i % 2](picture + bytes([i]), path=path)
        with Raw(mesh.port()) as raw:
            raw.send(request)
            until(lambda: mesh.status()["services"]["extract"]["running"] == 1, "it runs")
        until(lambda: mesh.status()["services"]["extract"]["running"] == 0, "it was cancelled")
    until(lambda: counter(mesh, "jobs_aborted_total") == TIMES, "each was counted")
    assert cancelled(mesh) == TIMES
    assert counter(mesh, "jobs_done_total") == 0
    assert counter(mesh, "stop_seconds_count") == TIMES
    assert counter(mesh, "stop_steps_total") <= 2 * TIMES
    assert mesh.slot_pids() == slots, "the slot ended each job by itself"
    assert mesh.post("/v1/features", encoded(".png")).status == 200


def test_who_waits_for_the_same_picture_is_not_cancelled(mesh):
    mesh.start(extractor={"slots": 1})
    request = post(LARGE, path=SLOW["nlm"][0])
    with Raw(mesh.port()) as stays:
        with Raw(mesh.port()) as leaves:
            leaves.send(request)
            until(lambda: mesh.counter("gateway", "siftmesh_gateway_in_flight") == 1, "one waits")
            stays.send(request)
            until(lambda: mesh.counter("gateway", "siftmesh_gateway_in_flight") == 2, "two wait")
        status, headers, _ = stays.answer()
        assert status == 200 and headers["x-cache"] == "coalesced"
    assert cancelled(mesh) == 1
