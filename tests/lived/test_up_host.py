"""`siftmesh up` and its host: who starts it, what ends it, what is taken away from it."""

import ctypes
import os
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.harness.mesh import BIN, SERVICES, SLOWNESS, free_port, until
from tests.harness.raw import Raw, post
from tests.harness.scenes import encoded
from tests.harness.up import Up

STOP_SECONDS = 30  # whatever hangs
FAST = ("--store", "none", "--slots", "1")


def children(pid):
    """pid -> (name, state)."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            stat = Path(f"/proc/{child}/stat").read_text()
        except OSError:
            continue
        found[int(child)] = (stat[stat.index("(") + 1:stat.rindex(")")],
                             stat.rsplit(")", 1)[1].split()[0])
    return found


def gone(pids):
    """Ended; who reaps orphans here is not ours to test."""
    def state(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return "gone"
    return all(state(pid) in ("gone", "Z") for pid in pids)


def get(up, path="/readyz"):
    done = subprocess.run(["curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}",
                           f"http://127.0.0.1:{up.port()}{path}"], capture_output=True)
    return int(done.stdout)


def restarted(up, name, old):
    return until(lambda: up.pids.get(name, old) != old and up.pids[name], f"another {name}",
                 60)


# ---- deaths and restarts ----

def test_a_failed_fork_is_tried_again_and_ends_nothing(tmp_path):
    """As another user where this one is root, whom no limit of processes binds."""
    other = os.getuid() == 0
    home = Path(tempfile.mkdtemp(prefix="smt-"))
    prefix = []
    if other:
        uid = 61000 + os.getpid() % 4000
        for program in BIN.glob("siftmesh*"):
            shutil.copy(program, home)
        home.chmod(0o755)
        prefix = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    try:
        up = Up(tmp_path, *FAST, prefix=prefix)
        if other:
            up.arguments[up.arguments.index(BIN / "siftmesh")] = home / "siftmesh"
            os.chown(up.short, uid, uid)
        with up:
            up.wait_ready()
            pids = up.pids
            pid = up.popen.pid
            prlimit = [*prefix, "prlimit", "--pid", str(pid)]
            hard = subprocess.run([*prlimit, "--nproc", "--output", "HARD", "--noheadings"],
                                  capture_output=True, text=True).stdout.strip()
            subprocess.run([*prlimit, f"--nproc=1:{hard}"], check=True)
            os.kill(pids["cacher"], signal.SIGKILL)
            until(lambda: up.text().count("cannot be started: fork") >= 2, "fork failed", 30)
            assert get(up) == 200
            subprocess.run([*prlimit, f"--nproc={hard}:{hard}"], check=True)
            again = restarted(up, "cacher", pids["cacher"])
            assert up.pids == {**pids, "cacher": again}
        assert up.popen.returncode == 0
    finally:
        shutil.rmtree(home)


def test_restarts_are_counted_and_shown(tmp_path):
    with Up(tmp_path, *FAST) as up:
        up.wait_ready()
        for name in ("cacher", "gateway"):
            os.kill(up.pids[name], signal.SIGKILL)
        until(lambda: len(re.findall("ready", up.text())) >= 8, "both are ready again", 60)

        def shown():
            text = up.command("status").stdout.decode()
            return [bool(re.search(rf"{name}@.*restarts 1$", text, re.M))
                    for name in ("cacher", "gateway", "extractor")] == [True, True, False]
        until(shown, "status shows them")

        def measured():
            text = subprocess.run(
                ["curl", "-s", f"http://127.0.0.1:{up.port('monitor')}/metrics"],
                capture_output=True, text=True).stdout
            return [re.search(rf"^siftmesh_{name}_restarts_total(?:{{.*}})? (\d+)", text, re.M)
                    for name in ("cacher", "gateway", "broker")]
        until(lambda: all(measured()) and [int(m.group(1)) for m in measured()] == [1, 1, 0],
              "the monitor shows them")


# ---- process 1 ----

def be_subreaper():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


@pytest.mark.parametrize("how", ["subreaper", "process 1"])
def test_orphans_that_become_its_children_are_reaped(tmp_path, how):
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if how == "process 1" and subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("a pid namespace needs root")
    with Up(tmp_path, *FAST, prefix=unshare if how == "process 1" else [],
            preexec_fn=be_subreaper) as up:
        up.wait_ready()
        pid = up.popen.pid
        if how == "process 1":
            pid = list(children(pid))[0]
        by_name = {name: child for child, (name, _) in children(pid).items()}
        extractor = next(p for n, p in by_name.items() if n.startswith("siftmesh-extra"))
        slots = children(extractor)
        assert slots
        os.kill(extractor, signal.SIGKILL)
        until(lambda: up.text().count("extractor ready") == 2, "it is started again", 60)
        # Its slots have come to us, as its orphans, and have ended.
        until(lambda: not any(Path(f"/proc/{slot}").exists() for slot in slots),
              "they are reaped")
        until(lambda: "Z" not in [state for _, state in children(pid).values()], "no zombie")
        os.kill(pid, signal.SIGTERM)
        assert up.popen.wait(60 * SLOWNESS) == 0


# ---- terminals and pipes ----

def test_sighup_without_a_terminal_ends_nothing(tmp_path):
    with Up(tmp_path, *FAST) as up:
        up.wait_ready()
        pids = up.pids
        for pid in [up.popen.pid, *pids.values()]:
            os.kill(pid, signal.SIGHUP)
        until(lambda: get(up) == 200, "it serves")
        assert "died" not in up.text()
        assert up.alive() and up.pids == pids


def start_on_terminal(up, ignore_hangup=False):
    """As a shell does: a session leader with a terminal. Returns the terminal's other end."""
    def lead():
        os.setsid()
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # it becomes the controlling one
        # Whoever runs the tests may ignore it (nohup), and what is ignored is inherited.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignore_hangup else signal.SIG_DFL)
    master, slave = pty.openpty()
    up.popen_options.update(stdin=slave, start_new_session=False, preexec_fn=lead)
    up.start()
    os.close(slave)
    return master


