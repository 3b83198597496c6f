"""Living with a mesh: clients that go on asking, scrapes, and whether anything grows."""

import http.client
import os
import re
import threading
import time
from pathlib import Path

from tests.harness.mesh import SLOWNESS

SETTLE_SHARE = 0.4  # of the time: what grows before it is caches and pools filling


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
