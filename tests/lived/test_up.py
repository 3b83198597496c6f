"""The mesh as one command, lived in: longer than any timer of its own."""

import http.client
import os
import re
import threading
import time
from pathlib import Path

from tests.harness.mesh import SLOWNESS, until
from tests.harness.scenes import encoded
from tests.harness.up import Up

PICTURES = 8
CLIENTS = 3
PAUSE_S = 0.5  # between two requests of one client
SETTLE_SHARE = 0.4  # of the time: what grows before it is caches and pools filling
RSS_GROWTH_KB = 3072
DESCRIPTORS_GROWTH = 2


class Client(threading.Thread):
    """Asks over one connection for as long as it lasts; a lost request is an error."""

    def __init__(self, port, pictures, pause_s, ends):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60 * SLOWNESS)
        self.connection.auto_open = 0  # a connection that the server closes is seen
        self.pictures, self.pause_s, self.ends = pictures, pause_s, ends
        self.answers, self.wrong = 0, []
        self.bodies = {}

    def run(self):
        try:
            self.connection.connect()
            number = 0
            while time.monotonic() < self.ends:
                self.ask(number % len(self.pictures))
                number += 1
                time.sleep(max(0, min(self.pause_s, self.ends - time.monotonic())))
        except OSError as error:
            self.wrong.append(repr(error))
        except http.client.HTTPException as error:
            self.wrong.append(repr(error))
        finally:
            self.connection.close()

    def ask(self, which):
        self.connection.request("POST", "/v1/features", body=self.pictures[which])
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200 or self.bodies.setdefault(which, body) != body:
            self.wrong.append((answer.status, body[:200]))
        self.answers += 1


def scrape(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20 * SLOWNESS)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200 and b"siftmesh_" in text
    return text


def usage(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    rss_kb = int(re.search(r"^VmRSS:\s+(\d+)", status, re.M).group(1))
    return rss_kb, len(os.listdir(f"/proc/{pid}/fd"))


def growth(samples):
    """From the time when caches are filled to the end, in medians of a fifth each."""
    settled = samples[int(len(samples) * SETTLE_SHARE):]
    fifth = max(1, len(settled) // 5)

    def median(values):
        return sorted(values)[len(values) // 2]
    return [median([s[i] for s in settled[-fifth:]]) - median([s[i] for s in settled[:fifth]])
            for i in range(2)]


def test_up_lives_with_the_same_processes_and_loses_nothing(tmp_path, lived_seconds):
    """With keep-alive clients at a low rate and a scrape a second of both services."""
    pictures = [encoded(".jpg", width=320, height=240, seed=n) for n in range(PICTURES)]
    with Up(tmp_path) as up:
        up.wait_ready()
        pids, ports = up.pids, [up.port("gateway"), up.port("monitor")]
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
