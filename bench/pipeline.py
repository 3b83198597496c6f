#!/usr/bin/python3
"""pipeline.py - one picture from its bytes to its features, in one process, one thread.

Decode, denoise (h=10, 7, 21) and SIFT: siftmesh-extractor --image at each CPU level, beside
OpenCV (imdecode, fastNlMeansDenoising, detectAndCompute) and beside siftmesh with VLFeat.
Interleaved: each round runs every one once; medians. Pictures: the PHOTOs given, else a
generated JPEG of 640x480 and one of 1920x1080.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.harness.nlm import NlmTool  # noqa: E402
from tests.harness.scenes import encoded  # noqa: E402

SIZES = [(640, 480), (1920, 1080)]
EXTRACTOR = ROOT / "build/release/bin/siftmesh-extractor"
NLM_TOOL = ROOT / "build/release/bin/nlm_tool"


def by_opencv(data):
    """(ms, features)"""
    start = time.perf_counter()
    picture = cv2.imdecode(numpy.frombuffer(data, "u1"), cv2.IMREAD_GRAYSCALE)
    quiet = cv2.fastNlMeansDenoising(picture, None, 10, 7, 21)
    keypoints, _ = cv2.SIFT_create().detectAndCompute(quiet, None)
    return (time.perf_counter() - start) * 1e3, len(keypoints)


def by_extractor(path, flags):
    done = subprocess.run([EXTRACTOR, "--image", path, "--repeat", "3", "--json", *flags],
                          capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    stages = ("decode_us", "denoise_us", "sift_us")
    return sum(result[stage]["median"] for stage in stages) / 1e3, result["count"]


def flags_of_ours():
    """{name: flags}, for every CPU level of this machine."""
    tool = NlmTool(NLM_TOOL)
    ours = {f"siftmesh {level}": ["--cpu", level] for level in reversed(tool.levels())}
    tool.close()
    return ours | {"siftmesh sift=vlfeat": ["--sift", "vlfeat"]}


def measure(path, ours, rounds):
    data = path.read_bytes()
    runs = {"OpenCV": []} | {name: [] for name in ours}
    for _ in range(rounds):
        runs["OpenCV"].append(by_opencv(data))
        for name, flags in ours.items():
            runs[name].append(by_extractor(path, flags))
    theirs = [ms for ms, _ in runs["OpenCV"]]
    return {name: {"ms": statistics.median(ms for ms, _ in rows), "features": rows[0][1],
                   "ratio": statistics.median(t / ms for t, (ms, _) in zip(theirs, rows))}
            for name, rows in runs.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="*", metavar="PHOTO", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="640x480 only")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    ours = flags_of_ours()
    with tempfile.TemporaryDirectory() as folder:
        photos = options.photos
        if not photos:
            for width, height in SIZES[: 1 if options.quick else None]:
                photos.append(Path(folder) / f"scene-{width}x{height}.jpg")
                photos[-1].write_bytes(encoded(".jpg", width=width, height=height, seed=7))
        result = {path.name: measure(path, ours, options.rounds) for path in photos}
    if options.json:
        print(json.dumps(result, indent=1))
        return
    for name, table in result.items():
        print(f"{name}: decode, denoise, SIFT; one thread, medians of {options.rounds} rounds")
        for who, row in table.items():
            ratio = "" if who == "OpenCV" else f"{row['ratio']:6.1f} times OpenCV"
            print(f"  {who:22}{row['ms']:10.1f} ms {row['features']:7} features {ratio}")


if __name__ == "__main__":
    main()
