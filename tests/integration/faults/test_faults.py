"""kill -9 under load: no accepted request is lost, none is answered twice or wrongly.

Real processes under an open-loop load over HTTP and ZeroMQ (tests/harness/openload.py).
SIFTMESH_FAULT_SECONDS is the length of the random part, all three loads together; `./dev
faults 120` runs two minutes of it. SIFTMESH_FAULT_SEED chooses another run.
"""

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness.expected import LIGHT, MIXED, Book
from tests.harness.mesh import BIN, SLOWNESS, free_port, until
from tests.integration.faults import storm
from tests.integration.faults.cluster import Cluster, Kill, children

SECONDS = float(os.environ.get("SIFTMESH_FAULT_SECONDS", "9"))
SEED = int(os.environ.get("SIFTMESH_FAULT_SEED", "1"))
NAMES = ("broker", "cacher", "extractor", "monitor", "gateway", "gateway2")
MANY = 30     # requests that end between two deaths
HANG_S = 4.0  # more than three heartbeats: sessions end
GENTLE = 0.3  # of the capacity: nothing waits long, so nothing may end but well


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Pictures of some milliseconds each: many requests on their way at each death."""
    return Book(tmp_path_factory.mktemp("book"), LIGHT)


@pytest.fixture(scope="module")
def mixed_book(tmp_path_factory):
    """Slower ones, so that ten times the capacity is not the generator's own limit."""
    return Book(tmp_path_factory.mktemp("book"), MIXED)


@pytest.fixture
def cluster(request, tmp_path):
    cluster = Cluster(tmp_path)
    yield cluster
    if getattr(request.node, "failed_so_far", False):
        print(cluster.logs())
    cluster.stop()


def say(what, ledger, cluster):
    late = f"; the generator was {ledger.late_s:.2f} s late at most"
    peaks = ", ".join(f"{name} {peak >> 20}" for name, peak in sorted(cluster.peaks.items()))
    print(f"\n{what}: {ledger.counts()}{late}; peak PSS in MiB: {peaks}; "
          f"{len(cluster.kills)} kills")


def test_the_answers_that_are_expected_are_the_offline_pipelines(book, mixed_book):
    book.verify()
    mixed_book.verify()


def test_each_process_killed_in_turn_costs_nothing_but_its_own_connections(cluster, book):
    cluster.start()
    rate = GENTLE * storm.capacity(cluster, book, SEED)

    def deaths(ledger):
        for name in NAMES:
            storm.wait_for_ends(ledger, MANY)
            cluster.kill_all_of([name])
            cluster.wait_whole()
        storm.wait_for_ends(ledger, MANY)
    ledger = storm.run(cluster, book, SEED, rate, 300, deaths)
    say("in turn", ledger, cluster)
    storm.judge(cluster, ledger)


@pytest.mark.parametrize("pair", [
    pair for pair in itertools.combinations(NAMES, 2)
    # In `./dev test` those that share most; every pair in `./dev faults`.
    if SECONDS > 30 or pair in (("broker", "extractor"), ("broker", "gateway"),
                                ("broker", "cacher"), ("cacher", "extractor"))
], ids="+".join)
def test_a_pair_killed_at_once_costs_nothing_but_its_own_connections(cluster, book, pair):
    cluster.start()
    rate = GENTLE * storm.capacity(cluster, book, SEED, 1.0)

    def deaths(ledger):
        storm.wait_for_ends(ledger, MANY)
        cluster.kill_all_of(pair)
        cluster.wait_whole()
        storm.wait_for_ends(ledger, MANY)
    ledger = storm.run(cluster, book, SEED, rate, 300, deaths)
    say("+".join(pair), ledger, cluster)
    storm.judge(cluster, ledger)


def test_a_broker_restarted_again_and_again_is_noticed_by_its_epoch(cluster, book):
    cluster.start()
    rate = GENTLE * storm.capacity(cluster, book, SEED, 1.0)
    slots, workers = set(cluster.slot_pids()), cluster.processes["extractor"].pid

    def deaths(ledger):
        for _ in range(3):
            storm.wait_for_ends(ledger, MANY)
            cluster.kill_all_of(["broker"], 0.3)
            cluster.wait_whole()
        storm.wait_for_ends(ledger, MANY)
    ledger = storm.run(cluster, book, SEED, rate, 300, deaths)
    say("broker three times", ledger, cluster)
    storm.judge(cluster, ledger)
    assert cluster.counter("gateway", "siftmesh_gateway_flights_restarted_total") > 0
    # The workers came back by themselves, with the slots that they had.
    assert cluster.processes["extractor"].pid == workers
    assert set(cluster.slot_pids()) == slots


