#!/usr/bin/python3
"""kernels.py - non-local means at every CPU level beside OpenCV on one thread.

Every picture is scaled to each size and denoised in turn by OpenCV and by each level, for
so many rounds: the machine's moods hit all alike. A ratio is the median over the rounds
of OpenCV's time over ours in the same round; ours is the median of three runs. Times are
those of the processor: other work beside it adds little. Results are compared byte by
byte on the way.

Without photos: those of SIFTMESH_TEST_DATA (../shared/data), or a drawn scene. Run it
alone on the machine; pinned with `taskset -c 1` it is steadier.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.harness.nlm import NlmTool  # noqa: E402
from tests.harness.scenes import scene  # noqa: E402

DATA = Path(os.environ.get("SIFTMESH_TEST_DATA", ROOT.parent / "shared/data"))
PHOTOS = ["oxford/graf/img1.ppm", "oxford/boat/img1.pgm"]
SIZES = [(640, 480), (1920, 1080)]
PARAMS = [(10.0, 7, 21), (20.0, 7, 21), (10.0, 5, 17), (10.0, 9, 11), (30.0, 11, 35)]


def machine():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return os.uname().machine


def pictures(paths):
    """(name, grey picture)"""
    found = [Path(p) for p in paths] or [p for p in (DATA / n for n in PHOTOS) if p.exists()]
    for path in found:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            sys.exit(f"kernels.py: {path} is no picture")
        yield path.name, grey
    if not found:
        yield "scene", scene(1920, 1080)


def fitted(grey, size):
    """Scaled to cover `size`, and its middle."""
    width, height = size
    scale = max(width / grey.shape[1], height / grey.shape[0])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grown = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=method)
    grown = cv2.resize(grown, (max(width, grown.shape[1]), max(height, grown.shape[0])))
    y, x = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return np.ascontiguousarray(grown[y : y + height, x : x + width])


def measure(tool, levels, picture, params, rounds):
    times = {name: [] for name in ["opencv", *levels]}
    for _ in range(rounds):
        begin = time.process_time()
        theirs = cv2.fastNlMeansDenoising(picture, None, *params)
        times["opencv"].append(time.process_time() - begin)
        for level in levels:
            ours, runs = tool.run(picture, *params, level, 1 if level == "scalar" else 3)
            times[level].append(statistics.median(runs))
            if not np.array_equal(ours, theirs):
                sys.exit(f"kernels.py: {level} differs from OpenCV at {params}")
    return times


def row_of(name, size, params, times):
    row = {"photo": name, "width": size[0], "height": size[1],
           "h": params[0], "template": params[1], "search": params[2]}
    for level, seconds in times.items():
        row[f"{level}_ms"] = round(statistics.median(seconds) * 1e3, 2)
        if level != "opencv":
            ratios = [a / b for a, b in zip(times["opencv"], seconds)]
            row[f"{level}_ratio"] = round(statistics.median(ratios), 2)
    return row


def show(row, levels):
    text = "{photo:14} {width:4}x{height:<4} h {h:<4g} {template:2}/{search:<2}".format(**row)
    text += f"  OpenCV {row['opencv_ms']:8.1f} ms"
    for level in levels:
        text += f"  {level} {row[level + '_ms']:7.2f} ms {row[level + '_ratio']:5.1f}x"
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="*", metavar="PHOTO")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--level", action="append", help="only this level (repeatable)")
    parser.add_argument("--quick", action="store_true", help="640x480 only")
    parser.add_argument("--tool", default=ROOT / "build/release/bin/nlm_tool")
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    tool = NlmTool(arguments.tool)
    levels = [level for level in tool.levels()
              if not arguments.level or level in arguments.level]
    rows = []
    if not arguments.json:
        print(f"{machine()}, OpenCV {cv2.__version__} on one thread")
    for name, grey in pictures(arguments.photos):
        for size in SIZES[:1] if arguments.quick else SIZES:
            for params in PARAMS:
                times = measure(tool, levels, fitted(grey, size), params,
                                arguments.rounds)
                rows.append(row_of(name, size, params, times))
                if not arguments.json:
                    show(rows[-1], levels)
    tool.close()
    if arguments.json:
        json.dump({"machine": machine(), "opencv": cv2.__version__, "rows": rows},
                  sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