def test_a_terminal_that_hangs_up_stops_it_in_order(tmp_path):
    up = Up(tmp_path, "--log-level", "notice", *FAST)
    master = start_on_terminal(up)
    try:
        up.wait_ready()
        pids = up.pids
        os.close(master)
        assert up.popen.wait(60 * SLOWNESS) == 0
        assert gone(pids.values())
        stopped = re.findall(r'"service":"(\w+)"[^\n]*"msg":"stopped"', up.text())
        assert stopped == list(reversed(SERVICES)), up.text()
    finally:
        up.close()


def test_nohup_is_honoured(tmp_path):
    up = Up(tmp_path, *FAST)
    master = start_on_terminal(up, ignore_hangup=True)
    try:
        up.wait_ready()
        os.close(master)
        os.kill(up.popen.pid, signal.SIGHUP)
        until(lambda: get(up) == 200, "it serves")
        assert "stopping" not in up.text()
    finally:
        up.close()
    assert up.popen.returncode == 0


def test_a_reader_of_its_output_that_goes_ends_nothing(tmp_path):
    reader, writer = os.pipe()
    with Up(tmp_path, *FAST, stdout=writer, stderr=writer) as up:
        os.close(writer)
        text = b""
        while b"mesh ready" not in text:
            chunk = os.read(reader, 65536)
            assert chunk, text
            text += chunk
        os.close(reader)
        pid = int(re.search(rb"^cacher +ready +pid (\d+)", text, re.M).group(1))
        os.kill(pid, signal.SIGKILL)
        until(lambda: any(p != pid and name.startswith("siftmesh-cache")
                          for p, (name, _) in children(up.popen.pid).items()), "another cacher")
        until(lambda: get(up) == 200, "it serves")
        up.popen.terminate()
        assert up.popen.wait(60 * SLOWNESS) == 0


