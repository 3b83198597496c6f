#!/usr/bin/python3
"""quality.py - how good are the features: siftmesh native and VLFeat, and OpenCV.

The scenes of Mikolajczyk et al. and one of rising noise; view 1 against each other view,
the best 2000 features of each by response. A feature counts where the homography puts it
inside the other picture.

  repeatability  pairs that are each other's nearest, within 2.5 px and a factor of
                 sqrt(2) in scale, out of the smaller number of features
  score          correct matches (nearest neighbour, ratio 0.75, within 2.5 px of the
                 homography), out of the same
  precision      correct matches out of all matches

Needs the folder named by SIFTMESH_TEST_DATA (../shared/data).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SIFTMESH_TEST_DATA", ROOT.parent / "shared/data"))
TOOL = ROOT / "build/release/bin/sift_tool"
SCENES = ["oxford/graf", "oxford/boat", "oxford/bikes", "oxford/leuven", "iguazu"]
NEAR_PX = 2.5
RATIO = 0.75


def grey(scene, view):
    path = next(iter(sorted((DATA / scene).glob(f"img{view}.p?m"))), None)
    return None if path is None else cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def homography(scene, view):
    path = DATA / scene / f"H1to{view}p"
    return np.loadtxt(path) if path.exists() else np.eye(3)


def by_tool(tool, backend, extra):
    def extract(picture):
        with tempfile.TemporaryDirectory() as folder:
            pgm, raw = Path(folder) / "in.pgm", Path(folder) / "out.raw"
            cv2.imwrite(str(pgm), picture)
            command = [tool, "-b", backend, "-o", raw, *extra, pgm]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            body = raw.read_bytes()
        n = len(body) // 148
        keypoints = np.frombuffer(body[: n * 20], "<f4").reshape(n, 5).astype(float)
        descriptors = np.frombuffer(body[n * 20 :], np.uint8).reshape(n, 128)
        return keypoints[:, :3], keypoints[:, 4], descriptors.astype(np.float32)

    return extract


def by_opencv(picture):
    found, descriptors = cv2.SIFT_create().detectAndCompute(picture, None)
    keypoints = np.array([[*k.pt, k.size / 2] for k in found])
    return keypoints, np.array([k.response for k in found]), descriptors


def best(features, limit):
    keypoints, responses, descriptors = features
    order = np.argsort(-responses, kind="stable")[:limit]
    return keypoints[order], descriptors[order]


def project(h, keypoints):
    """Positions, and sigmas by the local change of area."""
    x, y, sigma = keypoints.T
    u, v, w = h @ np.stack([x, y, np.ones_like(x)])
    scale = np.sqrt(np.abs(np.linalg.det(h) / w**3))
    return np.stack([u / w, v / w, sigma * scale], 1)


def inside(points, picture):
    h, w = picture.shape
    x, y = points[:, 0], points[:, 1]
    return (x >= 0) & (y >= 0) & (x <= w - 1) & (y <= h - 1)


def repeated(one, other):
    """Pairs each other's nearest, near enough, and of one scale."""
    apart = np.hypot(one[:, None, 0] - other[None, :, 0], one[:, None, 1] - other[None, :, 1])
    octaves = np.abs(np.log2(one[:, None, 2] / other[None, :, 2]))
    apart[octaves > 0.5] = np.inf
    forth, back = apart.argmin(1), apart.argmin(0)
    mutual = back[forth] == np.arange(len(one))
    return int((mutual & (apart[np.arange(len(one)), forth] <= NEAR_PX)).sum())


def matches(one, other, mapped, descriptors_one, descriptors_other):
    """(all, correct)"""
    pairs = cv2.BFMatcher().knnMatch(descriptors_one, descriptors_other, k=2)
    good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < RATIO * p[1].distance]
    correct = sum(
        np.hypot(*(mapped[m.queryIdx, :2] - other[m.trainIdx, :2])) <= NEAR_PX for m in good
    )
    return len(good), int(correct)


def compare(first, second, h, pictures):
    (k1, d1), (k2, d2) = first, second
    keep1 = inside(project(h, k1), pictures[1])
    keep2 = inside(project(np.linalg.inv(h), k2), pictures[0])
    k1, d1, k2, d2 = k1[keep1], d1[keep1], k2[keep2], d2[keep2]
    fewer = min(len(k1), len(k2))
    if fewer < 2:
        return [0.0, 0.0, 0.0]
    mapped = project(h, k1)
    found, correct = matches(k1, k2, mapped, d1, d2)
    return [repeated(mapped, k2) / fewer, correct / fewer, correct / max(found, 1)]


def scene_table(scene, extractors, limit):
    """{extractor: mean of each figure over the views}"""
    views = [v for v in range(1, 7) if grey(scene, v) is not None]
    pictures = {v: grey(scene, v) for v in views}
    table = {}
    for name, extract in extractors.items():
        features = {v: best(extract(pictures[v]), limit) for v in views}
        rows = [
            compare(features[1], features[v], homography(scene, v), (pictures[1], pictures[v]))
            for v in views[1:]
        ]
        table[name] = [float(x) for x in np.mean(rows, axis=0)]
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=TOOL, help="path of sift_tool")
    parser.add_argument("--features", type=int, default=2000)
    parser.add_argument("--only", action="append", help="native, vlfeat or opencv")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("params", nargs="*", help="NAME=VALUE for siftmesh's")
    args = parser.parse_args()
    if not (DATA / SCENES[0]).exists():
        print(f"quality: no pictures in {DATA}; set SIFTMESH_TEST_DATA", file=sys.stderr)
        return 77
    extractors = {
        "native": by_tool(args.tool, "native", args.params),
        "vlfeat": by_tool(args.tool, "vlfeat", args.params),
        "opencv": by_opencv,
    }
    if args.only:
        extractors = {name: extractors[name] for name in args.only}

    tables = {scene: scene_table(scene, extractors, args.features) for scene in SCENES}
    if args.json:
        print(json.dumps(tables, indent=1))
        return 0
    print(f"{'scene':15}{'features':10}{'repeatability':>14}{'score':>8}{'precision':>11}")
    for scene, table in tables.items():
        for name, (repeat, score, precision) in table.items():
            print(f"{scene:15}{name:10}{repeat:14.3f}{score:8.3f}{precision:11.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
