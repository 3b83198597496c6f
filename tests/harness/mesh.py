"""A running mesh for a test: its own folder, free ports, ready when asked, stopped after.

    mesh = Mesh(tmp_path)
    mesh.start(extractor={"slots": 2}, gateway={"body_bytes_max": 1000})
    answer = mesh.post("/v1/features", picture)

Nothing sleeps for a fixed time: until(what, deadline) asks again and again. Every
process's exit status is checked by stop(), its log is shown when a test fails.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("SIFTMESH_BIN", ROOT / "build/release/bin"))
DATA = Path(os.environ.get("SIFTMESH_TEST_DATA", ROOT.parent / "shared/data"))
SLOWNESS = float(os.environ.get("SIFTMESH_TEST_SLOWNESS", "1"))
SERVICES = ["broker", "cacher", "extractor", "monitor", "gateway"]
SANITIZER = re.compile(r"ERROR: (Address|Leak|Undefined)|runtime error:|ThreadSanitizer")


def until(ask, what, seconds=20.0):
    """Ask until the answer is true, and return it; fail after `seconds`."""
    end = time.monotonic() + seconds * SLOWNESS
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * SLOWNESS:.0f} s: {what}")
        time.sleep(0.01)


class Answer:
    """An HTTP answer, read whole."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    @property
    def cache(self):
        return self.headers.get("x-cache")


class Process:
    """One service: its process and its log."""

    def __init__(self, mesh, name, number, options):
        self.name = name
        self.log = mesh.folder / f"{name}-{number}.log"
        arguments = [*mesh.prefixes.get(name, []), str(BIN / f"siftmesh-{name}"),
                     "--runtime-dir", str(mesh.runtime)]
        for option, value in options.items():
            flag = "--" + option.replace("_", "-")
            arguments += [flag] if value is True else [flag, str(value)]
        self.file = open(self.log, "wb")
        self.popen = subprocess.Popen(
            arguments, stdout=self.file, stderr=self.file, stdin=subprocess.DEVNULL,
            start_new_session=True)

    @property
    def pid(self):
        return self.popen.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def listens(self):
        """The port that it says it listens at, or None."""
        found = re.search(r"listening on http://[^ \"]*:(\d+)", self.text())
        return int(found.group(1)) if found else None

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, seconds=40.0):
        return self.popen.wait(seconds * SLOWNESS)

    def kill(self):
        self.popen.kill()
        self.popen.wait()
        self.killed = True


