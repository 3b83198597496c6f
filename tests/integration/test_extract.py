"""`siftmesh extract` over meshes that are restarted, full or away."""

import http.server
import os
import pty
import re
import resource
import subprocess
import threading
import time

import pytest

from tests.harness.mesh import BIN, SLOWNESS, free_port, until
from tests.harness.scenes import encoded

PHOTO = encoded(".png", seed=801, width=100, height=80)


def photos_in(folder, count, size=(300, 240)):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"p{i:03}.png" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(encoded(".png", seed=810 + i, width=size[0], height=size[1]))
    return paths


def extract(*words, **more):
    return subprocess.run([BIN / "siftmesh", "extract", *map(str, words)],
                          capture_output=True, timeout=120 * SLOWNESS, **more)


@pytest.mark.parametrize("way, harmed", [("zmq", "broker"), ("http", "broker"),
                                         ("http", "gateway")])
def test_a_restart_in_the_middle_costs_no_photo(mesh, tmp_path, way, harmed):
    # The leases of a killed gateway hold for half of that time.
    mesh.start(gateway={"listen": f"127.0.0.1:{free_port()}",
                        "request_timeout_ms": int(8000 * SLOWNESS)})
    reach = ["--http", mesh.url] if way == "http" else ["--runtime-dir", mesh.runtime]
    paths, out = photos_in(tmp_path / "in", 60), tmp_path / "out"
    with subprocess.Popen([BIN / "siftmesh", "extract", *reach, "-o", out, *paths],
                          stderr=subprocess.PIPE) as process:
        until(lambda: out.exists() and len(list(out.iterdir())) > 5, "it has begun")
        mesh.kill(harmed)
        assert process.poll() is None
        mesh.start_one(harmed)
        said = process.communicate(timeout=120 * SLOWNESS)[1].decode()
    assert process.returncode == 0 and "60 photos, 0 failed" in said, said
    assert sorted(p.name for p in out.iterdir()) == [f"{p.name}.json" for p in paths]


def test_a_mesh_that_does_not_come_back_ends_it_with_an_honest_count(mesh, tmp_path):
    mesh.start()
    paths, out = photos_in(tmp_path / "in", 40), tmp_path / "out"
    with subprocess.Popen([BIN / "siftmesh", "extract", "--runtime-dir", mesh.runtime, "-o",
                           out, "--timeout", "2", *paths], stderr=subprocess.PIPE) as process:
        until(lambda: out.exists() and len(list(out.iterdir())) > 3, "it has begun")
        mesh.kill("broker")
        said = process.communicate(timeout=60 * SLOWNESS)[1].decode()
    assert process.returncode == os.EX_TEMPFAIL
    written = len(list(out.iterdir()))
    assert f"40 photos, {40 - written} failed" in said, said
    assert "the mesh is away" in said


@pytest.mark.parametrize("way", ["zmq", "http"])
def test_without_a_mesh_no_photo_counts_as_done(tmp_path, way):
    (tmp_path / "none").mkdir(mode=0o700)
    reach = (["--http", "http://127.0.0.1:1"] if way == "http"
             else ["--runtime-dir", tmp_path / "none"])
    done = extract(*photos_in(tmp_path / "in", 11), *reach, "-o", tmp_path / "out")
    assert done.returncode == os.EX_UNAVAILABLE
    assert b"11 photos, 11 failed" in done.stderr, done.stderr


