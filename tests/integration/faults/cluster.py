"""A mesh that loses its processes, all of them: kill -9, start again, watch the memory."""

import json
import re
import signal
import threading
import time
from pathlib import Path

from tests.harness.mesh import SERVICES, SLOWNESS, Mesh, Process, free_port, until

BUDGET_S = 10.0  # of a request; short, so that overload is seen in a short run
MIB = 1 << 20

# Bounds in bytes that a flood can reach in seconds.
OPTIONS = {
    "broker": {"total_bytes": 48 * MIB, "lane_bytes": 24 * MIB, "client_bytes": 32 * MIB},
    "gateway": {"request_timeout_ms": int(1000 * BUDGET_S * SLOWNESS), "allow_high": True,
                "access_log": "errors", "buffered_bytes_max": 48 * MIB,
                "hot_bytes_max": 16 * MIB},
    "cacher": {"memory_bytes_max": 16 * MIB, "jobs_bytes_max": 32 * MIB},
    "extractor": {"slots": 2},
}
# What is beyond the bounds above: code, libraries, the allocator's own ups and downs, and
# results on their way, which no option counts (a 640x480 picture's is 40 KB; as many as
# there are connections, in ZeroMQ's queues or in the HTTP server's).
BASE_BYTES = 64 * MIB
MEMORY_BYTES = {
    "broker": BASE_BYTES + 48 * MIB,
    "gateway": BASE_BYTES + 64 * MIB,
    "cacher": BASE_BYTES + 48 * MIB,
    "extractor": BASE_BYTES,
    "monitor": BASE_BYTES,
    "slot": BASE_BYTES,
}


def pss_bytes(pid):
    """0 where it has gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) * 1024


def children(pid):
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return []


class Kill:
    def __init__(self, name):
        self.name, self.at, self.back = name, time.monotonic(), None


class Cluster(Mesh):
    """Gateways are "gateway" and "gateway2"; each keeps its port over restarts."""

    def start(self, gateways=2, **options):
        merged = {name: {**OPTIONS.get(name, {}), **options.get(name, {})}
                  for name in SERVICES}
        self.gateways = ["gateway", "gateway2"][:gateways]
        self.ports = [free_port() for _ in self.gateways]
        self.kills, self.peaks = [], {}
        merged["gateway"]["listen"] = f"127.0.0.1:{self.ports[0]}"
        super().start(**merged)
        if gateways == 2:
            self.options["gateway2"] = {**merged["gateway"],
                                        "listen": f"127.0.0.1:{self.ports[1]}"}
            self.start_one("gateway2")
        self.wait_ready()
        return self

    def start_one(self, name, **more):
        if name != "gateway2":
            return super().start_one(name, **more)
        self.numbers += 1
        self.processes[name] = Process(self, "gateway", self.numbers,
                                       {**self.options[name], **more})
        return self.processes[name]

    def port(self, name="gateway"):
        return self.ports[0] if name == "gateway" else super().port(name)

    @property
    def front(self):
        return f"ipc://{self.runtime}/front.sock"

    # ---- deaths ----

    def kill_all_of(self, names, away_s=0.0):
        """kill -9 these at once; start them again after `away_s`, as a supervisor does."""
        kills = [Kill(name) for name in names]
        self.kills += kills
        for name in names:
            self.kill(name)
        time.sleep(away_s)  # the time that a supervisor takes; not a wait for the mesh
        for kill in kills:
            self.start_one(kill.name)
            kill.back = time.monotonic()
        return kills

    def hang(self, name, seconds):
        """SIGSTOP for so long: connected, silent, and then suddenly back."""
        process = self.processes[name]
        process.signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)  # the length of the harm, not a wait for the mesh
        finally:
            process.signal(signal.SIGCONT)

    def is_whole(self):
        """Every gateway answers, and the broker knows all of today's processes."""
        for number in range(len(self.ports)):
            if self.gateway_status(number) != 200:
                return False
        done = self.command("status", "--json", check=False)
        if done.returncode != 0:
            return False
        status = json.loads(done.stdout)
        known = {int(peer["name"].rsplit(":", 1)[1])
                 for peer in status["clients"] + status["workers"] if ":" in peer["name"]}
        slots = status["services"].get("extract", {}).get("slots", 0)
        return (known >= self.peers() and slots == self.options["extractor"]["slots"])

    def peers(self):
        """Processes that have a session with the broker when all is well."""
        return {p.pid for name, p in self.processes.items() if name != "broker"}

    def gateway_status(self, number):
        import http.client
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[number], timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def wait_whole(self):
        until(self.is_whole, "the mesh is whole again", 30)

    # ---- memory ----

    def sample(self):
        for name, process in list(self.processes.items()):
            kind = process.name
            self.peaks[kind] = max(self.peaks.get(kind, 0), pss_bytes(process.pid))
            if kind == "extractor":
                for pid in children(process.pid):
                    self.peaks["slot"] = max(self.peaks.get("slot", 0), pss_bytes(pid))

    def check_memory(self):
        if SLOWNESS > 1:
            return  # a sanitizer's own memory is many times the program's
        over = {name: f"{peak / MIB:.1f} MiB, bound {MEMORY_BYTES[name] / MIB:.0f}"
                for name, peak in self.peaks.items() if peak > MEMORY_BYTES[name]}
        assert not over, over
        assert set(self.peaks) >= {"broker", "gateway", "slot"}, self.peaks


class Sampler:
    """Samples the memory of every process, in a thread, while it is entered."""

    def __init__(self, cluster, every_s=0.3):
        self.cluster, self.every_s = cluster, every_s
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(self.every_s):
            self.cluster.sample()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
