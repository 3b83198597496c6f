"""Every process ends with 0 and leaks nothing; and the harness would tell.

Under `./dev asan` each process looks for leaks at its end (LeakSanitizer). Services do so in
every test, when its mesh is stopped. A slot that the extractor ends with its own end is
killed, so here each slot is made to end by itself, after one of every kind of job.
"""

import json

import pytest

from tests.harness import mesh as harness
from tests.harness.mesh import Mesh, until
from tests.harness.raw import Raw, post
from tests.harness.scenes import encoded


def slot_ends(mesh):
    """pid -> how it ended, from the extractor's log."""
    ends = {}
    for line in mesh.processes["extractor"].text().splitlines():
        entry = json.loads(line)
        if entry["msg"] == "slot ended":
            ends[entry["slot_pid"]] = entry["how"]
    return ends


def one_of_every_kind(mesh):
    """Jobs that end in every way, results of every format, and a client that leaves."""
    for suffix in (".jpg", ".png", ".webp", ".pgm"):
        assert mesh.post("/v1/features", encoded(suffix)).status == 200
    picture = encoded(".png", seed=8)
    for query in ("?denoise=none", "?sift=vlfeat", "?max_features=10&spread=1", "?upright=1"):
        assert mesh.post("/v1/features" + query, picture).status == 200
    assert mesh.post("/v1/denoise", picture).status == 200
    for broken in (picture[:500], encoded(".jpg")[:700], encoded(".webp")[:300], b"P5 9 9 255 "):
        assert mesh.post("/v1/features", broken).status == 422
    assert mesh.post("/v1/features", b"GIF89a").status == 415
    slow = encoded(".jpg", width=1600, height=1200)
    with Raw(mesh.port()) as raw:
        raw.send(post(slow, path="/v1/features?h=40&template=21&search=35"))
        until(lambda: mesh.status()["services"]["extract"]["running"] == 1, "it runs")
    until(lambda: mesh.status()["services"]["extract"]["running"] == 0, "it was cancelled")


def test_a_slot_ends_by_itself_and_leaks_nothing(mesh):
    mesh.start(extractor={"slots": 1, "abort_grace_ms": 60000})
    for _ in range(2):
        pid, = mesh.slot_pids()
        one_of_every_kind(mesh)
        assert mesh.slot_pids() == [pid]
        mesh.command("drain", 1)
        until(lambda: pid in slot_ends(mesh), "it was replaced", 60)
        assert slot_ends(mesh)[pid] == "exit 0"
        until(lambda: len(mesh.slot_pids()) == 1, "there is another one")


REPORT = "==7==ERROR: LeakSanitizer: detected memory leaks"


@pytest.mark.parametrize("says,status,wrong", [
    (REPORT, 0, "sanitizer report"), (REPORT, 99, "ended with 99"), ("", 1, "ended with 1"),
    ("x.c:1:2: runtime error: signed integer overflow", 0, "sanitizer report"), ("", 0, None)])
@pytest.mark.parametrize("name", harness.SERVICES)
def test_the_harness_tells_of_a_process_that_ended_badly(tmp_path, monkeypatch, name, says,
                                                         status, wrong):
    """With a script in the service's place."""
    program = tmp_path / f"siftmesh-{name}"
    program.write_text("#!/bin/sh\n"
                       f"trap 'echo \"{says}\" >&2; exit {status}' TERM\n"
                       "echo up\nwhile :; do sleep 0.05; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(harness, "BIN", tmp_path)
    mesh = Mesh(tmp_path)
    mesh.options = {name: {}}
    process = mesh.start_one(name)
    until(lambda: "up" in process.text(), "it is up")
    if wrong is None:
        mesh.stop()
    else:
        with pytest.raises(AssertionError, match=wrong):
            mesh.stop()


def test_the_harness_tells_of_a_command_that_leaks(tmp_path, monkeypatch):
    program = tmp_path / "siftmesh"
    program.write_text(f"#!/bin/sh\necho '{REPORT}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr(harness, "BIN", tmp_path)
    mesh = Mesh(tmp_path)
    with pytest.raises(AssertionError, match="LeakSanitizer"):
        mesh.command("status", check=False)
    mesh.stop()
