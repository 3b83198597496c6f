"""The option cpu: slots without some of the processor's instructions, the same bytes."""

import json
import platform
import subprocess

import pytest

from tests.harness.mesh import BIN, Mesh
from tests.harness.scenes import encoded

LEVELS = ["avx2", "avx512"] if platform.machine() == "x86_64" else ["neon"]
FOREIGN = "neon" if platform.machine() == "x86_64" else "avx2"


def lines(process, message):
    """Of a log as JSON, one object a line."""
    found = [json.loads(line) for line in process.text().splitlines() if line[:1] == "{"]
    return [line for line in found if line["msg"] == message]


def answers(mesh):
    """What is computed for two pictures, denoised first; nothing comes from a cache."""
    pictures = [encoded(".png", seed=71), encoded(".pgm", seed=72)]
    got = [mesh.post("/v1/features?denoise=nlm", picture) for picture in pictures]
    assert [answer.status for answer in got] == [200, 200]
    assert [answer.cache for answer in got] == ["miss", "miss"]
    return [answer.body for answer in got]


def test_slots_without_instructions_give_the_same_bytes_and_the_log_says_so(tmp_path):
    bodies, best = {}, None
    for level in ["scalar", "auto", *LEVELS]:
        if best and level in LEVELS and LEVELS.index(level) > LEVELS.index(best):
            continue  # this machine has less
        (tmp_path / level).mkdir()
        mesh = Mesh(tmp_path / level)
        try:
            mesh.start(extractor={"slots": 1, "cpu": level})
            (chosen,) = lines(mesh.processes["extractor"], "kernels chosen")
            best = chosen["best"]
            assert chosen["cpu"] == (best if level == "auto" else level)
            bodies[level] = answers(mesh)
        finally:
            mesh.stop()
    assert "scalar" in bodies and "auto" in bodies
    for level, got in bodies.items():
        assert got == bodies["scalar"], level


def test_a_level_that_this_machine_lacks_is_an_error_that_says_so(mesh):
    mesh.start(services=["broker"])
    process = mesh.start_one("extractor", cpu=FOREIGN)
    process.killed = True  # by its own word
    assert process.wait() != 0
    (line,) = lines(process, "this processor lacks the instructions of the option cpu")
    assert line["cpu"] == FOREIGN


def test_a_level_that_does_not_exist_is_refused_with_those_that_do(mesh):
    mesh.start(services=["broker"])
    process = mesh.start_one("extractor", cpu="pentium")
    process.killed = True
    assert process.wait() == 64
    assert '--cpu is "pentium", must be auto, scalar, avx2, avx512 or neon' in process.text()


def test_offline_a_level_that_is_not_there_is_refused(tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(".png", seed=73))
    done = subprocess.run([BIN / "siftmesh-extractor", "--image", photo, "--cpu", FOREIGN],
                          capture_output=True, text=True)
    assert done.returncode == 64 and "this processor lacks" in done.stderr
