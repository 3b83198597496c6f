"""The mesh under change: coalescing, deaths, drains, departures, more and fewer slots."""

import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.mesh import SLOWNESS, Mesh, until
from tests.harness.scenes import encoded

LARGE = {"width": 900, "height": 700}


def extractor_jobs_done(mesh):
    return mesh.counter("monitor", "siftmesh_extractor_jobs_done_total")


# VLFeat takes long enough for a test to see a job running.
SLOW = "/v1/features?sift=vlfeat"


def post_many(mesh, pictures, workers=16, path="/v1/features"):
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda p: mesh.post(path, p), pictures))


class Load:
    """Requests for slow pictures on their way, in a thread; join() gives the answers."""

    def __init__(self, mesh, pictures):
        self.answers = []
        self.thread = threading.Thread(
            target=lambda: self.answers.extend(post_many(mesh, pictures, path=SLOW)))
        self.thread.start()

    def running(self):
        return self.thread.is_alive()

    def join(self):
        self.thread.join()
        return self.answers


def test_a_thousand_identical_requests_compute_one_picture(mesh):
    mesh.start()
    picture = encoded(".jpg", seed=61)
    port, count = mesh.port(), 1000
    head = (f"POST /v1/features HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n"
            f"Connection: close\r\nContent-Length: {len(picture)}\r\n\r\n").encode()
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=120) for _ in range(count)]
    for s in sockets:
        s.sendall(head + picture)
    bodies, caches = set(), []
    for s in sockets:
        data = b"".join(iter(lambda: s.recv(1 << 20), b""))
        s.close()
        assert data.startswith(b"HTTP/1.1 200"), data[:300]
        header, _, body = data.partition(b"\r\n\r\n")
        bodies.add(body)
        caches.append(re.search(rb"X-Cache: (\w+)", header, re.I).group(1))
    assert len(bodies) == 1
    assert caches.count(b"miss") == 1
    assert set(caches) <= {b"miss", b"hit", b"coalesced"}
    until(lambda: extractor_jobs_done(mesh) == 1, "the monitor has seen one job, no more")


def test_two_gateways_compute_a_picture_once(mesh):
    mesh.start()
    other = Mesh(mesh.folder)
    other.runtime = mesh.runtime
    first_port = mesh.port()
    second = mesh.start_one("gateway")  # its port file replaces the first one's
    mesh.finished.append(second)
    second_port = mesh.port()
    assert first_port != second_port
    picture = encoded(".png", seed=62, **LARGE)
    caches = []

    def post(port):
        import http.client
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/v1/features", picture)
        response = connection.getresponse()
        response.read()
        caches.append((response.status, response.getheader("X-Cache")))
    until(lambda: mesh.get("/readyz").status == 200, "the second gateway is ready")
    threads = [threading.Thread(target=post, args=(p,)) for p in (first_port, second_port)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(caches) in ([(200, "coalesced"), (200, "miss")], [(200, "hit"), (200, "miss")])


def test_a_killed_slot_costs_no_request(mesh):
    mesh.start(extractor={"slots": 2})
    pictures = [encoded(".png", seed=70 + i, width=500, height=400) for i in range(12)]
    before = set(mesh.slot_pids())
    assert len(before) == 2
    load = Load(mesh, pictures)
    until(lambda: mesh.status()["services"]["extract"]["running"] == 2, "both slots work")
    for pid in before:
        import os
        os.kill(pid, signal.SIGKILL)
    assert [a.status for a in load.join()] == [200] * len(pictures)
    until(lambda: len(mesh.slot_pids()) == 2, "the slots were replaced")
    assert not before & set(mesh.slot_pids())


@pytest.mark.parametrize("name", ["extractor", "cacher", "monitor"])
def test_a_killed_worker_that_comes_back_costs_no_request(mesh, name):
    mesh.start(extractor={"slots": 2})
    pictures = [encoded(".png", seed=90 + i, width=400, height=300) for i in range(8)]
    load = Load(mesh, pictures)
    until(lambda: mesh.status()["services"]["extract"]["running"] > 0, "work has begun")
    mesh.kill(name)
    mesh.start_one(name)
    assert [a.status for a in load.join()] == [200] * len(pictures)


def test_a_restarted_broker_costs_no_request(mesh):
    mesh.start(extractor={"slots": 2})
    pictures = [encoded(".png", seed=110 + i, width=400, height=300) for i in range(8)]
    load = Load(mesh, pictures)
    until(lambda: mesh.status()["services"]["extract"]["running"] > 0, "work has begun")
    mesh.kill("broker")
    mesh.start_one("broker")
    assert [a.status for a in load.join()] == [200] * len(pictures)


@pytest.mark.parametrize("name", ["gateway", "extractor", "broker", "cacher"])
def test_sigterm_under_load_loses_no_accepted_request(mesh, name):
    mesh.start(extractor={"slots": 2})
    pictures = [encoded(".png", seed=130 + i, width=400, height=300) for i in range(8)]
    port, answers = mesh.port(), []

    def post(picture):
        """True: answered 200. False: an honest refusal. Raises: lost."""
        try:
            s = socket.create_connection(("127.0.0.1", port), timeout=120)
        except ConnectionRefusedError:
            return 503  # never accepted
        with s:
            s.sendall(f"POST {SLOW} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
                      + b"Content-Length: %d\r\n\r\n" % len(picture) + picture)
            data = b"".join(iter(lambda: s.recv(1 << 20), b""))
        assert data, "an accepted request was lost"
        return int(data.split()[1])

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(post, p) for p in pictures]
        until(lambda: mesh.status()["services"]["extract"]["running"] == 2, "work has begun")
        process = mesh.processes.pop(name)
        mesh.finished.append(process)
        process.signal(signal.SIGTERM)
        if name != "gateway":
            # Somebody takes over, as siftmesh up would see to.
            process.wait()
            mesh.start_one(name)
        answers = [f.result() for f in running]
    if name == "gateway":
        process.wait()
    assert process.popen.returncode == 0, process.text()
    assert answers == [200] * len(pictures)


