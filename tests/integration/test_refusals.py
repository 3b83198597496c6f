"""What a client sees of a refusal that the server gives by itself, or in mid-upload."""

import json
import re

import pytest

from tests.harness.mesh import until
from tests.harness.raw import Raw, chunked, post
from tests.harness.scenes import encoded

PICTURE = encoded(".png", width=64, height=64, seed=77)
MINE = "00112233445566778899aabbccddeeff"


def check_id(answer, mine=None):
    """The id is in the header and in the document, the same."""
    _, headers, body = answer
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
    assert json.loads(body)["request_id"] == headers["x-request-id"]
    assert mine is None or headers["x-request-id"] == mine
    return headers


@pytest.mark.parametrize("head,status", [
    (b"GET / HTTP/1.1\nHost: h\n\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    (b"POST /v1/features HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST /v1/features HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n", 413),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 20000 + b"\r\n\r\n", 431),
], ids=["lf", "host", "version", "coding", "length", "long"])
def test_what_the_server_refuses_by_itself_has_an_id(shared_mesh, head, status):
    with Raw(shared_mesh.port()) as raw:
        answer = raw.send(head).answer()
        assert answer[0] == status
        check_id(answer)
        assert raw.closed()


def test_a_body_that_goes_wrong_is_refused_under_the_clients_own_id(shared_mesh):
    head = ("POST /v1/features HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
            f"X-Request-Id: {MINE}\r\n\r\n5\r\nhello\r\nnonsense\r\n")
    with Raw(shared_mesh.port()) as raw:
        answer = raw.send(head).answer()
        assert answer[0] == 400
        check_id(answer, MINE)


def test_a_late_body_is_refused_under_the_clients_own_id(mesh):
    mesh.start(gateway={"body_timeout_ms": 300, "body_rate_min": 0})
    with Raw(mesh.port()) as raw:
        raw.send(post(PICTURE, X_Request_Id=MINE)[:-10])
        answer = raw.answer()
        assert answer[0] == 408
        check_id(answer, MINE)


def test_one_connection_too_many_is_told_when_to_come_back(mesh):
    mesh.start(gateway={"connections_max": 3})
    for _ in range(20):  # connections come and go: a rate to be measured
        assert mesh.get("/livez").status == 200
    kept = [Raw(mesh.port()) for _ in range(3)]
    for raw in kept:
        assert raw.send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").answer()[0] == 200
    with Raw(mesh.port()) as raw:
        answer = raw.answer()
        assert answer[0] == 503
        headers = check_id(answer)
        assert 1 <= int(headers["retry-after"]) <= 60
        document = json.loads(answer[2])
        assert (document["limit"], document["actual"]) == (3, 4)
    kept[0].close()
    until(lambda: mesh.get("/livez").status == 200, "there is room again")


def test_a_full_buffer_tells_a_time_to_come_back(mesh):
    # One that is being worked on: a body that is coming in would give way.
    slow = encoded(".jpg", width=2400, height=1800, seed=78).ljust(1 << 20, b"x")
    size = len(slow)
    # A normal request may fill seven eighths beside another.
    mesh.start(gateway={"buffered_bytes_max": size * 8 // 7 + 100000})
    with Raw(mesh.port()) as holder, Raw(mesh.port()) as other:
        holder.send(post(slow, path="/v1/features?h=40&template=21&search=35"))
        until(lambda: mesh.counter("gateway", "siftmesh_gateway_buffered_bytes") >= size,
              "the budget is taken")
        answer = other.send(post(b"y" * 400000)).answer()
        assert answer[0] == 503 and size < json.loads(answer[2])["limit"] <= size + 200000
        assert 1 <= int(check_id(answer)["retry-after"]) <= 60


BOUNDARY = {"Content_Type": "multipart/form-data; boundary=b"}
FORM = b"--b\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n"


@pytest.mark.parametrize("request_bytes,status", [
    # Over the bound by its length, by its chunks; a form that goes wrong at its beginning;
    # a parameter that is wrong: a client that reads only after it has sent all sees why.
    (post(b"x" * (12 << 20)), 413),
    (chunked(b"x" * (12 << 20), step=60000), 413),
    (post(FORM % b"wrong" + b"x" * (8 << 20), **BOUNDARY), 400),
    (chunked(FORM % b"file" + b"x" * 100 + b"\r\n" + FORM % b"file" + b"x" * (8 << 20),
             step=60000, **BOUNDARY), 400),
    (post(b"x" * (8 << 20), path="/v1/features?h=0"), 400),
    (post(b"x" * (8 << 20), Content_Type="text/html"), 415),
], ids=["length", "chunks", "form", "form in chunks", "parameter", "type"])
def test_a_refusal_in_mid_upload_reaches_the_client(mesh, request_bytes, status):
    mesh.start(gateway={"body_bytes_max": 10 << 20})
    with Raw(mesh.port()) as raw:
        answer = raw.send(request_bytes).answer()
        assert answer[0] == status
        assert answer[1]["connection"] == "close"
        assert raw.closed()  # an end, not a reset
    assert mesh.post("/v1/features", PICTURE).status == 200
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_buffered_bytes") == 0,
          "its bytes are given back")


def test_what_is_thrown_away_after_a_refusal_is_bounded(mesh):
    mesh.start(gateway={"body_bytes_max": 1 << 20})
    with Raw(mesh.port()) as raw:
        raw.send("POST /v1/features HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000\r\n\r\n")
        assert raw.answer()[0] == 413
        sent = 0
        with pytest.raises(OSError):  # 64 MiB, and what the sockets hold
            while sent < 256 << 20:
                raw.send(bytes(1 << 20))
                sent += 1 << 20
        assert 32 << 20 < sent < 128 << 20