def test_a_reader_of_its_output_that_stalls_holds_up_nothing(tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with Up(tmp_path, *FAST, "--log-level", "debug", stdout=writer, stderr=writer) as up:
        os.close(writer)
        until(lambda: (up.runtime / "gateway.port").exists() and get(up) == 200, "it serves", 60)
        # It may not have been ready yet: it is started again in any case.
        cacher = until(lambda: [pid for pid, (name, _) in children(up.popen.pid).items()
                                if name.startswith("siftmesh-cache")], "the cacher")[0]
        os.kill(cacher, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{cacher}").exists() and
              up.status()["services"].get("cache", {}).get("workers") == 1, "another cacher")
        assert get(up) == 200
        up.popen.terminate()
        assert up.popen.wait(STOP_SECONDS * SLOWNESS) == 0
    os.close(reader)


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_no_trouble(tmp_path, closed):
    with Up(tmp_path, *FAST, prefix=["sh", "-c", f'exec "$@" {closed}', "sh"]) as up:
        until(lambda: (up.runtime / "gateway.port").exists() and get(up) == 200, "it serves", 60)
        up.popen.terminate()
        assert up.popen.wait(60 * SLOWNESS) == 0


def test_it_says_that_no_folder_is_named_for_results(tmp_path):
    up = Up(tmp_path, "--slots", "1")
    del up.environment["HOME"]
    with up:
        up.wait_ready()
        assert "results are kept in memory only: neither XDG_DATA_HOME nor HOME" in up.text()
        assert "File exists" not in up.text()


# ---- its end ----

def slow_request(port):
    raw = Raw(port, seconds=60)
    picture = encoded(".jpg", width=1600, height=1200)
    raw.send(post(picture, path="/v1/features?h=40&template=21&search=35"))
    return raw


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_whatever_hangs(tmp_path, number):
    with Up(tmp_path, *FAST) as up:
        up.wait_ready()
        pids = up.pids
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        up.popen.send_signal(number)
        assert up.popen.wait(STOP_SECONDS * SLOWNESS) == 0
        assert time.monotonic() - began < STOP_SECONDS * SLOWNESS
        assert up.text().count("does not stop, killing it") == len(SERVICES)
        assert gone(pids.values())


def test_a_hanging_service_does_not_take_the_time_of_the_others(tmp_path):
    """Those that do not hang end in order and by themselves."""
    with Up(tmp_path, "--log-level", "notice", *FAST) as up:
        up.wait_ready()
        os.kill(up.pids["gateway"], signal.SIGSTOP)
        up.popen.terminate()
        assert up.popen.wait(STOP_SECONDS * SLOWNESS) == 0
        stopped = re.findall(r'"service":"(\w+)"[^\n]*"msg":"stopped"', up.text())
        assert stopped == list(reversed(SERVICES))[1:]
        assert up.text().count("killing it") == 1


def test_after_its_sigkill_the_next_one_soon_serves(tmp_path):
    with Up(tmp_path, *FAST) as up:
        up.wait_ready()
        pids = up.pids
        with slow_request(up.port()):
            until(lambda: up.status()["services"]["extract"]["running"] == 1, "it runs")
            up.popen.kill()
            up.popen.wait()
            began = time.monotonic()
            up.start()
            up.wait_ready(times=2)
        assert time.monotonic() - began < 20 * SLOWNESS
        assert "waiting" in up.text()
        assert gone(pids.values())
        until(lambda: get(up) == 200, "it serves")


# ---- the folder ----

def test_a_second_one_in_the_same_folder_is_refused_and_harms_nothing(tmp_path):
    with Up(tmp_path, *FAST) as up:
        up.wait_ready()
        pids, ports = up.pids, [up.port(), up.port("monitor")]
        second = up.command("up", "--listen", "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0",
                            "--store", "none", text=True)
        assert second.returncode == os.EX_UNAVAILABLE
        assert f"siftmesh up, pid {up.popen.pid}" in second.stderr
        monitor = subprocess.Popen(
            [BIN / "siftmesh-monitor", "--runtime-dir", up.runtime, "--listen",
             "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = ""
        while "listening" not in line:
            line = monitor.stdout.readline()
            assert line
        monitor.terminate()
        monitor.communicate(timeout=40 * SLOWNESS)
        assert [up.port(), up.port("monitor")] == ports and up.pids == pids
        assert get(up) == 200


def names_in(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("what", ["files", "the folder"])
def test_what_is_removed_from_under_it_is_made_again(tmp_path, what):
    with Up(tmp_path, *FAST) as up:
        up.wait_ready()
        before, port = names_in(up.runtime), up.port()
        for name in before:
            (up.runtime / name).unlink()
        if what == "the folder":
            up.runtime.rmdir()
        until(lambda: names_in(up.runtime) == before, "all is there again")
        assert up.runtime.stat().st_mode & 0o777 == 0o700
        assert up.port() == port
        # The locks are held: a second mesh would steal nothing.
        for name in before:
            if name.endswith(".lock"):
                assert subprocess.run(["flock", "-n", up.runtime / name, "true"]).returncode == 1
        until(lambda: get(up) == 200, "it serves")
        assert "was removed" in up.text()
        old = up.pids["extractor"]
        os.kill(old, signal.SIGKILL)
        restarted(up, "extractor", old)
        until(lambda: up.status()["services"]["extract"]["slots"] == 1, "it has a session")
        answer = subprocess.run(
            ["curl", "-s", "-m", "60", "--data-binary", "@-", "-o", "/dev/null", "-w",
             "%{http_code}", f"http://127.0.0.1:{port}/v1/features"],
            input=encoded(".jpg"), capture_output=True)
        assert answer.stdout == b"200"


def test_nothing_is_put_into_a_folder_that_is_not_its_own(tmp_path):
    with Up(tmp_path, *FAST) as up:
        up.wait_ready()
        before = names_in(up.runtime)
        away = up.short / "away"
        up.runtime.rename(away)
        up.runtime.mkdir(mode=0o755)
        until(lambda: up.text().count("is not ours now") == len(SERVICES), "they say so")
        assert names_in(up.runtime) == []
        up.runtime.rmdir()
        until(lambda: names_in(up.runtime) == before, "all is there again")
        assert up.runtime.stat().st_mode & 0o777 == 0o700
        until(lambda: up.status()["services"]["extract"]["slots"] == 1, "it is found")


# ---- its options ----

@pytest.mark.parametrize("host", ["localhost", "", "[::1]"])
def test_it_listens_at_names_and_everywhere(tmp_path, host):
    if host == "[::1]" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    port = free_port()
    with Up(tmp_path, *FAST, "--listen", f"{host}:{port}") as up:
        up.wait_ready()
        done = subprocess.run(["curl", "-gsf", f"http://{host or '127.0.0.1'}:{port}/livez"])
        assert done.returncode == 0


@pytest.mark.parametrize("listen,why", [("127.0.0.1", "must be HOST:PORT"),
                                        ("127.0.0.1:70000", "at most 65535"),
                                        ("no.such.invalid:80", "not known|resolution|No address"),
                                        ("::1:80", r"\[ADDRESS\]:PORT")])
def test_it_says_why_it_cannot_listen(tmp_path, listen, why):
    with Up(tmp_path, *FAST, "--listen", listen) as up:
        assert up.popen.wait(60 * SLOWNESS) == os.EX_CONFIG
        assert re.search(why, up.text()) and listen in up.text(), up.text()


def test_no_secret_is_seen_in_a_command_line(tmp_path):
    urls = ("--redis", f"redis://:SECRET1@127.0.0.1:{free_port()}/0", "--store",
            f"sqlite://{tmp_path}/r.db?password=SECRET2")
    with Up(tmp_path, "--slots", "1", *urls) as up:
        until(lambda: "cacher    ready" in up.text() or not up.alive(), "the cacher is ready")
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes()
                 for pid in [up.popen.pid, *children(up.popen.pid)]]
        assert lines and not any(b"SECRET" in line for line in lines), lines
        assert b"@127.0.0.1" in lines[0]
    cacher = subprocess.Popen([BIN / "siftmesh-cacher", "--runtime-dir", up.short, *urls],
                              stderr=subprocess.DEVNULL)
    try:
        until(lambda: b"****" in Path(f"/proc/{cacher.pid}/cmdline").read_bytes(), "hidden")
        assert b"SECRET" not in Path(f"/proc/{cacher.pid}/cmdline").read_bytes()
    finally:
        cacher.kill()
        cacher.wait()
        shutil.rmtree(up.short, ignore_errors=True)
