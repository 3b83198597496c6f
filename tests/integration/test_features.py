"""What a client of the gateway gets: features in every format, from every kind of file."""

import base64
import hashlib
import io
import json
import socket
import struct

import msgpack
import numpy
import pytest

from tests.harness.mesh import until
from tests.harness.photographs import exif_landscape
from tests.harness.raw import Raw, post
from tests.harness.scenes import encoded, scene

HEADER = 160


def split(blob):
    """Blob -> (width, height, keypoints, descriptors)."""
    magic, version, header, count, width, height = struct.unpack_from("<4sHHIII", blob)
    assert (magic, version, header) == (b"SMFB", 1, HEADER)
    assert len(blob) == HEADER + 148 * count
    points = numpy.frombuffer(blob, "<f4", 5 * count, HEADER).reshape(-1, 5)
    descriptors = numpy.frombuffer(blob, "u1", 128 * count, HEADER + 20 * count)
    return width, height, points, descriptors.reshape(-1, 128)


def features(mesh, picture, query="", accept="application/octet-stream", **more):
    answer = mesh.post("/v1/features" + query, picture,
                       headers={"Accept": accept, **more.pop("headers", {})}, **more)
    assert answer.status == 200, answer.body
    return answer


def test_a_miss_is_computed_and_a_second_request_is_a_hit_with_equal_bytes(shared_mesh):
    picture = encoded(".jpg", seed=11)
    first, second = features(shared_mesh, picture), features(shared_mesh, picture)
    assert (first.cache, second.cache) == ("miss", "hit")
    assert first.body == second.body
    width, height, points, descriptors = split(first.body)
    assert (width, height) == (320, 240)
    assert len(points) > 50
    assert numpy.isfinite(points).all()
    assert (points[:, 0] > -0.5).all() and (points[:, 0] < 319.5).all()
    assert (points[:, 1] > -0.5).all() and (points[:, 1] < 239.5).all()
    assert (descriptors.max(axis=1) > 0).all()


def test_the_answer_carries_key_etag_timing_and_request_id(shared_mesh):
    picture = encoded(".png", seed=12)
    miss = features(shared_mesh, picture, accept="application/json")
    document = miss.json()
    assert miss.headers["etag"].startswith(f'"{document["key"]}-json')
    assert miss.headers["vary"] == "Accept"
    assert len(miss.headers["x-request-id"]) == 32
    stages = {part.split(";dur=")[0].strip(): float(part.split(";dur=")[1])
              for part in miss.headers["server-timing"].split(",")}
    assert set(stages) == {"recv", "queue", "decode", "denoise", "sift"}
    assert stages["denoise"] > 0 and stages["sift"] > 0
    assert document["image"]["sha256"] == hashlib.sha256(picture).hexdigest()
    assert (document["image"]["width"], document["image"]["height"]) == (320, 240)


def test_every_format_says_the_same(shared_mesh):
    picture = encoded(".png", seed=13)
    _, _, points, descriptors = split(features(shared_mesh, picture).body)

    document = features(shared_mesh, picture, accept="application/json").json()
    assert document["count"] == len(points)
    assert document["params"]["denoise"] == "nlm" and document["params"]["h"] == 10
    assert (numpy.array(document["keypoints"], "f4") == points).all()
    assert (numpy.array(document["descriptors"], "u1") == descriptors).all()

    text = features(shared_mesh, picture, "?descriptors=base64", "application/json").json()
    assert base64.b64decode(text["descriptors"]) == descriptors.tobytes()
    none = features(shared_mesh, picture, "?descriptors=none", "application/json").json()
    assert "descriptors" not in none and none["count"] == len(points)

    packed = msgpack.unpackb(features(shared_mesh, picture, accept="application/msgpack").body)
    assert packed["count"] == len(points) and packed["key"] == document["key"]
    assert packed["keypoints"] == points.tobytes()
    assert packed["descriptors"] == descriptors.tobytes()

    npz = numpy.load(io.BytesIO(features(shared_mesh, picture, accept="application/x-npz").body))
    assert (npz["keypoints"] == points).all() and (npz["descriptors"] == descriptors).all()

    lines = features(shared_mesh, picture, accept="text/plain").body.decode().splitlines()
    assert lines[0] == f"{len(points)} 128" and len(lines) == len(points) + 1
    values = [float(v) for v in lines[1].split()]
    assert len(values) == 4 + 128
    assert values[0] == pytest.approx(points[0, 0] + 0.5, abs=1e-3)
    assert values[1] == pytest.approx(points[0, 1] + 0.5, abs=1e-3)