@pytest.mark.parametrize("name", [
    # In `./dev test` those that hold requests.
    name for name in NAMES if SECONDS > 30 or name in ("broker", "cacher", "gateway2")])
def test_a_process_that_hangs_beyond_its_heartbeats_costs_no_request(cluster, book, name):
    cluster.start()
    rate = GENTLE * storm.capacity(cluster, book, SEED, 1.0)

    def hang(ledger):
        storm.wait_for_ends(ledger, MANY)
        cluster.hang(name, HANG_S)
        cluster.wait_whole()
        storm.wait_for_ends(ledger, MANY)
    ledger = storm.run(cluster, book, SEED, rate, 300, hang)
    say(f"{name} hung", ledger, cluster)
    storm.judge(cluster, ledger)
    assert not cluster.kills


@pytest.mark.parametrize("times", [1, 3, 10])
def test_random_deaths_under_load(cluster, mixed_book, times):
    book = mixed_book
    cluster.start()
    rate = times * storm.capacity(cluster, book, SEED)
    seconds = SECONDS / 3
    ledger = storm.run(cluster, book, SEED + times, rate, seconds + 60,
                       storm.random_deaths(cluster, SEED + times, seconds))
    say(f"{times} x {rate / times:.0f}/s", ledger, cluster)
    storm.judge(cluster, ledger, overloaded=True)
    # And all is well after: what is asked for now is answered.
    calm = storm.run(cluster, book, SEED, GENTLE * rate / times, 1.0)
    storm.judge(cluster, calm)


# ---- siftmesh up ----

class Supervised(Cluster):
    """The mesh as `siftmesh up` runs it; it starts again what is killed."""

    def start(self):
        self.gateways, self.ports, self.kills = ["gateway"], [free_port()], []
        self.peaks, self.options = {}, {"extractor": {"slots": 2}}
        self.runtime = Path(self.runtime)
        config = self.folder / "mesh.conf"
        config.write_text("[gateway]\nallow_high = true\naccess_log = errors\n"
                          f"request_timeout_ms = {int(10000 * SLOWNESS)}\n")
        self.log = open(self.folder / "up.log", "wb")
        self.up = subprocess.Popen(
            [str(BIN / "siftmesh"), "up", "--listen", f"127.0.0.1:{self.ports[0]}",
             "--monitor-listen", "127.0.0.1:0", "--runtime-dir", str(self.runtime),
             "--slots", "2", "--config", str(config)], stdout=self.log, stderr=self.log)
        until(lambda: "mesh ready" in (self.folder / "up.log").read_text(), "mesh ready", 30)
        until(self.is_whole, "both slots are up")
        return self

    def pid_of(self, name):
        for pid in children(self.up.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"siftmesh-" + name.encode()):
                return pid
        return None

    def kill_supervised(self, name):
        kill = Kill(name)
        self.kills.append(kill)
        pid = self.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.pid_of(name) not in (None, pid), f"{name} is started again")
        kill.back = time.monotonic()

    def peers(self):
        return {self.pid_of(name) for name in NAMES[1:5]}

    def sample(self):
        pass

    def check_memory(self):
        pass

    def stop(self):
        self.up.send_signal(signal.SIGTERM)
        code = self.up.wait(60 * SLOWNESS)
        self.log.close()
        subprocess.run(["rm", "-rf", "--", str(self.runtime)], check=True)
        assert code == 0, (self.folder / "up.log").read_text()

    def logs(self):
        return (self.folder / "up.log").read_text()[-4000:]


def test_what_siftmesh_up_starts_again_costs_nothing_but_its_own_connections(tmp_path, book):
    cluster = Supervised(tmp_path)
    cluster.start()
    try:
        rate = GENTLE * storm.capacity(cluster, book, SEED, 1.0)

        def deaths(ledger):
            for name in NAMES[:5]:
                storm.wait_for_ends(ledger, MANY)
                cluster.kill_supervised(name)
                cluster.wait_whole()
            storm.wait_for_ends(ledger, MANY)
        ledger = storm.run(cluster, book, SEED, rate, 300, deaths)
        say("siftmesh up", ledger, cluster)
        storm.judge(cluster, ledger)
    finally:
        print(cluster.logs())
        cluster.stop()
    assert len(cluster.kills) == 5
