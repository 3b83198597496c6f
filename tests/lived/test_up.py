"""The mesh as one command, lived in: longer than any timer of its own."""

import re
import sys
import time
from pathlib import Path

from tests.harness.lived import Client, growth, scrape, usage
from tests.harness.mesh import ROOT, SLOWNESS, until
from tests.harness.scenes import encoded
from tests.harness.up import Up

sys.path.insert(0, str(ROOT / "client/python"))
import siftmesh  # noqa: E402

PICTURES = 8
CLIENTS = 3
PAUSE_S = 0.5  # between two requests of one client
RSS_GROWTH_KB = 3072
DESCRIPTORS_GROWTH = 2


def test_up_lives_with_the_same_processes_and_loses_nothing(tmp_path, lived_seconds):
    """With keep-alive clients at a low rate, a scrape a second of both services, and a
    handle of the mesh itself that is used at both ends only."""
    pictures = [encoded(".jpg", width=320, height=240, seed=n) for n in range(PICTURES)]
    with Up(tmp_path) as up:
        up.wait_ready()
        pids, ports = up.pids, [up.port("gateway"), up.port("monitor")]
        idle = siftmesh.Mesh(f"ipc://{up.runtime}/front.sock")
        first = len(idle.features(pictures[0]).keypoints)
        ends = time.monotonic() + lived_seconds
        clients = [Client(ports[0], pictures, PAUSE_S, ends) for _ in range(CLIENTS)]
        # Almost as rare as the gateway keeps an idle connection.
        clients.append(Client(ports[0], pictures, 45, ends))
        for client in clients:
            client.start()
        samples = {name: [] for name in pids}
        while time.monotonic() < ends:
            for port in ports:
                scrape(port)
            for name, pid in pids.items():
                samples[name].append(usage(pid))
            time.sleep(1)
        for client in clients:
            client.join(90 * SLOWNESS)
        assert [client.wrong for client in clients if client.wrong] == []
        assert all(client.answers > 1 for client in clients)
        assert len(idle.features(pictures[0]).keypoints) == first > 0
        idle.close()
        assert up.pids == pids, up.text()
        grown = {name: growth(s) for name, s in samples.items()}
        # A sanitizer keeps what was freed, to see it used.
        assert all(kb < RSS_GROWTH_KB or SLOWNESS > 1 for kb, _ in grown.values()), grown
        assert all(fds <= DESCRIPTORS_GROWTH for _, fds in grown.values()), grown
        said = [line for line in up.text().splitlines()
                if not re.match(r"results are kept|mesh ready|\w+ +ready +pid ", line)]
        assert said == []
        print("growth in KiB and descriptors:", grown,
              "answers:", sum(client.answers for client in clients))
    assert up.popen.returncode == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()),
          "no service stays")