@pytest.mark.parametrize("suffix,media", [
    (".jpg", "image/jpeg"), (".png", "image/png"), (".webp", "image/webp"),
    (".pgm", "image/x-portable-anymap"), (".png", "application/octet-stream"),
    (".png", None), (".jpg", "image/png")])  # the content decides, not the label
def test_every_kind_of_picture_is_taken(shared_mesh, suffix, media):
    headers = {"Content-Type": media} if media else {}
    answer = features(shared_mesh, encoded(suffix, seed=14), headers=headers)
    assert len(split(answer.body)[2]) > 30


def test_a_multipart_field_is_the_same_picture(shared_mesh):
    picture = encoded(".jpg", seed=15)
    body = (b"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"\r\n"
            b"Content-Type: image/jpeg\r\n\r\n" + picture + b"\r\n--xyz--\r\n")
    plain = features(shared_mesh, picture)
    form = features(shared_mesh, body,
                    headers={"Content-Type": "multipart/form-data; boundary=xyz"})
    assert form.body == plain.body and form.cache == "hit"


def test_a_chunked_body_is_the_same_picture(shared_mesh):
    picture = encoded(".jpg", seed=16)
    plain = features(shared_mesh, picture)
    pieces = (picture[i:i + 1000] for i in range(0, len(picture), 1000))
    chunked = features(shared_mesh, pieces)  # http.client sends an iterator in chunks
    assert chunked.body == plain.body


def test_parameters_change_the_key_and_defaults_spelled_out_do_not(shared_mesh):
    picture = encoded(".png", seed=17)

    def key(query):
        return features(shared_mesh, picture, query, "application/json").json()["key"]
    default = key("")
    assert key("?h=10&template=7&denoise=nlm&max_features=0&norm=l2") == default
    assert key("?h=10.0") == default
    others = [key(q) for q in ("?h=9", "?denoise=none", "?sigma=1.7", "?norm=root",
                               "?upright=1", "?first_octave=0", "?contrast=0.03",
                               "?edge=9", "?octave_layers=4", "?max_features=20",
                               "?template=5", "?search=15", "?orient=stored")]
    assert len(set(others) | {default}) == len(others) + 1


def test_max_features_is_a_hard_cap_by_response(shared_mesh):
    picture = encoded(".png", seed=18)
    everything = split(features(shared_mesh, picture).body)[2]
    capped = split(features(shared_mesh, picture, "?max_features=20").body)[2]
    assert len(capped) == 20 < len(everything)
    assert capped[:, 4].min() >= numpy.sort(everything[:, 4])[-20] - 1e-7


def test_upright_features_point_along_x_and_root_descriptors_differ(shared_mesh):
    picture = encoded(".png", seed=19)
    upright = split(features(shared_mesh, picture, "?upright=1").body)
    assert (upright[2][:, 3] == 0).all()
    l2, root = (split(features(shared_mesh, picture, q).body) for q in ("", "?norm=root"))
    assert (l2[2] == root[2]).all() and (l2[3] != root[3]).any()


def test_get_by_key_serves_what_was_computed(shared_mesh):
    picture = encoded(".png", seed=20)
    made = features(shared_mesh, picture, accept="application/json")
    key = made.json()["key"]
    got = shared_mesh.get(f"/v1/features/{key}", headers={"Accept": "application/json"})
    assert got.status == 200 and got.body == made.body
    assert got.headers["etag"] == made.headers["etag"]
    assert {"private", "immutable"} <= set(got.headers["cache-control"].replace(",", "").split())
    head = shared_mesh.request("HEAD", f"/v1/features/{key}",
                               headers={"Accept": "application/json"})
    assert head.status == 200 and head.body == b""
    assert int(head.headers["content-length"]) == len(got.body)
    same = shared_mesh.get(f"/v1/features/{key}", headers={
        "Accept": "application/json", "If-None-Match": got.headers["etag"]})
    assert same.status == 304 and same.body == b""
    binary = shared_mesh.get(f"/v1/features/{key}",
                             headers={"Accept": "application/octet-stream"})
    assert binary.headers["etag"] != got.headers["etag"]


