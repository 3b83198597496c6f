"""One load with deaths in it, and the judgement over every request."""

import asyncio
import itertools
import random
import time

from tests.harness.mesh import SLOWNESS, until
from tests.harness.openload import HttpLane, Ledger, Mix, drive, one_request, schedule
from tests.harness.openmesh import MeshLane
from tests.integration.faults.cluster import BUDGET_S, Sampler

DRAIN_S = BUDGET_S + 10.0  # beyond a request's own time: it must have ended long before
CLIENTS = 12               # of the closed loop that measures capacity
# Ends that say "not now" and "not in time": honest under overload, or when what a request
# needs is away for longer than it may wait.
OVERLOAD = {"full", "unavailable", "deadline_exceeded"}
# An attempt that is lost is tried once more; whose second one is lost as well has an end.
TWO_DEATHS = {"worker_lost", "poison_input"}


def lanes(cluster, ledger):
    return {"http": HttpLane(cluster.ports, ledger),
            "mesh": MeshLane(cluster.front, ledger, BUDGET_S * SLOWNESS)}


async def closed_loop(cluster, book, dice, seconds, mix):
    """CLIENTS clients that each wait for their answer. Returns the ledger."""
    ledger = Ledger()
    ways, numbers = lanes(cluster, ledger), itertools.count()
    for way in ways.values():
        await way.begin()
    begin = time.monotonic()

    def next_one():
        request = one_request(dice, book, mix, len(cluster.ports), next(numbers), 0)
        request.due = time.monotonic()
        ledger.begin(request)
        ways[request.lane].submit(request)

    while time.monotonic() < begin + seconds:
        while ledger.open < CLIENTS:
            next_one()
        await asyncio.sleep(0.001)
    while ledger.open and time.monotonic() < begin + seconds + DRAIN_S * SLOWNESS:
        await asyncio.sleep(0.01)
    for way in ways.values():
        await way.close()
    assert not ledger.wrong, ledger.wrong[:5]
    return ledger


def capacity(cluster, book, seed, seconds=2.0, mix=Mix()):
    """Answers a second in a closed loop, the known pictures' ones warm."""
    for picture in book.known:
        cluster.post(picture.path, picture.bytes, headers={"Accept": "application/octet-stream"})
    ledger = asyncio.run(closed_loop(cluster, book, random.Random(seed), seconds, mix))
    return sum(r.ok and r.ended < ledger.requests[0].due + seconds
               for r in ledger.requests) / seconds


def wait_for_ends(ledger, count):
    """Until so many more requests have ended: the load is under way, or has gone on."""
    wanted = len(ledger.requests) - ledger.open + count
    until(lambda: len(ledger.requests) - ledger.open >= wanted, f"{count} more ends", 60)


def run(cluster, book, seed, rate, seconds, deaths=None, mix=Mix()):
    """A load at `rate` while deaths(ledger) runs in a thread; the load ends with it, or
    after `seconds`. Returns its ledger."""
    ledger = Ledger()
    requests = schedule(random.Random(seed), book, rate, seconds, mix, len(cluster.ports))

    async def both():
        over = asyncio.Event()
        load = asyncio.create_task(drive(requests, ledger, lanes(cluster, ledger),
                                         DRAIN_S * SLOWNESS, over))
        try:
            if deaths is not None:
                await asyncio.to_thread(deaths, ledger)
        finally:
            if deaths is not None:
                over.set()
            await load
    with Sampler(cluster):
        asyncio.run(both())
    cluster.sample()
    return ledger


def gateway_died(cluster, request):
    """Its gateway was killed while it was on its way, or was not back yet."""
    name = cluster.gateways[request.gateway]
    return any(k.name == name and k.at <= request.ended + 0.5
               and (k.back is None or request.sent <= k.back + 10 * SLOWNESS)
               for k in cluster.kills)


def slots_died_twice(cluster, request):
    kills = [k for k in cluster.kills if k.name == "extractor" and k.at < request.ended]
    return len(kills) >= 2


def wrong_end(cluster, request, overloaded):
    """Why this end is none that a request may have; None where it may."""
    if request.status == 200:
        return None
    if request.status in ("cut", "no connection"):
        if request.lane == "http" and gateway_died(cluster, request):
            return None
        return "its gateway was not killed"
    code = request.code if request.lane == "http" else request.status
    if code in TWO_DEATHS:
        return None if slots_died_twice(cluster, request) else "the slots were not killed twice"
    if not overloaded:
        return "a retry could have avoided it"
    if request.status == 503 and request.retry_after < 1:
        return "503 without Retry-After"
    if code in OVERLOAD or (request.lane == "mesh" and code == "gave up"):
        return None
    return "no such end was due"


def judge(cluster, ledger, overloaded=False):
    """Every request has one end, and one that it may have."""
    wrong = list(ledger.wrong)
    for request in ledger.requests:
        why = wrong_end(cluster, request, overloaded)
        if why is not None:
            wrong.append(f"{request.lane} {request.number}: {request.status} {request.code} "
                         f"({request.detail}) after {request.seconds:.2f} s: {why}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong ends of {len(ledger.requests)}",
                                 *wrong[:12], str(ledger.counts())])
    assert ledger.requests and any(r.ok for r in ledger.requests), ledger.counts()
    cluster.check_memory()


def random_deaths(cluster, seed, seconds):
    """A process dies every 0.3 to 2 s, sometimes two; away for up to half a second."""
    dice = random.Random(seed)

    def die(ledger):
        wait_for_ends(ledger, 20)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            names = sorted(cluster.processes)
            cluster.kill_all_of(dice.sample(names, dice.choice((1, 1, 1, 2))),
                                dice.uniform(0, 0.5))
            time.sleep(dice.uniform(0.3, 2.0))  # when chaos strikes, not a wait
        cluster.wait_whole()
    return die
