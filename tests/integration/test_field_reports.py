"""Kinds of files and clients that public reports of other services and decoders tell of.

Each held when it was first tried; it has to go on holding. Pictures are generated and then
given the defect or the oddity that the report names, so no test data is needed.
"""

import shutil
import struct
import subprocess
import zlib

import cv2
import numpy as np
import pytest

from tests.harness.offline import EX_DATAERR, decoded, features, run
from tests.harness.photographs import png_chunk, textured, with_exif

WIDTH, HEIGHT = 160, 120


def jpeg_of(picture, *flags):
    ok, data = cv2.imencode(".jpg", picture, [*flags])
    assert ok
    return data.tobytes()


@pytest.fixture(scope="module")
def picture():
    return textured(WIDTH, HEIGHT, 3)


# ---- JPEG: the same pixels as without the oddity ----

XMP = b"http://ns.adobe.com/xap/1.0/\0" + b" " * 50000
SCAN = b"\xff\xda"


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def behind_start(jpeg, what):
    return jpeg[:2] + what + jpeg[2:]


def spectral_end_zero(jpeg):
    at = jpeg.index(SCAN) + 2 + struct.unpack(">H", jpeg[jpeg.index(SCAN) + 2:][:2])[0]
    return jpeg[: at - 2] + b"\0" + jpeg[at - 1 :]


def fill_bytes(jpeg):
    at = jpeg.index(SCAN)
    return jpeg[:at] + b"\xff\xff\xff" + jpeg[at:]


JPEG_ODDITIES = {
    "another JPEG behind it, as MPO has": lambda j: j + j,
    "a film behind it, as motion photos have": lambda j: j + b"\0\0\0\x18ftypmp42" + bytes(4000),
    "random bytes behind it": lambda j: j + np.random.default_rng(1).bytes(3000),
    "a wrong spectral end in its scan": spectral_end_zero,
    "fill bytes before a marker": fill_bytes,
    "an empty comment": lambda j: behind_start(j, segment(0xFE, b"")),
    "a comment of one byte": lambda j: behind_start(j, segment(0xFE, b"x")),
    "40 segments of ICC": lambda j: behind_start(j, segment(0xE2, b"ICC_PROFILE\0" + bytes(60000)) * 40),
    "a fragment between segments": lambda j: j[:20] + b"\0\1\2\3\4\5\6" + j[20:],
}


@pytest.mark.parametrize("name", JPEG_ODDITIES)
def test_a_jpeg_with_an_oddity_has_the_pixels_of_one_without(tmp_path, picture, name):
    good = jpeg_of(picture)
    (tmp_path / "good.jpg").write_bytes(good)
    (tmp_path / "odd.jpg").write_bytes(JPEG_ODDITIES[name](good))
    want = decoded(tmp_path / "good.jpg", tmp_path)
    assert np.array_equal(decoded(tmp_path / "odd.jpg", tmp_path), want)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_jpeg_that_is_cut_is_refused_and_not_shown_grey(tmp_path, picture, share):
    good = jpeg_of(picture)
    (tmp_path / "cut.jpg").write_bytes(good[: int(len(good) * share)])
    done = run(tmp_path / "cut.jpg")
    assert done.returncode == EX_DATAERR and done.stderr


def exif_ifd_loop(jpeg):
    """Its first directory names itself as the next one."""
    tiff = struct.pack("<2sHI H HHIHH I", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 8)
    return behind_start(jpeg, segment(0xE1, b"Exif\0\0" + tiff))


EXIF_ORDERS = {
    "50 KB of XMP before it": lambda j: behind_start(with_exif(j, 6), segment(0xE1, XMP)),
    "JFIF before it": lambda j: j[:20] + with_exif(j, 6)[2:38] + j[20:],
    "a directory that loops": exif_ifd_loop,
}


