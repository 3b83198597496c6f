"""Every error a client can be given: its status, its code, and the numbers behind it."""

import socket

import pytest

from tests.harness.mesh import until
from tests.harness.raw import Raw, post
from tests.harness.scenes import encoded

PICTURE = encoded(".png", width=64, height=64, seed=31)


def problem(answer, status, code):
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status and document["code"] == code, document
    assert {"type", "title", "detail", "request_id"} <= set(document)
    assert document["detail"]
    return document


@pytest.mark.parametrize("query,word", [
    ("?nonsense=1", "nonsense"), ("?h=abc", "abc"), ("?h=0", "0.1"), ("?h=nan", "nan"),
    ("?template=8", "template"), ("?search=0", "search"), ("?denoise=median", "median"),
    ("?h=10&h=11", "h"), ("?max_features=-1", "max_features"), ("?sigma=", "sigma"),
    ("?first_octave=-2", "first_octave"), ("?upright=2", "upright"), ("?h=%zz", "%"),
    ("?descriptors=all", "descriptors")])
def test_a_bad_parameter_is_named(shared_mesh, query, word):
    answer = shared_mesh.post("/v1/features" + query, PICTURE)
    document = problem(answer, 400, "bad_parameter" if "%" not in query else
                       answer.json()["code"])
    assert word in document["detail"]


def test_an_empty_body_is_refused(shared_mesh):
    assert shared_mesh.post("/v1/features", b"").status == 400


@pytest.mark.parametrize("path", ["/nothing", "/v1/features/", "/v1/features/abc", "/v1",
                                  "/v1/features/" + "0" * 64])
def test_an_unknown_path_or_key_is_404(shared_mesh, path):
    problem(shared_mesh.get(path), 404, "not_found")


@pytest.mark.parametrize("method,path,allow", [
    ("GET", "/v1/features", "POST"), ("DELETE", "/livez", "GET"), ("DELETE", "/v1/denoise", "POST"),
    ("POST", "/metrics", "GET"), ("POST", "/v1/features/" + "0" * 64, "GET"),
    ("PUT", "/v1/features/" + "0" * 64, "GET"), ("DELETE", "/v1/features", "PUT")])
def test_a_wrong_method_is_405_with_the_right_ones(shared_mesh, method, path, allow):
    answer = shared_mesh.request(method, path, body=b"x" if method in ("PUT", "POST") else None)
    problem(answer, 405, "method_not_allowed")
    assert allow in answer.headers["allow"].replace(" ", "").split(",")


def test_an_unknown_accept_is_406_with_the_choices(shared_mesh):
    answer = shared_mesh.post("/v1/features", PICTURE, headers={"Accept": "image/gif"})
    document = problem(answer, 406, "not_acceptable")
    for media in ("application/json", "application/msgpack", "application/octet-stream",
                  "application/x-npz", "text/plain"):
        assert media in document["detail"]
    refused = shared_mesh.post("/v1/features", PICTURE,
                               headers={"Accept": "application/json;q=0"})
    assert refused.status == 406


def raw(mesh, request):
    """The status line's number for raw bytes."""
    with socket.create_connection(("127.0.0.1", mesh.port()), timeout=30) as s:
        s.sendall(request)
        data = b""
        while b"\r\n" not in data:
            piece = s.recv(4096)
            if not piece:
                break
            data += piece
    return int(data.split()[1])


def test_a_body_without_length_is_411(shared_mesh):
    assert raw(shared_mesh, b"POST /v1/features HTTP/1.1\r\nHost: x\r\n\r\n") == 411


def test_a_large_body_is_413_with_limit_and_actual_value(mesh):
    mesh.start(gateway={"body_bytes_max": 2000})
    document = problem(mesh.post("/v1/features", bytes(2001)), 413, "body_too_large")
    assert (document["limit"], document["actual"]) == (2000, 2001)
    assert document["detail"] == "the body is too large: 2001 bytes, body_bytes_max is 2000"
    pieces = (bytes(500) for _ in range(8))
    chunked = mesh.post("/v1/features", pieces)  # an iterator is sent in chunks
    assert problem(chunked, 413, "body_too_large")["limit"] == 2000