def test_two_photos_of_one_name_are_refused_before_the_first_is_sent(shared_mesh, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(PHOTO)
    paths = [tmp_path / "a/x.png", tmp_path / "b/x.png"]
    done = extract(*paths, "-o", tmp_path / "out", "--runtime-dir", shared_mesh.runtime)
    assert done.returncode == os.EX_USAGE
    for path in [*paths, tmp_path / "out/x.png.json"]:
        assert str(path) in done.stderr.decode()
    assert not (tmp_path / "out").exists()


class Gateway(http.server.BaseHTTPRequestHandler):
    """Full for its first answers, with a Retry-After; then features; or never an answer."""

    blob, refusals, asked, silent = b"", 2, [], None

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(time.monotonic())
        if self.silent:
            self.silent.wait()
            return
        full = len(self.asked) <= self.refusals
        body = b'{"code": "full", "detail": "no room"}' if full else self.blob
        self.send_response(503 if full else 200)
        if full:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def gateway():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    Gateway.asked, Gateway.silent = [], None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    if Gateway.silent:
        Gateway.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_retry_after_is_honoured(shared_mesh, tmp_path, gateway):
    photo = tmp_path / "x.png"
    photo.write_bytes(PHOTO)
    Gateway.blob = shared_mesh.command("extract", photo, "--format", "bin").stdout
    done = extract(photo, "--http", gateway, "--format", "bin")
    assert done.returncode == 0 and done.stdout == Gateway.blob
    waits = [b - a for a, b in zip(Gateway.asked, Gateway.asked[1:])]
    assert len(waits) == 2 and min(waits) >= 1
    # No longer than there is time.
    Gateway.asked = []
    done = extract(photo, "--http", gateway, "--timeout", "1")
    assert done.returncode == os.EX_TEMPFAIL and b"no room" in done.stderr
    assert len(Gateway.asked) == 1


def test_the_time_of_a_photo_holds_over_http(tmp_path, gateway):
    photo = tmp_path / "x.png"
    photo.write_bytes(PHOTO)
    Gateway.silent = threading.Event()
    began = time.monotonic()
    done = extract(photo, "--http", gateway, "--timeout", "1")
    assert done.returncode == os.EX_UNAVAILABLE and done.stderr
    assert time.monotonic() - began < 10 * SLOWNESS


def test_progress_counts_every_photo_once_and_forwards(shared_mesh, tmp_path):
    ours, theirs = pty.openpty()
    with subprocess.Popen([BIN / "siftmesh", "extract", "--jobs", "16", "--runtime-dir",
                           shared_mesh.runtime, "-o", tmp_path / "out",
                           *photos_in(tmp_path / "in", 100, (40, 30))], stderr=theirs):
        os.close(theirs)
        said = b""
        try:
            while more := os.read(ours, 4096):
                said += more
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    counts = [int(n) for n in re.findall(rb"(\d+) of 100 photos", said)]
    assert counts == list(range(1, 101))
    assert said.rstrip().split(b"\r\x1b[K")[-1].startswith(b"100 photos, 0 failed")


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(shared_mesh, tmp_path):
    photo, out = tmp_path / "x.png", tmp_path / "out"
    photo.write_bytes(PHOTO)
    out.mkdir()
    (out / "x.json").write_bytes(b"old")
    done = extract(photo, "-o", out / "x.json", "--runtime-dir", shared_mesh.runtime,
                   restore_signals=False,  # SIGXFSZ is ignored: the write fails
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)))
    assert done.returncode == os.EX_CANTCREAT and b"File too large" in done.stderr
    assert [p.read_bytes() for p in out.iterdir()] == [b"old"]


def test_a_file_whose_folder_takes_no_new_one_is_written_all_the_same(shared_mesh, tmp_path):
    photo, out = tmp_path / "x.png", tmp_path / "out"
    photo.write_bytes(PHOTO)
    out.mkdir()
    (out / "x.json").write_bytes(b"old")
    command = [BIN / "siftmesh", "extract", photo, "-o", out / "x.json", "--runtime-dir",
               shared_mesh.runtime]
    if os.geteuid() == 0:  # whom no folder's rights hold back: a file that is mounted there
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            pytest.skip("no mount namespaces here")
        mount = 'mount --bind "$0" "$0" && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, out / "x.json", *command]
    else:
        out.chmod(0o555)
    done = subprocess.run(command, capture_output=True, timeout=60 * SLOWNESS)
    out.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert [p.read_bytes()[:1] for p in out.iterdir()] == [b"{"]


def test_the_mesh_is_found_by_the_file_it_was_started_with(shared_mesh, tmp_path):
    photo, config = tmp_path / "x.png", tmp_path / "mesh.ini"
    photo.write_bytes(PHOTO)
    config.write_text(f"[mesh]\nruntime_dir = {shared_mesh.runtime}\n")
    for command in (["extract", photo], ["status"], ["cache", "stats"], ["scale", "0"]):
        done = subprocess.run([BIN / "siftmesh", *command, "--config", config],
                              capture_output=True, timeout=60 * SLOWNESS)
        assert done.returncode == 0 and done.stdout, done.stderr
    config.write_text("[mesh]\nruntime_dirs = /x\n")
    done = extract(photo, "--config", config)
    assert done.returncode == os.EX_CONFIG and b"mesh.ini:2: runtime_dirs" in done.stderr


def test_an_input_without_end_is_refused_at_the_bound(shared_mesh, tmp_path):
    done = extract("/dev/zero", "-o", tmp_path / "out", "--runtime-dir", shared_mesh.runtime)
    assert done.returncode != 0
    assert b"/dev/zero: larger than a mesh carries, 268435456 bytes" in done.stderr, done.stderr
