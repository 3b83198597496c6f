"""Gateways behind a proxy are restarted one after the other, and no client notices."""

import collections
import http.client
import signal
import ssl
import threading
import time

import pytest

from tests.harness.mesh import SLOWNESS, Answer, free_port, until
from tests.harness.proxy import Proxy, find
from tests.harness.scenes import encoded

PICTURE = encoded(".png", width=64, height=48, seed=51)
LAME_DUCK_MS = int(3000 * SLOWNESS)
CLIENTS = 6


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20 * SLOWNESS)
    try:
        connection.request(method, path, body)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def readiness(port):
    try:
        return ask(port, "GET", "/readyz").status
    except OSError:
        return 0


def counted(port):
    """Results that the gateway at this port has answered."""
    try:
        text = ask(port, "GET", "/metrics").body.decode()
    except OSError:
        return 0
    return sum(float(line.split()[-1]) for line in text.splitlines()
               if line.startswith("siftmesh_gateway_results_total{"))


class Load:
    """Clients that ask without a pause, on connections that they keep, or one each."""

    def __init__(self, port):
        self.port, self.over, self.ends = port, False, collections.Counter()
        self.context = ssl._create_unverified_context()
        self.threads = [threading.Thread(target=self.run, args=(i % 2 == 0,), daemon=True)
                        for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def once(self, connection):
        connection.request("POST", "/v1/features", PICTURE)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def run(self, keeps):
        connection = None
        while not self.over:
            if connection is None or not keeps:
                connection = http.client.HTTPSConnection(
                    "127.0.0.1", self.port, timeout=30 * SLOWNESS, context=self.context)
            try:
                end = self.once(connection)
            except (OSError, http.client.HTTPException) as error:
                end, connection = repr(error), None
            self.ends[end] += 1
            time.sleep(0.02)  # the machine has other things to do

    def stop(self):
        self.over = True
        for thread in self.threads:
            thread.join()
        return self.ends


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_gateways_are_restarted_one_by_one_and_no_request_is_lost(mesh, tmp_path, kind):
    if not find(kind) or not find("openssl"):
        pytest.skip(f"{kind} or openssl is not installed")
    ports = [free_port(), free_port()]
    more = {"lame_duck_ms": LAME_DUCK_MS}
    mesh.start(gateway={"listen": f"127.0.0.1:{ports[0]}", **more})
    gateways = [mesh.processes["gateway"],
                mesh.start_one("gateway", listen=f"127.0.0.1:{ports[1]}")]
    until(lambda: readiness(ports[1]) == 200, "both are ready")
    proxy = Proxy(kind, tmp_path, *ports)
    try:
        proxy.wait_ready()
        load = Load(proxy.port)
        until(lambda: all(counted(port) > 0 for port in ports), "both are used")
        for i, port in enumerate(ports):
            gateways[i].signal(signal.SIGTERM)
            until(lambda: readiness(port) == 503, "it says that it leaves")
            answer = ask(port, "POST", "/v1/features", PICTURE)
            assert answer.status == 200 and answer.headers["connection"] == "close"
            assert gateways[i].wait() == 0
            mesh.start_one("gateway", listen=f"127.0.0.1:{port}")
            until(lambda: counted(port) > 0, "the proxy uses it again", 30)
        ends = load.stop()
        print(kind, dict(ends))
        assert set(ends) == {200}, ends
    finally:
        proxy.stop()


def test_sigint_does_not_wait_for_proxies(mesh):
    mesh.start(gateway={"lame_duck_ms": 600000})
    mesh.processes["gateway"].signal(signal.SIGINT)
    assert mesh.processes["gateway"].wait(20) == 0


def test_a_second_signal_ends_the_wait_for_proxies(mesh):
    mesh.start(gateway={"lame_duck_ms": 600000})
    gateway = mesh.processes["gateway"]
    gateway.signal(signal.SIGTERM)
    until(lambda: mesh.get("/readyz").status == 503, "it says that it leaves")
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(20) == 0
