"""Non-local means at every CPU level beside OpenCV, bit by bit, on random pictures."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.harness.nlm import NlmTool
from tests.harness.photographs import photograph

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("SIFTMESH_BIN", ROOT / "build/release/bin"))
SLOWNESS = float(os.environ.get("SIFTMESH_TEST_SLOWNESS", "1"))
CASES = int(240 / SLOWNESS)


@pytest.fixture(scope="module")
def tool():
    tool = NlmTool(BIN / "nlm_tool")
    yield tool
    assert tool.close() == 0


def some_picture(rng):
    w = int(rng.integers(1, rng.choice([6, 40, 160, 900])))
    h = int(rng.integers(1, rng.choice([6, 40, 120])))
    noise = rng.integers(0, 256, (h, w)).astype(np.uint8)
    kind = rng.integers(0, 4)
    if kind == 1:  # smooth, so that many weights are large
        return cv2.GaussianBlur(noise, (0, 0), 3).reshape(h, w)
    if kind == 2:  # only the two ends of the range
        return np.where(noise > 127, 255, 0).astype(np.uint8)
    if kind == 3:  # little noise on a ramp
        ramp = np.arange(w) // 3 + np.arange(h)[:, None]
        return ((ramp + noise // int(rng.integers(4, 40))) % 256).astype(np.uint8)
    return noise


def some_params(rng, picture):
    template = int(rng.choice([3, 5, 7, 7, 9, 2 * rng.integers(0, 11) + 1]))
    search = 2 * int(rng.integers(0, 18)) + 1
    if picture.size * search * search > 8e6:  # keep OpenCV's own time in bounds
        search = min(search, 9)
    h = rng.choice([10, 13.6, 13.9, 255, 1e-20, rng.uniform(0.05, 16),
                    rng.uniform(10, 60)])
    return float(h), template, search


@pytest.mark.parametrize("first", range(0, CASES, 40))
def test_nlm_is_opencvs_at_every_level(tool, first):
    levels = tool.levels()
    assert "scalar" in levels
    for seed in range(first, first + 40):
        rng = np.random.default_rng(seed)
        picture = some_picture(rng)
        params = some_params(rng, picture)
        theirs = cv2.fastNlMeansDenoising(picture, None, *params)
        for level in levels:
            ours, _ = tool.run(picture, *params, level)
            assert np.array_equal(ours, theirs), (level, seed, picture.shape, params)


@pytest.mark.parametrize("name", ["oxford/graf/img1.ppm", "oxford/boat/img1.pgm",
                                  "vlfeat/roofs1.jpg"])
@pytest.mark.parametrize("params", [(10.0, 7, 21), (3.0, 7, 21), (20.0, 7, 21),
                                    (10.0, 5, 17), (30.0, 9, 11)])
def test_nlm_is_opencvs_on_photographs_at_every_level(tool, tmp_path, name, params):
    path = photograph(name, tmp_path)
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[:400, :]
    theirs = cv2.fastNlMeansDenoising(picture, None, *params)
    for level in tool.levels():
        if level == "scalar" and SLOWNESS > 1:
            continue
        ours, _ = tool.run(picture, *params, level)
        assert np.array_equal(ours, theirs), level


def test_sixteen_bits_are_the_same_at_every_level(tool):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        picture = some_picture(rng)[:, :200].astype(np.uint16) * 251
        picture += rng.integers(0, 200, picture.shape).astype(np.uint16)
        params = float(rng.uniform(0.5, 40)), 2 * int(rng.integers(0, 6)) + 1, 11
        first, _ = tool.run(picture, *params, "scalar")
        for level in tool.levels():
            ours, _ = tool.run(picture, *params, level)
            assert np.array_equal(ours, first), (level, seed)
