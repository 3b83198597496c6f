"""Jobs are admitted by the memory that they will need, told from the picture's head."""

import signal
import threading

import pytest

from tests.harness.mesh import ROOT, until
from tests.harness.scenes import encoded

SLOW = "/v1/features?sift=vlfeat"  # half a second and 112 MB at 640x480


def running(mesh):
    return mesh.status()["services"]["extract"]["running"]


def post_all(mesh, pictures):
    """Post them at once; the threads, and the answers that they append to."""
    answers = []

    def post(picture):
        answers.append(mesh.post(SLOW, picture))

    threads = [threading.Thread(target=post, args=(p,)) for p in pictures]
    for thread in threads:
        thread.start()
    return threads, answers


def pictures(count, seed):
    return [encoded(".png", width=640, height=480, seed=seed + i) for i in range(count)]


def test_large_pictures_do_not_run_together_above_the_budget(mesh):
    budget = 150 << 20  # one of them, not two
    mesh.start(broker={"memory_budget": budget}, extractor={"slots": 2})
    threads, answers = post_all(mesh, pictures(4, seed=100))
    most, seen = 0, 0
    while any(thread.is_alive() for thread in threads):
        state = mesh.status()
        assert state["cost"] <= budget
        most = max(most, state["cost"])
        seen = max(seen, state["services"]["extract"]["running"])
    assert [answer.status for answer in answers] == [200] * 4
    assert seen == 1 and most > 100 << 20


def test_with_room_for_two_they_run_together(mesh):
    mesh.start(broker={"memory_budget": 300 << 20}, extractor={"slots": 2})
    threads, answers = post_all(mesh, pictures(6, seed=200))
    until(lambda: running(mesh) == 2, "two jobs run at once")
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 6
    assert mesh.status()["cost"] == 0


def refusal(mesh, picture, query=""):
    answer = mesh.post("/v1/features" + query, picture)
    assert answer.status == 422
    document = answer.json()
    assert document["code"] == "too_many_pixels" and "memory_budget" in document["detail"]
    return document


def test_what_needs_more_than_the_whole_budget_is_refused_with_both_numbers(mesh):
    mesh.start(broker={"memory_budget": 20 << 20})
    large = refusal(mesh, encoded(".jpg", width=2000, height=1500))
    assert large["limit"] == 20 << 20 and 60e6 < large["actual"] < 200e6
    assert mesh.post("/v1/features", encoded(".jpg")).status == 200
    # The parameters count, too.
    assert mesh.post("/v1/features?sift=vlfeat&first_octave=0", encoded(".jpg")).status == 200
    assert refusal(mesh, encoded(".jpg"), "?sift=vlfeat")["actual"] > 20 << 20


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".pgm"])
def test_the_python_client_states_the_same_cost(mesh, suffix):
    import sys
    sys.path.insert(0, str(ROOT / "client/python"))
    import siftmesh
    mesh.start(broker={"memory_budget": 1})
    picture = encoded(suffix, width=333, height=222)
    with siftmesh.Mesh(f"ipc://{mesh.runtime}/front.sock") as client:
        for parameters, query in [({}, ""), ({"sift": "vlfeat"}, "?sift=vlfeat"),
                                  ({"max_features": 100}, "?max_features=100"),
                                  ({"denoise": "none", "sigma": 5.0, "first_octave": 0},
                                   "?denoise=none&sigma=5&first_octave=0")]:
            with pytest.raises(siftmesh.Error) as error:
                client.features(picture, **parameters)
            assert error.value.code == "too_many_pixels"
            assert error.value.actual == refusal(mesh, picture, query)["actual"]


def test_results_that_find_their_gateway_slow_are_held_and_none_is_lost(mesh):
    """Far more of them than unsent_bytes, while it reads nothing for a moment."""
    mesh.start(broker={"unsent_bytes": 65536, "heartbeat_ms": 20000})
    gateway, count = mesh.processes["gateway"], 5
    threads, answers = post_all(mesh, pictures(count, 900))
    # With all at the broker what is left to do needs no gateway.
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_mesh_submitted_total")
          >= 2 * count, "all were looked up and submitted")
    gateway.signal(signal.SIGSTOP)
    try:
        until(lambda: mesh.status()["counters"]["finals_held_total"] > 0, "results are held")
    finally:
        gateway.signal(signal.SIGCONT)
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * count
    assert mesh.status()["counters"]["finals_lost_total"] == 0
