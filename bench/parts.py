#!/usr/bin/python3
"""parts.py - ./dev bench kernels: denoising, SIFT, and a picture from bytes to features.

One program after the other, kernels.py, sift_speed.py and pipeline.py; each interleaves
ours at every CPU level with OpenCV (and VLFeat) on one thread, round by round, and gives
medians and ratios. With --json one object, {"machine", "opencv", "nlm", "sift",
"pipeline"}, the last three as each program prints them by itself.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.kernels import machine  # noqa: E402

FOLDER = Path(__file__).resolve().parent
PARTS = {"nlm": "kernels.py", "sift": "sift_speed.py", "pipeline": "pipeline.py"}
NO_PICTURES = 77


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="*", metavar="PHOTO")
    parser.add_argument("--json", action="store_true", help="one object for all parts")
    parser.add_argument("--rounds", type=int, help="of each part; else its own number")
    parser.add_argument("--quick", action="store_true", help="640x480 only")
    options = parser.parse_args()
    flags = ["--rounds", str(options.rounds)] if options.rounds else []
    flags += ["--quick"] if options.quick else []
    flags += ["--json"] if options.json else []

    result = {"machine": machine(), "opencv": cv2.__version__}
    for part, program in PARTS.items():
        if not options.json:
            print(f"== {part} ==", flush=True)
        done = subprocess.run([sys.executable, FOLDER / program, *flags, *options.photos],
                              stdout=subprocess.PIPE if options.json else None)
        if done.returncode not in (0, NO_PICTURES):
            sys.exit(f"parts.py: {program} ended with {done.returncode}")
        if options.json:
            result[part] = json.loads(done.stdout) if done.returncode == 0 else None
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
