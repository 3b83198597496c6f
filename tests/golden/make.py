#!/usr/bin/python3
"""Write the golden byte vectors of SMP/1 beside this file.

A second, independent statement of the formats of docs/PROTOCOL.md: Python's struct,
hashlib and msgpack, and none of the C code. tests/unit/proto/ encodes and decodes the
same values. A vector changes only when the wire does: run this after a field was added
to bodies.tbl or params.tbl, and read the difference.
"""
import base64
import hashlib
import io
import json
import pathlib
import re
import struct
import zipfile

import msgpack
import numpy

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"


def write(name, data, about):
    """A comment, then 32 bytes a line."""
    digits = data.hex()
    lines = [digits[i:i + 64] for i in range(0, len(digits), 64)]
    (HERE / f"{name}.hex").write_text("\n".join([f"# {about}", *lines]) + "\n")


def envelope():
    request, trace = bytes(range(0x10, 0x20)), bytes(range(0xa0, 0xb0))
    return (b"SMP1" + struct.pack("<BBHHBBI", 1, 16, 0x8001, 10, 2, 3, 0x11223344)
            + request + struct.pack("<Q", 0x0102030405060708) + trace
            + struct.pack("<Q", 0xf1f2f3f4f5f6f7f8))


def body_fields():
    """{body: [(type, field, max)]} as bodies.tbl has them."""
    bodies = {}
    text = re.sub(r"/\*.*?\*/", "", (PROTO / "bodies.tbl").read_text(), flags=re.S)
    for line in text.splitlines():
        if match := re.match(r"BODY\((\w+)\)", line):
            bodies[match[1]] = []
        elif match := re.match(r"(STR|UINT|BYTES)\((\w+), (\w+)(?:, (\d+))?\)", line):
            bodies[match[2]].append((match[1], match[3], int(match[4] or 0)))
    return bodies


def body_value(index, kind, name, limit):
    if kind == "UINT":
        return 1 << (11 * index + 3) % 64 | 1
    if kind == "STR":
        return name[:limit]
    return bytes(i & 0xff for i in range(limit))


def params(denoise=0, h=10.0, template=7, search=21, first_octave=-1, octave_layers=3,
           contrast=0.04, edge=10.0, sigma=1.6, max_features=0, upright=0, norm=0, orient=0,
           sift=0, spread=0):
    return struct.pack("<BBdiiiidddiBBBBB", 1, denoise, h, template, search, first_octave,
                       octave_layers, contrast, edge, sigma, max_features, upright, norm,
                       orient, sift, spread)


OTHER_PARAMS = dict(denoise=1, h=0.5, template=3, search=35, first_octave=4,
                    octave_layers=10, contrast=0.0, edge=1000.0, sigma=0.6,
                    max_features=1000000, upright=1, norm=1, orient=1, sift=1, spread=1)


def key(image, kind, canonical):
    algorithm = re.search(r'PROTO_ALGORITHM "(.*)"', (PROTO / "key.h").read_text())[1]
    return hashlib.sha256(image + bytes([kind]) + canonical + algorithm.encode()).digest()


KEYPOINTS = [[12.5, 7.25, 1.6, 0.5, 0.03125], [600.1, 400.9, 20, 6.25, 0.1]]
DESCRIPTORS = [list(range(128)), [255 - i for i in range(128)]]
IMAGE = hashlib.sha256(b"picture").digest()
PARAMS_JSON = dict(denoise="nlm", h=10, template=7, search=21, first_octave=-1,
                   octave_layers=3, contrast=0.04, edge=10, sigma=1.6, max_features=0,
                   upright=0, norm="l2", orient="exif", sift="native", spread=0)


def blob():
    canonical = params()
    head = b"SMFB" + struct.pack("<HHIIIIII", 1, 160, 2, 640, 480, 0, len(canonical), 0)
    head += IMAGE + key(IMAGE, 1, canonical) + canonical
    return (head.ljust(160, b"\0") + struct.pack("<10f", *sum(KEYPOINTS, []))
            + bytes(sum(DESCRIPTORS, [])))


def rendered_json(descriptors):
    result = {"key": key(IMAGE, 1, params()).hex(),
              "image": {"width": 640, "height": 480, "sha256": IMAGE.hex()},
              "params": PARAMS_JSON, "count": 2, "keypoints": KEYPOINTS}
    if descriptors is not None:
        result["descriptors"] = descriptors
    return json.dumps(result, separators=(",", ":"))


def rendered_msgpack():
    real = {name: float(PARAMS_JSON[name]) for name in ("h", "contrast", "edge", "sigma")}
    return msgpack.packb(json.loads(rendered_json(None)) | {
        "params": PARAMS_JSON | real,
        "keypoints": blob()[160:200],
        "descriptors": blob()[200:]})


def rendered_npz():
    arrays = {"keypoints": numpy.array(KEYPOINTS, "<f4"),
              "descriptors": numpy.array(DESCRIPTORS, "|u1"),
              "key": numpy.array(key(IMAGE, 1, params()).hex())}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, array in arrays.items():
            member, info = io.BytesIO(), zipfile.ZipInfo(f"{name}.npy")
            numpy.lib.format.write_array(member, array, version=(1, 0))
            info.create_system = 0
            archive.writestr(info, member.getvalue())
            info.external_attr = 0  # not before: writestr() makes 0600 of it
    return whole.getvalue()


def rendered_colmap():
    rows = [[13, 7.75, 1.6, 0.5], [600.6, 401.4, 20, 6.25]]
    lines = [" ".join(map(str, row + d)) for row, d in zip(rows, DESCRIPTORS)]
    return "\n".join(["2 128", *lines]) + "\n"


def rendered_lowe():
    angles = [-0.5, str(numpy.float32(2 * numpy.pi - 6.25))]
    lines = ["2 128"]
    for (x, y, scale, _, _), angle, descriptor in zip(KEYPOINTS, angles, DESCRIPTORS):
        lines.append(f"{y} {x} {scale} {angle}")
        for i in range(0, 128, 20):
            lines.append("".join(f" {d}" for d in descriptor[i:i + 20]))
    return "\n".join(lines) + "\n"


def main():
    write("envelope", envelope(), "A DONE with every field set.")
    for name, fields in body_fields().items():
        values = {f[1]: body_value(i, *f) for i, f in enumerate(fields)}
        write(f"body_{name}", msgpack.packb(values), f"The body {name}, every field set.")
    write("params_default", params(), "Canonical parameters, all defaults.")
    write("params_other", params(**OTHER_PARAMS), "Canonical parameters, none a default.")
    write("key_features", key(IMAGE, 1, params()), "Key of SHA-256('picture'), features.")
    write("key_denoise", key(IMAGE, 2, params()), "Key of SHA-256('picture'), denoised.")
    write("blob", blob(), "Two features of a picture of 640x480.")
    flat = bytes(sum(DESCRIPTORS, []))
    write("blob_msgpack", rendered_msgpack(), "The blob as msgpack.")
    write("blob_npz", rendered_npz(), "The blob as .npz.")
    (HERE / "blob_array.json").write_text(rendered_json(DESCRIPTORS))
    (HERE / "blob_base64.json").write_text(rendered_json(base64.b64encode(flat).decode()))
    (HERE / "blob_none.json").write_text(rendered_json(None))
    (HERE / "blob_colmap.txt").write_text(rendered_colmap())
    (HERE / "blob_lowe.sift").write_text(rendered_lowe())


main()