class Mesh:
    def __init__(self, folder):
        self.folder = Path(folder)
        # Paths of unix sockets are short: not below pytest's long folders.
        import tempfile
        self.runtime = Path(tempfile.mkdtemp(prefix="smt-"))
        os.chmod(self.runtime, 0o700)
        self.options = {}
        self.prefixes = {}  # by service: the command that runs it, and becomes it
        self.processes = {}
        self.finished = []
        self.replaced = []  # by a second process of the same service
        self.numbers = 0

    # ---- life ----

    def start(self, services=SERVICES, **options):
        """Start services with options by service name, and wait until all is ready."""
        self.options = {name: dict(options.get(name, {})) for name in SERVICES}
        self.options["gateway"].setdefault("listen", "127.0.0.1:0")
        self.options["monitor"].setdefault("listen", "127.0.0.1:0")
        # Small machines run the tests: what they measure is not memory pressure.
        self.options["extractor"].setdefault("slots", 2)
        for name in services:
            self.start_one(name)
        if "gateway" in services:
            self.wait_ready()
        return self

    def start_one(self, name, **more):
        options = {**self.options[name], **more}
        (self.runtime / f"{name}.port").unlink(missing_ok=True)
        self.numbers += 1
        if name in self.processes:
            self.replaced.append(self.processes[name])
        process = Process(self, name, self.numbers, options)
        self.processes[name] = process
        return process

    def wait_ready(self):
        until(lambda: self.get("/readyz").status == 200, "the gateway is ready")
        if "extractor" in self.processes:
            until(lambda: self.slots() > 0, "a slot is ready")
        if "cacher" in self.processes:
            until(lambda: "cache" in self.status()["services"], "a cacher has come")

    def stop(self):
        """SIGTERM in the order that loses nothing; each must end with 0 and no leak."""
        wrong = []
        order = {name: number for number, name in enumerate(reversed(SERVICES))}
        running = sorted([*self.replaced, *self.processes.values()],
                         key=lambda process: order[process.name])
        self.replaced, self.processes = [], {}
        for process in running:
            name = process.name
            self.finished.append(process)
            if process.alive():
                process.signal(signal.SIGTERM)
                try:
                    process.wait()
                except subprocess.TimeoutExpired:
                    process.kill()
                    wrong.append(f"{name} did not stop on SIGTERM")
            if process.popen.returncode != 0 and not getattr(process, "killed", False):
                wrong.append(f"{name} ended with {process.popen.returncode}")
        for process in self.finished:
            process.file.close()
            if SANITIZER.search(process.text()):
                wrong.append(f"sanitizer report in {process.log.name}:\n"
                             + process.text()[-6000:])
        subprocess.run(["rm", "-rf", "--", str(self.runtime)], check=True)
        assert not wrong, "; ".join(wrong)

    def kill(self, name):
        """kill -9 one service."""
        process = self.processes.pop(name)
        process.kill()
        self.finished.append(process)

    def logs(self):
        everything = self.finished + self.replaced + list(self.processes.values())
        return "\n".join(f"---- {p.log.name}\n{p.text()[-3000:]}" for p in everything)

    # ---- asking ----

    def port(self, name="gateway"):
        """Of the process that was started last: the file with it is the first one's."""
        process = self.processes.get(name)
        if process:
            return until(process.listens, f"{name} listens")
        path = self.runtime / f"{name}.port"
        return int(until(lambda: path.exists() and path.read_text().strip(),
                         f"{name} wrote its port"))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port()}"

    def request(self, method, path, body=None, headers=None, service="gateway",
                timeout=60.0):
        connection = http.client.HTTPConnection("127.0.0.1", self.port(service),
                                                timeout=timeout * SLOWNESS)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **more):
        try:
            return self.request("GET", path, **more)
        except ConnectionRefusedError:
            class Nothing:
                status = 0
            return Nothing()

    def post(self, path, body, **more):
        return self.request("POST", path, body=body, **more)

    def command(self, *arguments, check=True, **more):
        """The `siftmesh` command on this mesh."""
        words = [str(BIN / "siftmesh"), *map(str, arguments)]
        environment = {**os.environ, "SIFTMESH_MESH_RUNTIME_DIR": str(self.runtime)}
        done = subprocess.run(words, capture_output=True, env=environment,
                              timeout=120 * SLOWNESS, **more)
        assert not SANITIZER.search(done.stderr.decode(errors="replace")), done.stderr.decode()
        if check:
            assert done.returncode == 0, done.stderr.decode()
        return done

    def status(self):
        return json.loads(self.command("status", "--json").stdout)

    def slots(self):
        """Slots alive, as the broker knows them."""
        return self.status()["services"].get("extract", {}).get("slots", 0)

    def slot_pids(self):
        """The slot processes themselves, from /proc."""
        extractor = self.processes["extractor"].pid
        found = []
        for task in Path(f"/proc/{extractor}/task").iterdir():
            for pid in (task / "children").read_text().split():
                try:
                    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1]
                except OSError:
                    continue
                if state.split()[0] != "Z":
                    found.append(int(pid))
        return found

    def counter(self, service, name):
        """The sum of a counter over its labels, from /metrics of gateway or monitor."""
        text = self.get("/metrics", service=service).body.decode()
        pattern = rf"^{re.escape(name)}(?:{{[^}}]*}})? ([0-9.e+]+)$"
        return sum(float(v) for v in re.findall(pattern, text, re.M))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