def test_denoise_gives_a_quieter_png_of_the_same_size(shared_mesh):
    import cv2
    noisy = scene(seed=21, noise=10)
    ok, data = cv2.imencode(".png", noisy)
    assert ok
    answer = shared_mesh.post("/v1/denoise", data.tobytes())
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"
    quiet = cv2.imdecode(numpy.frombuffer(answer.body, "u1"), cv2.IMREAD_UNCHANGED)
    assert (quiet == cv2.fastNlMeansDenoising(noisy, h=10)).all()
    again = shared_mesh.post("/v1/denoise", data.tobytes())
    assert again.cache == "hit" and again.body == answer.body


def test_sixteen_bit_pictures_are_taken(shared_mesh):
    import cv2
    ok, data = cv2.imencode(".png", scene(seed=22).astype("u2") * 257)
    assert ok
    assert len(split(features(shared_mesh, data.tobytes()).body)[2]) > 50
    quiet = shared_mesh.post("/v1/denoise", data.tobytes())
    assert cv2.imdecode(numpy.frombuffer(quiet.body, "u1"), cv2.IMREAD_UNCHANGED).dtype == "u2"


def test_keypoints_follow_the_exif_orientation(tmp_path, shared_mesh):
    counts = set()
    for number in range(1, 9):
        picture = exif_landscape(number, tmp_path).read_bytes()
        document = features(shared_mesh, picture,
                            "?denoise=none&first_octave=0&max_features=300&descriptors=none",
                            "application/json").json()
        counts.add((document["image"]["width"], document["image"]["height"]))
    assert len(counts) == 1, f"upright they are all of one size: {counts}"


def test_pages_for_operators_answer(shared_mesh):
    assert shared_mesh.get("/livez").status == 200
    assert shared_mesh.get("/readyz").status == 200
    version = shared_mesh.get("/version")
    assert version.status == 200 and "0.1.0" in version.body.decode()
    metrics = shared_mesh.get("/metrics").body.decode()
    assert "# TYPE siftmesh_gateway_" in metrics
    # A service's counters come with its heartbeats: the first ones may be on their way.
    names = ("siftmesh_broker_", "siftmesh_extractor_", "siftmesh_cacher_", "siftmesh_monitor_")
    until(lambda: all(name in shared_mesh.get("/metrics", service="monitor").body.decode()
                      for name in names), "counters of every service")
    assert json.loads(shared_mesh.get("/status", service="monitor").body)
    assert b"<html" in shared_mesh.get("/", service="monitor").body.lower()


def test_put_a_slash_and_a_half_closed_connection_are_answered(shared_mesh):
    picture = encoded(".png", width=64, height=48, seed=12)
    want = features(shared_mesh, picture).body
    for method, path in [("POST", "/v1/features/"), ("PUT", "/v1/features"),
                         ("PUT", "/v1/features/"), ("PUT", "/v1/features/photo.jpg")]:
        answer = shared_mesh.request(method, path, body=picture,
                                     headers={"Accept": "application/octet-stream"})
        assert (answer.status, answer.body) == (200, want), (method, path)
    for method, path in [("POST", "/v1/denoise/"), ("PUT", "/v1/denoise/photo.jpg")]:
        answer = shared_mesh.request(method, path, body=picture)
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert shared_mesh.request("POST", "/v1/features/photo.jpg", body=picture).status == 405

    fresh = encoded(".png", width=64, height=48, seed=13)
    with Raw(shared_mesh.port()) as raw:
        raw.send(post(fresh))
        raw.socket.shutdown(socket.SHUT_WR)
        status, headers, body = raw.answer()
        assert (status, headers["x-cache"]) == (200, "miss") and json.loads(body)["count"] > 0
        assert raw.closed()


def test_no_answer_may_be_taken_for_something_else(shared_mesh):
    picture = encoded(".png", width=64, height=64, seed=77)
    answers = [shared_mesh.post("/v1/features", picture), shared_mesh.post("/v1/denoise", picture),
               shared_mesh.post("/v1/features", b"<script>"), shared_mesh.get("/nothing"),
               shared_mesh.get("/readyz"), shared_mesh.get("/v1/status")]
    assert [a.status for a in answers] == [200, 200, 415, 404, 200, 200]
    assert {a.headers.get("x-content-type-options") for a in answers} == {"nosniff"}
