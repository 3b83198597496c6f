"""Real pictures where the test data has them, and generated ones in their place elsewhere.

A clone of the project alone has no photographs. A stand-in has the statistics that matter
to the tests that use it: detail at every scale (noise with a spectrum of 1/f, which
photographs have), edges, and a little sensor noise. The same name gives the same bytes.
Tests that need one very picture (references decoded by another program, Lowe's own keys)
have no stand-in and are skipped.
"""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from tests.harness.mesh import DATA
from tests.harness.scenes import scene

EXIF_SIZE = (600, 400)  # width and height of the upright stand-in
MUTATIONS = 24          # damaged files of a kind


def seed_of(name):
    return zlib.crc32(str(name).encode())


def textured(width, height, seed, noise=1.0):
    """A grey picture, uint8: shapes on a texture whose amplitudes fall with 1/f."""
    random = np.random.default_rng(seed)
    fx, fy = np.fft.rfftfreq(width), np.fft.fftfreq(height)
    frequency = np.hypot(fx, fy[:, None])
    frequency[0, 0] = 1
    phases = np.exp(2j * np.pi * random.random(frequency.shape))
    texture = np.fft.irfft2(phases / frequency, (height, width))
    texture = 35 * texture / texture.std()
    picture = 0.6 * scene(width, height, seed % 1000, noise=0) + 50 + texture
    picture = cv2.GaussianBlur(picture, (0, 0), 0.8)  # a lens
    picture += random.normal(0, noise, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def photograph(name, folder):
    """The path of the picture `name` of the test data, or of its stand-in in `folder`."""
    if (DATA / name).is_file():
        return DATA / name
    path = Path(folder) / name.replace("/", "-")
    picture = textured(640, 480, seed_of(name))
    if path.suffix in (".ppm", ".jpg"):
        picture = np.dstack([np.roll(picture, 3 * i, axis=1) for i in range(3)])
    assert cv2.imwrite(str(path), picture)
    return path


# ---- EXIF ----

# How an upright picture is stored under each orientation (EXIF 2.3, tag 0x0112).
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
}


def with_exif(jpeg, orientation):
    """The JPEG with an EXIF segment of this orientation behind its start marker."""
    tiff = struct.pack("<2sHI H HHIHH I", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def exif_landscape(number, folder):
    """One scene stored under EXIF orientation `number` (0 is none that exists)."""
    real = DATA / f"exif/Landscape_{number}.jpg"
    if real.is_file():
        return real
    upright = textured(*EXIF_SIZE, seed_of("exif"))
    upright = np.dstack([upright, 255 - upright, np.roll(upright, 9, axis=0)])
    stored = np.ascontiguousarray(STORED[number or 1](upright))
    ok, jpeg = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert ok
    path = Path(folder) / f"landscape-{number}.jpg"
    path.write_bytes(with_exif(jpeg.tobytes(), number))
    return path


# ---- files made to break decoders ----


def png_chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, depth, color, rows):
    return (b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
            + png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b""))


def claiming(jpeg, width, height):
    """The JPEG with another size in its frame header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4:]


def bombs():
    """Tiny files that claim or hold enormous pictures, and truncated and empty ones."""
    jpeg = cv2.imencode(".jpg", textured(320, 240, 5))[1].tobytes()
    return {
        "empty.jpg": b"",
        "jpeg_header_65500x65500.jpg": claiming(jpeg, 65500, 65500),
        "jpeg_header_height0.jpg": claiming(jpeg, 320, 0),
        "jpeg_truncated_half.jpg": jpeg[:len(jpeg) // 2],
        "pgm_header_100000x100000.pgm": b"P5 100000 100000 255\n" + bytes(64),
        "pgm_header_negative.pgm": b"P5 -4 -4 255\n" + bytes(64),
        "png_gray1_30000x30000.png": png(30000, 30000, 1, 0, bytes(3751 * 30000)),
        "png_gray8_12000x12000.png": png(12000, 12000, 8, 0, bytes(12001 * 12000)),
        "png_gray8_2147483647x1_truncated.png": png(2147483647, 1, 8, 0, b""),
        "png_rgb8_0x0.png": png(0, 0, 8, 2, b""),
        "png_rgb8_65535x65535_truncated.png": png(65535, 65535, 8, 2, bytes(1000)),
    }


def mutated(good, seed):
    """A few bytes changed, a piece left out or doubled, or the end cut off."""
    random = np.random.default_rng(seed)
    bad = bytearray(good)
    for _ in range(int(random.integers(1, 6))):
        at, length = (int(n) for n in random.integers(0, len(bad) - 80, 2) % (1 << 20))
        kind = int(random.integers(0, 4))
        if kind == 0:
            bad[at:at + 4] = random.integers(0, 256, 4).astype(np.uint8).tobytes()
        elif kind == 1:
            del bad[at:at + length % 64]
        elif kind == 2:
            bad[at:at] = bad[at:at + length % 64]
        elif random.integers(0, 3) == 0:
            del bad[max(at, 100):]
            break
    return bytes(bad)


def hostile_files(kind, folder):
    """Paths of files of a kind: bombs, png_corrupt or jpeg_corrupt."""
    if (DATA / kind).is_dir():
        return sorted(p for p in (DATA / kind).rglob("*") if p.is_file()
                      and not p.name.startswith(("README", "LICENSE", "COPYING")))
    if kind == "bombs":
        made = bombs()
    else:
        suffix = {"png_corrupt": ".png", "jpeg_corrupt": ".jpg"}[kind]
        good = cv2.imencode(suffix, textured(160, 120, 6))[1].tobytes()
        made = {f"{kind}-{i}{suffix}": mutated(good, i) for i in range(MUTATIONS)}
    for name, content in made.items():
        (Path(folder) / name).write_bytes(content)
    return sorted(Path(folder) / name for name in made)