@pytest.mark.parametrize("name", EXIF_ORDERS)
def test_an_orientation_is_found_behind(tmp_path, picture, name):
    good = jpeg_of(picture)
    assert good[2:4] == b"\xff\xe0" and good[4:6] == b"\0\x10", "JFIF ends at byte 20"
    (tmp_path / "turned.jpg").write_bytes(EXIF_ORDERS[name](good))
    assert decoded(tmp_path / "turned.jpg", tmp_path).shape == (WIDTH, HEIGHT)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_means_upright(tmp_path, picture, orientation):
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg_of(picture), orientation))
    assert decoded(tmp_path / "a.jpg", tmp_path).shape == (HEIGHT, WIDTH)


# ---- PNG ----


def png_of(picture):
    ok, data = cv2.imencode(".png", picture)
    assert ok
    return data.tobytes()


def before_pixels(png, chunks):
    at = png.index(b"IDAT") - 4
    return png[:at] + chunks + png[at:]


def bad_sum(chunk):
    return chunk[:-4] + bytes(byte ^ 0x55 for byte in chunk[-4:])


PNG_ODDITIES = {
    "a colour profile with a bad checksum":
        lambda p: before_pixels(p, bad_sum(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"y" * 99)))),
    "a compressed text of 100 MB":
        lambda p: before_pixels(p, png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100 << 20), 9))),
    "20000 texts": lambda p: before_pixels(p, png_chunk(b"tEXt", b"a\0b") * 20000),
    "junk behind its end": lambda p: p + b"junk" * 1000,
}


@pytest.mark.parametrize("name", PNG_ODDITIES)
def test_a_png_with_an_oddity_has_the_pixels_of_one_without(tmp_path, picture, name):
    (tmp_path / "odd.png").write_bytes(PNG_ODDITIES[name](png_of(picture)))
    assert np.array_equal(decoded(tmp_path / "odd.png", tmp_path), picture)


# ---- features ----


@pytest.mark.parametrize("sift", ["native", "vlfeat"])
@pytest.mark.parametrize("width, height", [(1, 1), (1, 300), (300, 1), (3, 50), (33, 33)])
def test_small_and_narrow_pictures_have_only_sound_features(tmp_path, sift, width, height):
    cv2.imwrite(str(tmp_path / "a.png"), textured(300, 300, 4)[:height, :width])
    for octave in (-1, 0, 2, 4):
        keypoints, descriptors = features(tmp_path / "a.png", tmp_path, denoise="none",
                                          contrast=0.01, first_octave=octave, sift=sift)
        assert np.isfinite(keypoints).all()
        assert (keypoints[:, :2] >= -0.5).all()
        assert (keypoints[:, 0] <= width - 0.5).all() and (keypoints[:, 1] <= height - 0.5).all()
        assert descriptors.any(axis=1).all(), "a descriptor of zeros"
        assert len(np.unique(keypoints, axis=0)) == len(keypoints), "a keypoint twice"


def test_a_mirrored_picture_has_mirrored_keypoints(tmp_path):
    """A bias of half a pixel was reported of others: positions may not lean to a side."""
    scene = textured(320, 240, 5)
    cv2.imwrite(str(tmp_path / "a.png"), scene)
    cv2.imwrite(str(tmp_path / "b.png"), scene[:, ::-1])
    plain, _ = features(tmp_path / "a.png", tmp_path, denoise="none")
    mirrored, _ = features(tmp_path / "b.png", tmp_path, denoise="none")
    back = mirrored[:, :2] * (-1, 1) + (319, 0)
    apart = np.array([(back - point).tolist()[np.abs(back - point).sum(1).argmin()]
                      for point in plain[:, :2]])
    near = apart[np.abs(apart).sum(1) < 1]
    assert len(near) > 0.9 * len(plain)
    assert np.abs(near.mean(axis=0)).max() < 0.01


