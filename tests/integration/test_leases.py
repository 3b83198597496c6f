"""One computation for all who ask, over two gateways; and its priority is that of the most
urgent of them."""

import http.client
import threading
import time

from tests.harness.mesh import SLOWNESS, until
from tests.harness.scenes import encoded

SLOW = "?h=40&template=21&search=35"
MANY = "?h=0.1&template=21&search=35&contrast=0&edge=1000"  # slow, and a large result


class Asker(threading.Thread):
    """Posts a picture to a gateway; then .status, .cache and .ended, a time."""

    def __init__(self, port, picture, query="", priority="normal"):
        super().__init__(daemon=True)
        self.port, self.picture, self.query, self.priority = port, picture, query, priority
        self.status = self.cache = self.ended = None
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90 * SLOWNESS)
        connection.request("POST", "/v1/features" + self.query, self.picture,
                           {"X-Siftmesh-Priority": self.priority,
                            "Accept": "application/octet-stream"})
        response = connection.getresponse()
        self.size = len(response.read())
        self.cache = response.headers["X-Cache"]
        self.status, self.ended = response.status, time.monotonic()
        connection.close()


def running(mesh):
    return mesh.status()["services"]["extract"]["running"]


def queued(mesh):
    return sum(q["jobs"] for q in mesh.status()["services"]["extract"]["queues"])



def test_a_put_that_is_left_out_lets_the_next_gateway_compute(mesh):
    picture = encoded(".jpg", width=1000, height=750, seed=71)
    # The picture may go to the broker, its result may not: it is larger.
    mesh.start(broker={"client_bytes": len(picture) + 100}, cacher={"lease_ms": 600000})
    first_port = mesh.port()
    mesh.start_one("gateway")
    mesh.wait_ready()
    first = Asker(first_port, picture, MANY)
    until(lambda: running(mesh) == 1, "the first gateway computes")
    second = Asker(mesh.port(), picture, MANY)
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_mesh_open") > 0, "it looks it up")
    first.join(60 * SLOWNESS)
    assert first.status == 200 and first.size > len(picture) + 100
    second.join(30 * SLOWNESS)
    assert second.status == 200 and second.cache == "miss"
    until(lambda: mesh.counter("gateway", "siftmesh_gateway_drops_total") == 1, "it dropped")


def test_a_high_request_lifts_the_batch_one_for_the_same_picture(mesh):
    wanted = encoded(".png", width=200, height=150, seed=72)
    mesh.start(extractor={"slots": 1}, gateway={"allow_high": True})
    port = mesh.port()
    blocker = Asker(port, encoded(".jpg", width=1600, height=1200, seed=73), SLOW)
    until(lambda: running(mesh) == 1, "the slot is taken")
    batch = Asker(port, wanted, priority="batch")
    others = [Asker(port, encoded(".jpg", width=1400, height=1000, seed=80 + i))
              for i in range(3)]
    until(lambda: queued(mesh) == 4, "all wait")
    high = Asker(port, wanted, priority="high")
    for asker in (blocker, batch, high, *others):
        asker.join(60 * SLOWNESS)
        assert asker.status == 200
    assert blocker.ended < high.ended < min(other.ended for other in others)
    assert high.cache == "coalesced" and batch.ended < min(other.ended for other in others)