def resident_bytes(pids):
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) * 1024
    return total


def test_scaling_is_seen_in_processes_and_memory(mesh):
    mesh.start(extractor={"slots": 2, "slots_max": 6})
    assert len(mesh.slot_pids()) == 2
    mesh.command("scale", 6)
    until(lambda: len(mesh.slot_pids()) == 6, "six slots live")
    pictures = [encoded(".png", seed=160 + i, width=600, height=500) for i in range(12)]
    load, six = Load(mesh, pictures), 0
    everybody = mesh.slot_pids()
    while load.running():
        six = max(six, resident_bytes(everybody))
    assert {a.status for a in load.join()} == {200}
    mesh.command("scale", 1)
    until(lambda: len(mesh.slot_pids()) == 1, "one slot lives")
    # A sanitizer keeps freed memory of the slot that stays for a while.
    share = 6 if SLOWNESS == 1 else 2
    until(lambda: resident_bytes(everybody) < six / share, "their memory has gone back")
    assert mesh.post("/v1/features", encoded(".png", seed=170)).status == 200
    mesh.command("scale", 0)
    until(lambda: len(mesh.slot_pids()) == 2, "the operator's number was taken back")


def test_a_target_ends_with_its_time_to_live(mesh):
    mesh.start(extractor={"slots": 2})
    mesh.command("scale", 1, "--for", 1)
    until(lambda: len(mesh.slot_pids()) == 1, "the target holds")
    until(lambda: len(mesh.slot_pids()) == 2, "and is forgotten")


def test_scaling_down_lets_the_job_in_hand_finish(mesh):
    mesh.start(extractor={"slots": 2})
    pictures = [encoded(".png", seed=180 + i, width=600, height=500) for i in range(4)]
    load = Load(mesh, pictures)
    until(lambda: mesh.status()["services"]["extract"]["running"] == 2, "both slots work")
    mesh.command("scale", 1)
    assert [a.status for a in load.join()] == [200] * 4


def test_a_drained_slot_is_replaced(mesh):
    mesh.start(extractor={"slots": 2})
    before = set(mesh.slot_pids())
    numbers = [s["slot"] for w in mesh.status()["workers"] if w["service"] == "extract"
               for s in w["stats"]["slot_list"]]
    assert len(numbers) == 2
    mesh.command("drain", numbers[0])
    until(lambda: len(mesh.slot_pids()) == 2 and len(before & set(mesh.slot_pids())) == 1,
          "one slot is new, the other one stayed")
    assert mesh.command("drain", 99999, check=False).returncode != 0


class FakeProc:
    """A procfs that says what a test wants: memory in use, and an idle CPU whose clock
    goes on."""

    def __init__(self, folder):
        self.folder, self.ticks, self.stopped = folder, 0, False
        folder.mkdir()
        self.memory(40)
        self.tick()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def write(self, name, text):
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(self.folder / name)

    def memory(self, percent):
        free = 10000 * (100 - percent)
        self.wanted = (f"MemTotal: 1000000 kB\nMemFree: {free} kB\n"
                       f"MemAvailable: {free} kB\n")

    def tick(self):
        self.ticks += 10
        self.write("stat", f"cpu {self.ticks // 10} 0 0 {self.ticks} 0 0 0 0 0 0\n")
        self.write("meminfo", self.wanted)

    def run(self):
        while not self.stopped:
            self.tick()
            time.sleep(0.02)  # the machine's own clock, not a wait for the mesh

    def stop(self):
        self.stopped = True
        self.thread.join()


