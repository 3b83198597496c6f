"""The kernels on another architecture: cross-compiled for aarch64, run by qemu-user, and
every digest of tests/golden/vision.txt has to be the same."""

import shutil
import subprocess

import pytest

from tests.harness.mesh import ROOT, SLOWNESS

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"


def test_aarch64_gives_the_same_bytes(tmp_path):
    for program in (COMPILER, EMULATOR):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    # VLFeat is not there for aarch64; it is the one backend that may differ.
    sources = [p for p in (ROOT / "extractor/vision").glob("*.c") if "vlfeat" not in p.name]
    subprocess.run(
        [COMPILER, "-static", "-std=c11", "-D_GNU_SOURCE", "-O2", "-ffp-contract=off",
         "-fno-math-errno", f"-I{ROOT}", *sources, ROOT / "tests/kernels/digests.c", "-o",
         tmp_path / "digests", "-lm"], check=True)
    done = subprocess.run([EMULATOR, tmp_path / "digests", "auto"], capture_output=True,
                          text=True, timeout=300 * SLOWNESS)
    assert done.returncode == 0, done.stderr
    golden = (ROOT / "tests/golden/vision.txt").read_text().splitlines()
    wrong = [line for line in done.stdout.splitlines() if line not in golden]
    assert not wrong and len(done.stdout.splitlines()) == len(golden), wrong
