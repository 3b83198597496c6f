"""Which features are chosen: a mask, a spread, a cap."""

import cv2
import numpy
import pytest

from tests.harness.scenes import scene
from tests.integration.test_features import features, split


def png(picture):
    ok, data = cv2.imencode(".png", picture)
    assert ok
    return data.tobytes()


def form(**fields):
    """A multipart body and its type."""
    body = b"".join(
        b'--b7\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n'
        % (name.encode(), value) for name, value in fields.items())
    return body + b"--b7--\r\n", {"Content-Type": "multipart/form-data; boundary=b7"}


def masked(mesh, picture, mask, query=""):
    body, headers = form(file=png(picture), mask=png(mask))
    return split(features(mesh, body, query, headers=headers).body)[2]


@pytest.mark.parametrize("sift", ["native", "vlfeat"])
def test_a_mask_keeps_features_inside_before_the_cap(shared_mesh, sift):
    picture = scene(seed=601)
    mask = numpy.zeros_like(picture)
    mask[:, 160:] = 1
    everything = split(features(shared_mesh, png(picture), f"?sift={sift}").body)[2]
    inside = masked(shared_mesh, picture, mask, f"?sift={sift}")
    assert (inside == everything[everything[:, 0] >= 159.5]).all()
    few = masked(shared_mesh, picture, mask, f"?sift={sift}&max_features=10")
    assert (few == inside[:10]).all()


def test_another_mask_is_another_result(shared_mesh):
    picture = scene(seed=602)
    left, right = numpy.zeros_like(picture), numpy.zeros_like(picture)
    left[:, :160], right[:, 160:] = 255, 255
    points = [masked(shared_mesh, picture, m) for m in (left, right, left)]
    assert points[0][:, 0].max() < 160 <= points[1][:, 0].min() + 0.5
    assert (points[0] == points[2]).all()


def test_a_mask_of_another_size_is_422_with_both(shared_mesh):
    body, headers = form(file=png(scene(seed=603)), mask=png(scene(100, 80)))
    answer = shared_mesh.post("/v1/features", body, headers=headers)
    assert answer.status == 422
    assert "100 x 80" in answer.json()["detail"] and "320 x 240" in answer.json()["detail"]


def test_forms_with_wrong_fields_are_400(shared_mesh):
    picture = png(scene(seed=604))
    for fields in ({"mask": picture}, {"mask": picture, "file": picture},
                   {"file": picture, "other": b"1"}, {"file": picture, "mask": b""}):
        body, headers = form(**fields)
        assert shared_mesh.post("/v1/features", body, headers=headers).status == 400


def test_spread_features_reach_more_of_the_picture(shared_mesh):
    picture = scene(seed=605)
    picture[:, 100:] = cv2.GaussianBlur(picture, (0, 0), 3)[:, 100:]  # weak but there

    def cells(query):
        points = split(features(shared_mesh, png(picture), query).body)[2]
        assert len(points) == 60
        return len({(int(x) // 40, int(y) // 40) for x, y in points[:, :2]})
    assert cells("?max_features=60&spread=1") > cells("?max_features=60")