def test_a_turned_file_has_the_features_of_the_turned_picture(tmp_path):
    """Byte by byte: EXIF only says how the same pixels are stored."""
    scene = textured(200, 150, 6)
    stored = np.ascontiguousarray(scene.T[::-1])  # orientation 6
    exif = struct.pack("<2sHI H HHIHH I", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    (tmp_path / "turned.png").write_bytes(before_pixels(png_of(stored), png_chunk(b"eXIf", exif)))
    (tmp_path / "plain.png").write_bytes(png_of(scene))
    turned = features(tmp_path / "turned.png", tmp_path)
    plain = features(tmp_path / "plain.png", tmp_path)
    assert len(plain[0]) > 50
    assert np.array_equal(turned[0], plain[0]) and np.array_equal(turned[1], plain[1])


# ---- clients ----

CURL = ["curl", "-sS", "--max-time", "60"]
URL = "http://127.0.0.1:{port}/v1/features"
BIN_TYPE = "Accept: application/octet-stream"

CLIENTS = {
    "curl, a file": [*CURL, "-H", BIN_TYPE, "--data-binary", "@{file}", URL],
    "curl -T": [*CURL, "-H", BIN_TYPE, "-T", "{file}", URL],
    "curl -T - as POST": ["sh", "-c", f"exec curl -sS -H '{BIN_TYPE}' -X POST -T - {URL} <'{{file}}'"],
    "curl, HTTP/1.0": [*CURL, "-0", "-H", BIN_TYPE, "--data-binary", "@{file}", URL],
    "curl, asks for HTTP/2": [*CURL, "--http2", "-H", BIN_TYPE, "--data-binary", "@{file}", URL],
    "curl, waits for 100": [*CURL, "-H", BIN_TYPE, "-H", "Expect: 100-continue",
                            "--data-binary", "@{file}", URL],
    "curl, a form": [*CURL, "-H", BIN_TYPE, "-F", "file=@{file}", URL],
    "wget": ["wget", "-q", "-O", "-", "--header", BIN_TYPE, "--post-file", "{file}", URL],
    "requests, a generator": ["/usr/bin/python3", "-c", """
import requests, sys
def pieces():
    with open("{file}", "rb") as file:
        while piece := file.read(999):
            yield piece
answer = requests.post(sys.argv[1], data=pieces(), headers=dict(Accept="application/octet-stream"))
sys.stdout.buffer.write(answer.content)""", URL],
    "aiohttp": ["/usr/bin/python3", "-c", """
import aiohttp, asyncio, sys
async def main():
    async with aiohttp.ClientSession(headers=dict(Accept="application/octet-stream")) as session:
        async with session.post(sys.argv[1], data=open("{file}", "rb")) as answer:
            sys.stdout.buffer.write(await answer.read())
asyncio.run(main())""", URL],
}


@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_gets_the_same_bytes(shared_mesh, tmp_path, picture, name):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg_of(picture))
    want = shared_mesh.post("/v1/features", photo.read_bytes(),
                            headers={"Accept": "application/octet-stream"})
    assert want.status == 200
    words = [word.replace("{file}", str(photo)).replace("{port}", str(shared_mesh.port()))
             for word in CLIENTS[name]]
    assert shutil.which(words[0]), f"{words[0]} is missing"
    done = subprocess.run(words, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == want.body


def test_ab_sees_no_failed_request(shared_mesh, tmp_path, picture):
    (tmp_path / "photo.jpg").write_bytes(jpeg_of(picture))
    url = URL.format(port=shared_mesh.port())
    for keep in ([], ["-k"]):
        done = subprocess.run(["ab", "-q", *keep, "-n", "60", "-c", "6", "-p", tmp_path / "photo.jpg",
                               "-T", "image/jpeg", url], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Complete requests:      60" in done.stdout
        assert "Failed requests:        0" in done.stdout and "Non-2xx" not in done.stdout


def test_a_tag_that_a_proxy_weakened_still_matches(shared_mesh, picture):
    """nginx with gzip sends our strong tag on as W/"...": RFC 9110, section 13.1.2."""
    answer = shared_mesh.post("/v1/features", jpeg_of(picture))
    tag = answer.headers["etag"]
    key = tag.strip('"').split("-")[0]
    again = shared_mesh.get(f"/v1/features/{key}", headers={"If-None-Match": "W/" + tag})
    assert again.status == 304