def test_a_priority_that_is_not_given_says_what_it_needs(shared_mesh):
    def detail(priority):
        return problem(shared_mesh.post("/v1/features", b"x",
                                        headers={"X-Siftmesh-Priority": priority}),
                       400, "bad_parameter")["detail"]
    assert "high needs allow_high" in detail("high")
    assert detail("urgent") == "X-Siftmesh-Priority must be normal or batch"


@pytest.mark.parametrize("media", ["text/html", "image/svg+xml", "application/json"])
def test_a_type_that_is_no_picture_is_415(shared_mesh, media):
    answer = shared_mesh.post("/v1/features", PICTURE, headers={"Content-Type": media})
    problem(answer, 415, "unsupported_media_type")


def test_a_body_that_is_no_picture_is_415_and_a_broken_one_422(shared_mesh):
    problem(shared_mesh.post("/v1/features", b"hello, this is text, not a picture"), 415,
            "unsupported_media_type")
    whole = encoded(".png", seed=32)
    problem(shared_mesh.post("/v1/features", whole[:len(whole) // 2]), 422, "undecodable")


def test_too_many_pixels_is_422_from_the_header_with_the_numbers(shared_mesh):
    claim = b"P5\n10000 10000\n255\n" + bytes(100)
    document = problem(shared_mesh.post("/v1/features", claim), 422, "too_many_pixels")
    assert (document["limit"], document["actual"]) == (64_000_000, 100_000_000)


def test_a_full_gateway_is_503_with_retry_after(mesh):
    mesh.start(gateway={"buffered_bytes_max": 1 << 20})
    # Most of the budget, worked on for a second or so: an upload under way would give way.
    slow = encoded(".jpg", width=1200, height=900, seed=39).ljust(800_000, b"x")
    with Raw(mesh.port()) as holder:
        holder.send(post(slow, path="/v1/features?h=40&template=21&search=35"))
        until(lambda: mesh.counter("gateway", "siftmesh_gateway_buffered_bytes") >= len(slow),
              "it is there")

        def refused():
            answer = mesh.post("/v1/features", bytes(200_000))
            return answer if answer.status == 503 else None
        answer = until(refused, "the budget of buffered bytes is full")
    document = problem(answer, 503, "full")
    assert int(answer.headers["retry-after"]) >= 1
    # The last eighth is for high requests.
    assert document["limit"] == 7 << 17 and document["actual"] > 7 << 17


def test_full_queues_are_503_with_retry_after(mesh):
    mesh.start(broker={"lane_jobs": 1}, extractor={"slots": 1})
    from concurrent.futures import ThreadPoolExecutor
    pictures = [encoded(".png", seed=40 + i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda p: mesh.post("/v1/features?sift=vlfeat", p), pictures))
    assert {a.status for a in answers} == {200, 503}
    for answer in answers:
        if answer.status == 503:
            problem(answer, 503, "full")
            assert int(answer.headers["retry-after"]) >= 1


def test_a_request_out_of_time_is_504(mesh):
    mesh.start(gateway={"request_timeout_ms": 150}, extractor={"slots": 1})
    large = encoded(".png", width=1600, height=1200, seed=50)
    problem(mesh.post("/v1/features?sift=vlfeat", large), 504, "deadline_exceeded")
    small = encoded(".png", width=48, height=48, seed=51)
    until(lambda: mesh.post("/v1/features", small).status == 200,
          "the slot is free again after the abort")


def test_without_an_extractor_the_answer_is_503(mesh):
    mesh.start(services=["broker", "cacher", "monitor", "gateway"],
               broker={"worker_wait_ms": 100})
    answer = mesh.post("/v1/features", PICTURE)
    problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def test_without_a_broker_readyz_and_requests_are_503(mesh):
    mesh.options["gateway"] = {"listen": "127.0.0.1:0", "mesh_wait_ms": 100}
    mesh.start_one("gateway")
    assert until(lambda: mesh.get("/livez").status, "the gateway lives") == 200
    assert mesh.get("/readyz").status == 503
    problem(mesh.post("/v1/features", PICTURE), 503, "unavailable")


def test_a_malformed_head_ends_the_connection(shared_mesh):
    assert raw(shared_mesh, b"GET /livez HTTP/1.1\nHost: x\n\n") == 400
    assert raw(shared_mesh, b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n") == 400
    assert raw(shared_mesh, b"GET /livez HTTP/1.1\r\n\r\n") == 400
    assert raw(shared_mesh, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70000) == 431
