"""A broker that ends, by whatever signal, and the one after it: no client sees an error."""

import signal
import threading

import pytest

from tests.harness.mesh import SLOWNESS, until
from tests.harness.scenes import encoded

CLIENTS = 4


class Load:
    """Clients that ask one after the other, each for a picture of its own."""

    def __init__(self, mesh):
        self.mesh, self.over, self.statuses = mesh, threading.Event(), []
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(CLIENTS)]

    def ask(self, number):
        while not self.over.is_set():
            number += CLIENTS
            picture = encoded(".png", width=64, height=48, seed=number)
            answer = self.mesh.post("/v1/features", picture)
            self.statuses.append((answer.status, answer.body if answer.status != 200 else b""))

    def more(self, count):
        wanted = len(self.statuses) + count
        until(lambda: len(self.statuses) >= wanted, f"{count} more answers", 60)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def long_job(mesh):
    """A job that takes longer than a broker drains: a thread, and its answer."""
    slow, answers = encoded(".jpg", width=3200, height=2400, seed=5), []

    def ask():
        answers.append(mesh.post("/v1/features?h=40&template=21&search=35", slow, timeout=200))
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: mesh.status()["services"]["extract"]["running"] > 0, "the long job runs")
    return thread, answers


def restart(mesh, number):
    broker = mesh.processes.pop("broker")
    broker.signal(number)
    broker.wait()
    broker.killed = number == signal.SIGKILL
    mesh.finished.append(broker)
    mesh.start_one("broker")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_restarted_under_load_costs_no_client_an_error(mesh, number):
    mesh.start(broker={"job_timeout_ms": 120000, "drain_ms": 300},
               extractor={"job_timeout_ms": 110000},
               gateway={"request_timeout_ms": 180000})
    thread, answers = long_job(mesh)
    with Load(mesh) as load:
        load.more(20)
        restart(mesh, number)
        assert not answers, "the broker waited for the long job"
        load.more(20)
    bad = [status for status in load.statuses if status[0] != 200]
    assert not bad, f"{len(bad)} of {len(load.statuses)}: {bad[:3]}"
    thread.join()
    assert answers[0].status == 200


def test_a_broker_that_does_not_come_back_ends_what_it_had_in_time(mesh):
    mesh.start(gateway={"mesh_wait_ms": 500}, broker={"job_timeout_ms": 120000})
    thread, answers = long_job(mesh)
    mesh.kill("broker")
    thread.join(20 * SLOWNESS)
    assert answers, "it waits for ever"
    assert answers[0].status == 503 and answers[0].json()["code"] == "unavailable"
    assert int(answers[0].headers["retry-after"]) >= 1
