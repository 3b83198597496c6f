"""The siftmesh command, as a person uses it."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy
import pytest

from tests.harness.mesh import BIN, ROOT, SLOWNESS, until
from tests.harness.scenes import encoded


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(".jpg", seed=501))
    return path


@pytest.mark.parametrize("way", ["zmq", "http"])
def test_extract_writes_every_format(shared_mesh, photo, tmp_path, way):
    reach = ["--http", shared_mesh.url] if way == "http" else []

    def extract(name):
        return shared_mesh.command("extract", photo, "--format", name, *reach).stdout
    document = json.loads(extract("json"))
    count = document["count"]
    assert count > 30
    assert extract("bin")[:4] == b"SMFB"
    assert len(extract("bin")) == 160 + 148 * count
    assert numpy.load(io.BytesIO(extract("npz")))["descriptors"].shape == (count, 128)
    assert extract("colmap").decode().splitlines()[0] == f"{count} 128"
    assert extract("lowe").decode().splitlines()[0] == f"{count} 128"
    assert len(extract("msgpack")) > 148 * count


def test_extract_takes_parameters_and_an_output_file(shared_mesh, photo, tmp_path):
    out = tmp_path / "out.json"
    shared_mesh.command("extract", photo, "--max-features", 10, "--descriptors=none",
                        "-o", out)
    document = json.loads(out.read_text())
    assert document["count"] == 10 and document["params"]["max_features"] == 10


def test_extract_of_several_photos_writes_a_file_each(shared_mesh, tmp_path):
    names = []
    for i in range(5):
        names.append(tmp_path / f"p{i}.png")
        names[-1].write_bytes(encoded(".png", seed=510 + i, width=100, height=80))
    done = shared_mesh.command("extract", *names, "-o", tmp_path / "out", "--format", "npz")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"p{i}.png.npz" for i in range(5)]
    assert b"5 photos, 0 failed" in done.stderr


def test_exit_codes_follow_sysexits(shared_mesh, photo, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(encoded(".png", seed=520)[:500])

    def code(*words):
        done = shared_mesh.command(*words, check=False)
        assert done.returncode == 0 or done.stderr
        return done.returncode
    assert code("extract", photo) == os.EX_OK
    assert code("extract") == os.EX_USAGE
    assert code("extract", photo, "--h", "1000") == os.EX_USAGE
    assert code("extract", photo, "--nonsense", "1") == os.EX_USAGE
    assert code("extract", tmp_path / "missing.jpg") == os.EX_NOINPUT
    assert code("extract", broken) == os.EX_DATAERR
    assert code("extract", broken, "--http", shared_mesh.url) == os.EX_DATAERR
    assert code("extract", photo, "-o", "/nonexistent/x") == os.EX_CANTCREAT
    assert code("extract", photo, "--http", "http://127.0.0.1:1") == os.EX_UNAVAILABLE
    assert code("nonsense") == os.EX_USAGE


def test_status_shows_slots_queues_and_cache(shared_mesh):
    text = shared_mesh.command("status").stdout.decode()
    for word in ("broker", "extract", "cache", "slot 1", "gateway@"):
        assert word in text, text
    status = shared_mesh.status()
    assert status["services"]["extract"]["slots"] == 2


def test_help_and_version_are_there_for_every_program(tmp_path):
    for name in ("siftmesh", "siftmesh-broker", "siftmesh-gateway", "siftmesh-extractor",
                 "siftmesh-cacher", "siftmesh-monitor"):
        shown = subprocess.run([BIN / name, "--help"], capture_output=True, text=True)
        assert shown.returncode == 0 and "Usage:" in shown.stdout
        version = subprocess.run([BIN / name, "--version"], capture_output=True, text=True)
        assert version.returncode == 0 and "0.1.0" in version.stdout
        wrong = subprocess.run([BIN / name, "--nonsense"], capture_output=True, text=True)
        assert wrong.returncode == os.EX_USAGE


def test_a_configuration_file_is_checked_with_its_line(tmp_path):
    good, bad = tmp_path / "good.ini", tmp_path / "bad.ini"
    good.write_text("[gateway]\nbody_bytes_max = 8M\n[broker]\n")
    bad.write_text("[gateway]\nbody_bytes_max = 1\n")
    done = subprocess.run([BIN / "siftmesh", "check-config", good], capture_output=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([BIN / "siftmesh", "check-config", bad], capture_output=True,
                          text=True)
    assert done.returncode == os.EX_CONFIG
    assert re.search(r"bad\.ini:2: body_bytes_max is 1, must be 1k to 512M bytes", done.stderr)
    shown = subprocess.run([BIN / "siftmesh", "config", good], capture_output=True, text=True)
    assert re.search(r"body_bytes_max = 8M\s+# file", shown.stdout), shown.stdout


@pytest.mark.parametrize("words, said", [
    (["scale", "-1"], "siftmesh scale: N is -1, must be 0 to 4096 slots"),
    (["scale", "2", "--for", "0"], "siftmesh scale: --for is 0, must be 1 to 604800 seconds"),
    (["scale", "--for=5x", "2"], "siftmesh scale: --for is 5x, must be 1 to 604800 seconds"),
    (["scale", "1", "2"], "siftmesh scale: unknown argument '2'; it takes one N"),
    (["drain", "1", "2"], "siftmesh drain: unknown argument '2'; it takes one SLOT"),
    (["drain", "-1"], "siftmesh drain: SLOT is -1, must be 1 or more"),
    (["status", "extra"], "siftmesh status: unknown argument 'extra'; it takes options alone"),
    (["status", "-1"], "siftmesh status: unknown argument '-1'; it takes options alone"),
    (["cache", "stats", "extra"], "siftmesh cache: unknown argument: extra; --help tells more"),
    (["cache", "purge", "--older-than", "1"],
     'siftmesh cache: --older-than is "1", must be a number with s, m, h or d, as 7d; --help '
     "tells more"),
    (["up", "--redis", "rediss://:secret@h"],
     "siftmesh up: --redis: TLS to Redis is not spoken, use redis:// and stunnel "
     "(docs/OPERATIONS.md, Redis)"),
    (["up", "--store", "mysql://:secret@h"],
     "siftmesh up: --store must be sqlite:///..., postgres://..., postgresql://... or none"),
])
def test_a_wrong_argument_is_named_with_what_is_allowed(shared_mesh, words, said):
    done = shared_mesh.command(*words, check=False)
    assert done.returncode == os.EX_USAGE
    assert done.stderr.decode() == said + "\n"


def test_a_target_above_slots_max_says_so(shared_mesh):
    try:
        done = shared_mesh.command("scale", 4096)
        assert re.fullmatch(r"siftmesh scale: 4096 asked, slots_max is \d+\n",
                            done.stderr.decode())
    finally:
        shared_mesh.command("scale", 0)


def test_an_unknown_key_and_a_public_key_are_told_apart_from_trouble(shared_mesh, tmp_path):
    done = shared_mesh.command("cache", "get", "0" * 64, "--out", tmp_path / "x", check=False)
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stderr == b"siftmesh cache get: no result is known under this key\n"
    shared_mesh.command("keygen", tmp_path / "mine")
    (tmp_path / "mine.pub").chmod(0o644)
    public = str(tmp_path / "mine.pub")
    done = shared_mesh.command("status", "--curve-key", public, "--curve-server", public,
                               check=False)
    assert done.returncode == os.EX_UNAVAILABLE
    assert b"mine.pub: has no secret key; NAME.key has, not NAME.pub" in done.stderr


def test_a_slot_that_is_not_there_cannot_drain(shared_mesh):
    until(lambda: "slot_list" in json.dumps(shared_mesh.status()), "the slots are told of")
    for slot in (77, 1001):
        done = shared_mesh.command("drain", slot, check=False)
        assert done.returncode != 0 and not done.stdout
        there = re.search(rb"no worker has this slot; there are: \d+ to (\d+)\n", done.stderr)
        assert there, done.stderr
    last = there[1].decode()
    assert shared_mesh.command("drain", last).stdout.decode() == f"slot {last} drains\n"


def test_the_monitors_page_says_which_target_holds(shared_mesh):
    def slots():
        return shared_mesh.get("/status", service="monitor").json()["slots"]

    def decisions():
        told = shared_mesh.get("/decisions", service="monitor").json()["decisions"]
        return [decision["text"] for decision in told] or [""]
    until(lambda: slots()["target"] == 2 and slots()["default"] == 2, "two slots of two")
    shared_mesh.command("scale", 1)
    try:
        until(lambda: (slots()["target"], slots()["reason"]) == (1, "siftmesh scale"),
              "an operator's target")
        until(lambda: decisions()[0] == "operator's target: 1 slots", "it is a decision")
    finally:
        shared_mesh.command("scale", 0)
    page = shared_mesh.get("/", service="monitor").body
    assert b"s.slots.target+' of '+s.slots.default" in page
    until(lambda: (slots()["target"], slots()["reason"]) == (2, ""), "it is withdrawn")
    until(lambda: decisions()[0] == "operator's target 1 has ended", "that, too")


def check_config(path):
    return subprocess.run([BIN / "siftmesh", "check-config", path], capture_output=True,
                          text=True)


@pytest.mark.parametrize("section, line, complaint", [
    ("gateway", "listen = foo", 'listen is "foo": it must be HOST:PORT'),
    ("monitor", "listen = h:70000", 'listen is "h:70000": the port must be at most 65535'),
    ("cacher", "redis = http://u:secret@x",
     'redis is "http://...", must be redis://... or unix://...'),
    ("cacher", "store = mysql://x", 'store is "mysql://x", must be sqlite:///..., '
                                    'postgres://... or postgresql://...'),
    ("gateway", "admin_token_file = /none/token",
     'admin_token_file is "/none/token": there is no such file'),
    ("mesh", "front = foo", 'front is "foo", must be tcp://..., ipc://... or inproc://...'),
    ("mesh", "curve_key = /none.key", 'curve_key is "/none.key": there is no such file'),
    ("mesh", "log_level = loud",
     'log_level is "loud", must be error, warning, notice, info or debug'),
    ("extractor", "sandbox = on", 'sandbox is "on", must be auto, require or off'),
    ("gateway", "trusted_proxies = 10.0.0.0/33",
     'trusted_proxies is "10.0.0.0/33": "10.0.0.0/33" must be an address or a block, as '
     '10.0.0.0/8; up to 64 may be given'),
    ("cacher", "redis = redis://h:99999/0",
     'redis is "redis://h:99999/0": the port is not a number from 1 to 65535'),
    ("monitor", "restore_percent = 90",
     "restore_percent is 90: it must be below shrink_percent"),
    *[(service, f"cors_origins = {value}",
       f'cors_origins is "{value}": "{value}" matches no Origin, must be scheme://host or '
       "scheme://host:port, as https://app.example.org, without path and the scheme's own "
       "port, or *; commas join several")
      for service, value in (("gateway", "example.org"), ("monitor", "https://x/"))],
    *[("gateway", f"hosts_allowed = {value}",
       f'hosts_allowed is "{value}": "{value}" matches no Host, must be a name or address '
       "without scheme, port and path, as app.example.org, or *; commas join several")
      for value in ("http://x/", "a b")],
    ("gateway", "lame_duck_ms = 30000",
     "lame_duck_ms is 30000: it must be below drain_timeout_ms, which is 30000: no time is "
     "left for the work in hand"),
])
def test_a_value_that_no_service_could_start_with_is_told(tmp_path, section, line, complaint):
    path = tmp_path / "bad.ini"
    path.write_text(f"# a file\n[{section}]\n{line}\n")
    done = check_config(path)
    assert done.returncode == os.EX_CONFIG and not done.stdout
    assert done.stderr == f"siftmesh check-config: {path}:3: {complaint}\n"


@pytest.mark.parametrize("service, option", [
    ("gateway", "--trusted-proxies=10.0.0.0/33"), ("gateway", "--hosts-allowed=a b"),
    ("cacher", "--redis=redis://h:99999/0"), ("monitor", "--restore-percent=90"),
    ("extractor", "--slots=9 --slots-max=8"),
])
def test_a_service_refuses_at_its_start_what_check_config_refuses(tmp_path, service, option):
    words = option.split(" --")
    flags = [words[0], *(f"--{word}" for word in words[1:])]
    done = subprocess.run([BIN / f"siftmesh-{service}", "--runtime-dir", tmp_path / "r", *flags],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == os.EX_CONFIG
    name = re.match(r"--([a-z-]+)", flags[-1]).group(1).replace("-", "_")
    assert re.match(rf"siftmesh-{service}: {name} is .+: ", done.stderr), done.stderr
    assert not (tmp_path / "r").exists()


def test_a_service_that_ends_without_a_word_is_told(tmp_path):
    shutil.copy(BIN / "siftmesh", tmp_path)
    for name in ("broker", "gateway", "extractor", "cacher", "monitor"):
        program = tmp_path / f"siftmesh-{name}"
        end = "kill -KILL $$" if name == "gateway" else "exit 0"
        program.write_text(f"#!/bin/sh\n{end}\n")
        program.chmod(0o755)
    done = subprocess.run([tmp_path / "siftmesh", "check-config", os.devnull],
                          capture_output=True, text=True)
    assert done.returncode == os.EX_SOFTWARE and not done.stdout
    assert "siftmesh-gateway ended with code" in done.stderr


def test_an_unknown_section_is_told_even_where_it_is_empty(tmp_path):
    path = tmp_path / "bad.ini"
    for text in ("[gateway]\n[brokr]\nlane_jobs = 1\n", "[gateway]\n[brokr]\n"):
        path.write_text(text)
        done = check_config(path)
        assert done.returncode == os.EX_CONFIG
        assert f"{path}:2: [brokr] is no section, must be [mesh], [broker]" in done.stderr


def test_what_config_prints_is_a_good_file(tmp_path):
    path = tmp_path / "all.ini"
    for given in ([], [path]):
        shown = subprocess.run([BIN / "siftmesh", "config", *given], capture_output=True,
                               text=True)
        assert shown.returncode == 0 and shown.stdout.count("[mesh]") == 1
        path.write_text(shown.stdout)
        done = check_config(path)
        assert done.returncode == 0 and done.stdout == f"{path}: good\n", done.stderr


def test_run_draws_a_generated_scene_and_leaves_nothing_behind(tmp_path):
    done = subprocess.run([BIN / "siftmesh", "run"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = re.search(r"size\s+640 x 480, (\d+) keypoints", done.stdout)
    assert found and int(found.group(1)) > 200
    assert found.group(0) in (ROOT / "README.md").read_text(), "as the README shows it"
    assert "cache hit" in done.stdout and "denoise" in done.stdout
    picture = cv2.imread(str(tmp_path / "sample-scene.pgm.features.png"))
    assert picture.shape == (480, 640, 3)
    colourful = (picture.max(axis=2).astype(int) - picture.min(axis=2)) > 60
    assert colourful.mean() > 0.02, "keypoints are drawn in colour"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_run_that_is_interrupted_leaves_nothing_behind(tmp_path, number):
    run = subprocess.Popen([BIN / "siftmesh", "run"], cwd=tmp_path, stdout=subprocess.PIPE,
                           text=True, start_new_session=True,
                           # Whoever runs the tests may ignore it, which is inherited.
                           preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    try:
        folder = Path(re.search(r"starting a mesh in (\S+)", run.stdout.readline()).group(1))
        until(lambda: (folder / "gateway.port").exists(), "it is up")
        run.send_signal(number)
        assert run.wait(60 * SLOWNESS) == 128 + number
    finally:
        run.kill()
    assert not folder.exists()


def test_run_whose_reader_goes_leaves_nothing_behind(tmp_path):
    run = subprocess.Popen([BIN / "siftmesh", "run"], cwd=tmp_path, stdout=subprocess.PIPE,
                           text=True, start_new_session=True)
    try:
        folder = Path(re.search(r"starting a mesh in (\S+)", run.stdout.readline()).group(1))
        run.stdout.close()
        assert run.wait(60 * SLOWNESS) == 128 + signal.SIGPIPE
    finally:
        run.kill()
    assert not folder.exists()


@pytest.mark.parametrize("words", [["run"], ["status"], ["cache", "stats"], ["config"],
                                   ["--version"]])
def test_output_that_cannot_be_written_is_an_error(shared_mesh, tmp_path, words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [BIN / "siftmesh", *words], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path,
            text=True, timeout=120 * SLOWNESS,
            env={**os.environ, "SIFTMESH_MESH_RUNTIME_DIR": str(shared_mesh.runtime)})
    assert done.returncode == os.EX_IOERR, done.stderr


def test_up_takes_its_folder_from_flag_environment_file_and_default_in_this_order(tmp_path):
    long = {way: f"/tmp/{way}-" + "x" * 120 for way in ("flag", "variable", "file", "default")}
    path = tmp_path / "mesh.ini"
    path.write_text(f"[mesh]\nruntime_dir = {long['file']}\n")
    plain = {k: v for k, v in os.environ.items() if not k.startswith("SIFTMESH_")}

    def folder(*arguments, **environment):
        done = subprocess.run([BIN / "siftmesh", "up", *arguments], capture_output=True,
                              text=True, env={**plain, "XDG_RUNTIME_DIR": long["default"],
                                              **environment}, timeout=60)
        assert done.returncode == os.EX_CONFIG, done.stderr
        return re.search(r"runtime folder (\S+): paths of sockets would have",
                         done.stderr).group(1)
    file, variable = ["--config", path], {"SIFTMESH_MESH_RUNTIME_DIR": long["variable"]}
    assert folder(*file, "--runtime-dir", long["flag"], **variable) == long["flag"]
    assert folder(*file, **variable) == long["variable"]
    assert folder(*file) == folder(SIFTMESH_CONFIG=str(path)) == long["file"]
    assert folder() == long["default"] + "/siftmesh"


def test_up_is_ready_restarts_what_dies_and_stops(tmp_path):
    runtime = tmp_path / "r"
    up = subprocess.Popen(
        [BIN / "siftmesh", "up", "--runtime-dir", runtime, "--listen", "127.0.0.1:0",
         "--monitor-listen", "127.0.0.1:0", "--slots", "1", "--store", "none"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    lines = []

    def read_until(word):
        while True:
            line = up.stdout.readline().decode()
            assert line, "".join(lines)
            lines.append(line)
            if word in line:
                return line
    try:
        read_until("mesh ready")
        text = "".join(lines)
        for name in ("broker", "cacher", "extractor", "monitor", "gateway"):
            assert re.search(rf"^{name} +ready", text, re.M), text
        pid = int(re.search(r"^cacher +ready +pid (\d+)", text, re.M).group(1))
        os.kill(pid, signal.SIGKILL)
        assert "signal 9" in read_until("cacher died")
        again = read_until("cacher    ready")
        assert int(re.search(r"pid (\d+)", again).group(1)) != pid
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    finally:
        up.kill()
    assert not [p for p in runtime.iterdir() if p.suffix == ".sock"]


def test_up_says_why_a_service_does_not_start(tmp_path, shared_mesh):
    taken = shared_mesh.port()
    done = subprocess.run(
        [BIN / "siftmesh", "up", "--runtime-dir", tmp_path / "r", "--listen",
         f"127.0.0.1:{taken}", "--monitor-listen", "127.0.0.1:0", "--store", "none"],
        capture_output=True,
        text=True, timeout=120)
    assert done.returncode == os.EX_UNAVAILABLE
    assert "gateway did not start" in done.stderr and str(taken) in done.stderr


def test_the_python_module_gets_the_same_features(shared_mesh, photo):
    sys.path.insert(0, str(ROOT / "client/python"))
    import siftmesh
    document = json.loads(shared_mesh.command("extract", photo).stdout)
    with siftmesh.Mesh(f"ipc://{shared_mesh.runtime}/front.sock") as mesh:
        features = mesh.features(photo.read_bytes())
        assert features.cached and features.key == document["key"]
        assert (features.keypoints == numpy.array(document["keypoints"], "f4")).all()
        assert (features.descriptors == numpy.array(document["descriptors"], "u1")).all()
        fresh = mesh.features(photo.read_bytes(), max_features=5, norm="root")
        assert len(fresh.keypoints) == 5 and not fresh.cached
        assert mesh.denoise(photo.read_bytes())[:4] == b"\x89PNG"
        with pytest.raises(siftmesh.Error) as error:
            mesh.features(b"no picture at all")
        assert error.value.code == "unsupported_media_type"
        assert mesh.stats()["services"]["extract"]["slots"] == 2
        with pytest.raises(ValueError):
            mesh.features(b"", nonsense=1)


def test_extract_in_this_process_alone_reports_its_stages(photo):
    done = subprocess.run([BIN / "siftmesh-extractor", "--image", photo, "--repeat", "2",
                           "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("service", ["broker", "cacher", "extractor", "monitor", "gateway"])
def test_a_limit_of_open_files_that_is_too_low_is_said_at_the_start(tmp_path, service):
    done = subprocess.run(["prlimit", "--nofile=64", BIN / f"siftmesh-{service}", "--runtime-dir",
                           tmp_path], capture_output=True, text=True, timeout=60 * SLOWNESS)
    assert done.returncode == 78
    assert "too low" in done.stderr and "64" in done.stderr and "96" in done.stderr
