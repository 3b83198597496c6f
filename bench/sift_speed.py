#!/usr/bin/python3
"""sift_speed.py - our SIFT beside OpenCV's detectAndCompute and VLFeat, one thread each.

Interleaved: each round runs every one once, so that all see the same machine; medians of
CPU time, of a process each for ours and VLFeat: its first picture. VLFeat has one round at
12 megapixels.
Default parameters (first octave -1, contrast 0.04). Pictures: the PHOTOs given, else
mosaics of photographs at their own size from the folder named by SIFTMESH_TEST_DATA
(../shared/data), 640x480, 1920x1080 and 4000x3000. Resident size is the peak of a
process that reads the picture, extracts once and does nothing else.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.harness.nlm import NlmTool  # noqa: E402

DATA = Path(os.environ.get("SIFTMESH_TEST_DATA", ROOT.parent / "shared/data"))
TOOL = ROOT / "build/release/bin/sift_tool"
SIZES = [(640, 480), (1920, 1080), (4000, 3000)]
TILES = [
    "oxford/boat/img1.pgm", "oxford/graf/img1.ppm", "oxford/leuven/img1.ppm",
    "oxford/bikes/img1.ppm", "vlfeat/river1.jpg", "vlfeat/roofs1.jpg",
    "oxford/boat/img3.pgm", "oxford/graf/img3.ppm",
]


def mosaic(width, height):
    """Rows of photographs side by side, none scaled."""
    tiles = [cv2.imread(str(DATA / name), cv2.IMREAD_GRAYSCALE) for name in TILES]
    picture = np.zeros((height, width), np.uint8)
    row_px, used = min(tile.shape[0] for tile in tiles), 0
    for top in range(0, height, row_px):
        left = 0
        while left < width:
            tile = tiles[used % len(tiles)][: min(row_px, height - top), : width - left]
            picture[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            left, used = left + tile.shape[1], used + 1
    return picture


def by_tool(tool, path, *flags):
    """(features, ms)"""
    done = subprocess.run([tool, *flags, path], capture_output=True, text=True, check=True)
    count, ms, *_ = done.stdout.split()
    return int(count), float(ms)


def peak_mb(tool, path):
    """In a shell of its own: a child inherits the peak of whom it was forked from."""
    shell = ["/bin/sh", "-c", f"'{tool}' '{path}' & wait"]
    return int(subprocess.run(shell, capture_output=True, text=True).stdout.split()[2]) / 1024


def by_opencv(picture):
    start = time.process_time()
    keypoints, _ = cv2.SIFT_create().detectAndCompute(picture, None)
    return len(keypoints), (time.process_time() - start) * 1e3


def measure(tool, picture, path, levels, rounds):
    large = picture.size > 5e6
    runs = {}
    for i in range(min(rounds, 3) if large else rounds):
        runs.setdefault("opencv", []).append(by_opencv(picture))
        if i == 0 or not large:
            runs.setdefault("vlfeat", []).append(by_tool(tool, path, "-b", "vlfeat"))
        for level in levels:
            runs.setdefault(level, []).append(by_tool(tool, path, "-c", level))
    table = {
        name: {"features": rows[0][0], "ms": statistics.median(ms for _, ms in rows)}
        for name, rows in runs.items()
    }
    for row in table.values():
        row["times_opencv"] = table["opencv"]["ms"] / row["ms"]
        row["times_vlfeat"] = table["vlfeat"]["ms"] / row["ms"]
    return table


def machine_levels():
    tool = NlmTool(ROOT / "build/release/bin/nlm_tool")
    levels = tool.levels()
    tool.close()
    return levels


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=TOOL)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--levels", help="comma separated; else all of this machine")
    parser.add_argument("--quick", action="store_true", help="640x480 only")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("photos", nargs="*", metavar="PHOTO")
    args = parser.parse_args()
    if not args.photos and not (DATA / TILES[0]).exists():
        print(f"sift_speed: no pictures in {DATA}; set SIFTMESH_TEST_DATA", file=sys.stderr)
        return 77

    levels = args.levels.split(",") if args.levels else machine_levels()
    cv2.setNumThreads(1)
    pictures = [(p, cv2.imread(p, cv2.IMREAD_GRAYSCALE)) for p in args.photos]
    pictures = pictures or [(f"{w}x{h}", mosaic(w, h)) for w, h in SIZES[: 1 if args.quick else None]]
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in pictures:
            path = Path(folder) / "picture.pgm"
            cv2.imwrite(str(path), picture)
            table = measure(args.tool, picture, path, levels, args.rounds)
            result[name] = {"peak_mb": peak_mb(args.tool, path), "runs": table}
            if args.json:
                continue
            print(f"{name}: at most {result[name]['peak_mb']:.0f} MB resident", flush=True)
            for who, row in table.items():
                print(f"  {who:8}{row['ms']:10.1f} ms{row['times_opencv']:8.2f} times OpenCV"
                      f"{row['times_vlfeat']:8.2f} times VLFeat{row['features']:9} features",
                      flush=True)
    if args.json:
        print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