@pytest.fixture
def proc(tmp_path):
    proc = FakeProc(tmp_path / "proc")
    yield proc
    proc.stop()


def monitor_options(proc, **more):
    return {"procfs": proc.folder, "cgroupfs": proc.folder / "none", "interval_ms": 100,
            "shrink_wait_ms": 100, **more}


def test_memory_pressure_shrinks_the_slots_and_relief_restores_them(mesh, proc):
    mesh.start(extractor={"slots": 4}, monitor=monitor_options(proc, hold_ms=200))
    until(lambda: len(mesh.slot_pids()) == 4, "all slots live")
    proc.memory(85)
    until(lambda: len(mesh.slot_pids()) == 1, "one slot under pressure")
    decisions = mesh.get("/decisions", service="monitor").json()["decisions"]
    texts = [d["text"] for d in decisions]
    assert "slots 4 -> 2: memory 85 % > 80 %" in texts, texts
    assert "slots 2 -> 1: memory 85 % > 80 %" in texts, texts
    proc.memory(40)
    until(lambda: len(mesh.slot_pids()) == 4, "all slots again after relief")


def test_the_monitors_target_is_forgotten_when_it_dies(mesh, proc):
    proc.memory(94)
    mesh.start(extractor={"slots": 4}, monitor=monitor_options(proc, ttl_ms=2000))
    until(lambda: len(mesh.slot_pids()) == 1, "one slot under pressure")
    mesh.kill("monitor")
    until(lambda: len(mesh.slot_pids()) == 4, "the safe default again", 40)


def test_memory_of_the_gateway_stays_flat_over_many_requests(mesh):
    mesh.start(gateway={"hot_bytes_max": 1 << 20}, cacher={"memory_bytes_max": 4 << 20})
    pictures = [encoded(".png", seed=200 + i, width=64, height=64) for i in range(40)]

    def a_round():
        post_many(mesh, pictures, 4)
        return resident_bytes([mesh.processes["gateway"].pid, mesh.processes["broker"].pid])
    a_round()
    warm = a_round()
    for _ in range(4):
        last = a_round()
    assert last < warm + (4 << 20) * SLOWNESS


def test_a_second_broker_in_the_same_folder_refuses_to_start(mesh):
    mesh.start(services=["broker"])
    until(lambda: mesh.command("status", check=False).returncode == 0, "the broker is up")
    second = mesh.start_one("broker")
    assert second.wait() == 69  # EX_UNAVAILABLE
    mesh.finished.append(second)
    second.killed = True


def test_rubbish_on_the_mesh_sockets_disturbs_nobody(mesh):
    import os
    import zmq
    mesh.start()
    context = zmq.Context()
    for name in ("front", "back"):
        s = context.socket(zmq.DEALER)
        s.setsockopt(zmq.LINGER, 500)
        s.connect(f"ipc://{mesh.runtime}/{name}.sock")
        for frames in ([b""], [b"x"], [os.urandom(64), b"", b""], [b"SMP1" + bytes(60)],
                       [b"SMP1\x01\x03" + bytes(58), b"\xff" * 100],
                       [b"SMP1\x01\x03" + bytes(58), b"\x81\xa1a\xc0", b"p", b"extra"],
                       [b"SMP1\x09\x03" + bytes(58), b""], [os.urandom(5000)] * 20):
            for _ in range(5):
                s.send_multipart(frames)
        s.close()
    context.term()
    assert mesh.post("/v1/features", encoded(".png", seed=300)).status == 200
    assert mesh.processes["broker"].alive()


def test_nothing_is_left_running_or_open_after_a_stop(mesh):
    mesh.start()
    pids = mesh.slot_pids() + [p.pid for p in mesh.processes.values()]
    for name in ("gateway", "monitor", "extractor", "cacher", "broker"):
        process = mesh.processes[name]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.text()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    left = {p.name for p in mesh.runtime.iterdir()}
    assert not {n for n in left if n.endswith(".sock")}, left


def test_killing_the_supervisor_ends_its_slots(mesh):
    mesh.start()
    slots = mesh.slot_pids()
    mesh.kill("extractor")
    until(lambda: not [p for p in slots if Path(f"/proc/{p}").exists()], "no orphan is left", 5)


def test_time_in_queue_is_told(mesh):
    mesh.start(extractor={"slots": 1})
    pictures = [encoded(".png", seed=400 + i, **LARGE) for i in range(3)]
    answers = post_many(mesh, pictures, 3, SLOW)
    queues = sorted(float(re.search(r"queue;dur=([0-9.]+)", a.headers["server-timing"]).group(1))
                    for a in answers)
    assert queues[-1] > queues[0]
