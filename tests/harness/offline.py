"""`siftmesh-extractor --image`: the pipeline alone, without a mesh.

`denoised` with windows of one pixel writes the decoded picture unchanged, so `decoded`
compares decoders bit by bit.
"""

import subprocess

import cv2
import numpy as np

from tests.harness.mesh import BIN, SLOWNESS

EX_DATAERR = 65
BLOB_HEADER_BYTES = 160
FEATURE_BYTES = 148


def run(image, *arguments):
    return subprocess.run(
        [BIN / "siftmesh-extractor", "--image", image, *map(str, arguments)],
        capture_output=True, text=True, timeout=120 * SLOWNESS,
    )


def denoised(image, folder, **params):
    out = folder / "denoised.png"
    flags = [f"--{name}={value}" for name, value in params.items()]
    done = run(image, "--denoise-png", out, *flags)
    assert done.returncode == 0, done.stderr
    return cv2.imread(str(out), cv2.IMREAD_UNCHANGED)


def decoded(image, folder):
    return denoised(image, folder, template=1, search=1)


def blob_parts(blob):
    """(keypoints: x, y, scale, orientation, response; descriptors)"""
    body = blob[BLOB_HEADER_BYTES:]
    count = len(body) // FEATURE_BYTES
    assert len(body) == count * FEATURE_BYTES
    keypoints = np.frombuffer(body[: count * 20], "<f4").reshape(count, 5)
    return keypoints, np.frombuffer(body[count * 20 :], np.uint8).reshape(count, 128)


def features(image, folder, **params):
    out = folder / "features.bin"
    flags = [f"--{name}={value}" for name, value in params.items()]
    done = run(image, "--output", out, *flags)
    assert done.returncode == 0, done.stderr
    return blob_parts(out.read_bytes())
