"""Pictures for a load, each with the answer that it must get, byte by byte.

    book = Book(folder)            # runs siftmesh-extractor --image for each base picture
    picture = book.fresh(random)   # never asked for before
    picture.is_answer(bytes)

A base picture is a JPEG. Bytes after its end change its hash and its content key and
nothing else, so that any number of different requests have known answers: the offline
pipeline's blob with the two digests of its header in their place. The digests are
computed here, not by the product. verify() holds the trick itself against the offline
pipeline.
"""

import hashlib
import os
import subprocess
import sys
import urllib.parse

from tests.harness.mesh import BIN, ROOT
from tests.harness.scenes import encoded

sys.path.insert(0, str(ROOT / "client/python"))
import siftmesh  # noqa: E402

# (width, height, seed, parameters): light, middle and slow ones; about 6, 18 and 30 ms.
MIXED = (
    (320, 240, 901, {}), (320, 240, 902, {"max_features": 50}), (640, 480, 903, {}),
    (640, 480, 904, {"upright": 1}), (240, 180, 905, {"sift": "vlfeat"}),
    (240, 180, 906, {"sift": "vlfeat", "denoise": "none"}),
)
# About 2 to 13 ms: many requests a second on a small machine.
LIGHT = (
    (160, 120, 911, {}), (200, 150, 912, {"max_features": 20}), (320, 240, 913, {}),
    (240, 180, 914, {"upright": 1}), (120, 90, 915, {"sift": "vlfeat"}),
)
# Alike in bytes and work, about 30 ms: so that a refusal for bytes does not choose the
# work, and ten times the capacity is not the generator's own limit.
EVEN = tuple((800, 600, seed, {}) for seed in range(921, 925))
DIGESTS = slice(32, 96)  # of the blob: picture and key, docs/PROTOCOL.md section 8


class Base:
    def __init__(self, folder, number, width, height, seed, parameters):
        self.bytes = encoded(".jpg", width=width, height=height, seed=seed)
        self.parameters = parameters
        self.canonical = siftmesh.canonical(parameters)
        self.query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
        self.folder, self.number = folder, number
        self.blob = self.offline(self.bytes)

    def offline(self, picture):
        """The blob of the pipeline without a mesh."""
        photo, out = (self.folder / f"offline-{self.number}{s}" for s in (".jpg", ".bin"))
        photo.write_bytes(picture)
        words = [str(BIN / "siftmesh-extractor"), "--image", photo, "--output", out]
        for name, value in self.parameters.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return out.read_bytes()


class Picture:
    """One thing to ask for."""

    def __init__(self, base, suffix):
        self.base, self.suffix = base, suffix
        self.bytes = base.bytes + suffix
        self.sha256 = hashlib.sha256(self.bytes).digest()
        self.key = hashlib.sha256(self.sha256 + b"\x01" + base.canonical
                                  + siftmesh.ALGORITHM).digest()

    @property
    def path(self):
        return "/v1/features" + self.base.query

    def is_answer(self, blob):
        want = self.base.blob
        return (len(blob) == len(want) and blob[:32] == want[:32]
                and blob[DIGESTS] == self.sha256 + self.key and blob[96:] == want[96:])


class Book:
    """Known pictures (asked for again and again) and fresh ones."""

    def __init__(self, folder, bases=MIXED, known=8):
        self.bases = [Base(folder, n, *base) for n, base in enumerate(bases)]
        self.run = os.urandom(8)  # other pictures in every run
        self.count = 0
        self.known = [self.make(self.bases[n % len(self.bases)]) for n in range(known)]

    def make(self, base):
        self.count += 1
        return Picture(base, self.run + self.count.to_bytes(8, "little"))

    def fresh(self, random):
        return self.make(random.choice(self.bases))

    def verify(self):
        """The answers are those of the offline pipeline, digests and all."""
        for base in self.bases:
            picture = self.make(base)
            assert picture.is_answer(base.offline(picture.bytes)), picture.path
            assert not picture.is_answer(base.blob), "another picture's answer is none"
