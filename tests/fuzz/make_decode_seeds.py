"""Writes tests/fuzz/seeds/fuzz_decode: small pictures of our own, of each kind that the
decoders tell apart. Run it again when a kind is added: /usr/bin/python3 FILE."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy

FOLDER = Path(__file__).resolve().parent / "seeds/fuzz_decode"
W, H = 12, 10
y, x = numpy.mgrid[0:H, 0:W]
GREY = ((x * 21 + y * 13) % 256).astype(numpy.uint8)
RGB = numpy.dstack([GREY, GREY[::-1], 255 - GREY])


def opencv(name, picture, *options):
    ok, data = cv2.imencode(Path(name).suffix, picture, list(options))
    assert ok
    return data.tobytes()


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(bits, colour, rows, interlace=0, extra=b""):
    """`rows` are the bytes of each row; unfiltered."""
    head = struct.pack(">IIBBBBB", W, H, bits, colour, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data)
            + chunk(b"IEND", b""))


def adam7():
    """The rows of each pass of an interlaced grey picture."""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
                           (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        for row in GREY[y0::dy, x0::dx]:
            if len(row):
                yield row.tobytes()


def exif(jpeg, orientation):
    """`jpeg` with an APP1 block of one entry."""
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)
    block = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def text(kind, values, maxval=b"255 "):
    words = " ".join(str(int(v)) for v in values.ravel()).encode()
    return b"%s\n# comment\n%d %d\n%s%s\n" % (kind, W, H, maxval, words)


def seeds():
    grey = opencv("a.jpg", GREY, cv2.IMWRITE_JPEG_QUALITY, 40, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    small = [cv2.IMWRITE_JPEG_QUALITY, 40, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    yield "jpeg_grey", grey
    yield "jpeg_colour", opencv("a.jpg", RGB, *small)
    yield "jpeg_progressive", opencv("a.jpg", RGB, *small, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    yield "jpeg_restart", opencv("a.jpg", RGB, *small, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)
    yield "jpeg_turned", exif(grey, 6)
    yield "png_grey8", png(8, 0, [row.tobytes() for row in GREY])
    yield "png_grey16", png(16, 0, [(row.astype(">u2") * 257).tobytes() for row in GREY])
    yield "png_grey1", png(1, 0, [numpy.packbits(row > 99).tobytes() for row in GREY])
    yield "png_rgb", png(8, 2, [row.tobytes() for row in RGB])
    yield "png_palette", png(8, 3, [(row % 4).tobytes() for row in GREY],
                             extra=chunk(b"PLTE", bytes(range(12))) + chunk(b"tRNS", b"\0\1"))
    yield "png_alpha", png(8, 4, [numpy.dstack([row, row]).tobytes() for row in GREY])
    yield "png_interlaced", png(8, 0, adam7(), interlace=1)
    yield "webp_lossy", opencv("a.webp", RGB, cv2.IMWRITE_WEBP_QUALITY, 30)
    yield "webp_lossless", opencv("a.webp", RGB, cv2.IMWRITE_WEBP_QUALITY, 101)
    yield "webp_alpha", opencv("a.webp", numpy.dstack([RGB, GREY]),
                               cv2.IMWRITE_WEBP_QUALITY, 30)
    yield "pnm_p1", text(b"P1", GREY > 99, b"")
    yield "pnm_p2", text(b"P2", GREY)
    yield "pnm_p3", text(b"P3", RGB)
    yield "pnm_p4", b"P4 %d %d\n" % (W, H) + b"".join(numpy.packbits(r > 99).tobytes()
                                                      for r in GREY)
    yield "pnm_p5", b"P5 %d %d 255\n" % (W, H) + GREY.tobytes()
    yield "pnm_p5_16", b"P5 %d %d 999\n" % (W, H) + (GREY * 3.0).astype(">u2").tobytes()
    yield "pnm_p6", b"P6 %d %d 255\n" % (W, H) + RGB.tobytes()


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        assert len(data) < 1500, (name, len(data))
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
