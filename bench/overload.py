"""bench/overload: what is left of the throughput at ten times the capacity, and what the
high priority notices at three times.

An open loop (tests/harness/openload.py: arrivals by a seeded schedule, whatever is
answered; over HTTP and ZeroMQ; hits and misses; 10 % high, 60 % normal, 30 % batch) at
parts and multiples of the capacity, which a closed loop measures first, all in one run on
one machine with the generator on it. Goodput: right answers a second that a slot had to
work for (each is compared with the offline pipeline's, byte by byte); hits of the hot cache
come on top and grow with the load. High priority: from the moment that a request was due,
misses only; a refusal counts as for ever.

    ./dev bench overload [--seconds S] [--rounds N] [--slots N] [--high-slots N]
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("SIFTMESH_BIN", str(ROOT / "build/release/bin"))

from tests.harness.expected import EVEN, Book  # noqa: E402
from tests.harness.openload import Mix  # noqa: E402
from tests.integration.faults import storm  # noqa: E402
from tests.integration.faults.cluster import Cluster  # noqa: E402

LOADS = (0.1, 1.0, 1.5, 3.0, 10.0)
SETTLE = 0.2  # of a run: not counted


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, math.ceil(part * len(values)) - 1)] if values else 0


def figures(ledger, seconds):
    begin = min(r.due - r.due_s for r in ledger.requests)
    window = (begin + SETTLE * seconds, begin + seconds)
    good = sum(r.ok and window[0] <= r.ended < window[1] for r in ledger.requests
               if r.lane == "mesh" or not r.known)
    high = [r.seconds if r.ok else math.inf for r in ledger.requests
            if r.priority == "high" and not r.known and r.due >= window[0]]
    return {"goodput": good / (window[1] - window[0]), "high": high,
            "cores": ledger.cores, "late_s": ledger.late_s, "counts": ledger.counts()}


def why_not(ledger, priority):
    """Why requests of a priority were not answered: {sentence: number}."""
    found = {}
    for r in ledger.requests:
        if r.priority == priority and not r.ok:
            found[r.detail] = found.get(r.detail, 0) + 1
    return found


def one_round(cluster, book, seed, seconds):
    capacity = storm.capacity(cluster, book, seed, 6.0)
    rows = {}
    for load in LOADS:
        # Few arrivals at a tenth of the capacity, and all of them high: else no p99.
        quiet = load < 1
        mix = Mix(high=1.0, batch=0.0) if quiet else Mix()
        ledger = storm.run(cluster, book, seed, load * capacity, seconds * (2 if quiet else 1),
                           mix=mix)
        storm.judge(cluster, ledger, overloaded=True)
        rows[load] = figures(ledger, seconds * (2 if quiet else 1))
        print(f"  {load:5.1f} x {capacity:.0f}/s: goodput {rows[load]['goodput']:.1f}/s, high "
              f"p50 {1e3 * percentile(rows[load]['high'], 0.5):.0f} p99 "
              f"{1e3 * percentile(rows[load]['high'], 0.99):.0f} ms of "
              f"{len(rows[load]['high'])}; generator late {rows[load]['late_s']:.3f} s; "
              f"{rows[load]['counts']}; high not answered: {why_not(ledger, 'high')}; "
              f"the generator used {ledger.cores:.2f} cores", file=sys.stderr)
    return capacity, rows


def per_core(row):
    return row["goodput"] / (os.cpu_count() - row["cores"])


def report(rounds):
    print(f"\n{'load':>6}{'goodput/s':>12}{'high p50 ms':>13}{'high p99 ms':>13}")
    merged = {}
    for load in LOADS:
        goodput = statistics.median(rows[load]["goodput"] for _, rows in rounds)
        high = [t for _, rows in rounds for t in rows[load]["high"]]
        merged[load] = (goodput, high)
        print(f"{load:5.1f}x{goodput:12.1f}{1e3 * percentile(high, 0.5):13.0f}"
              f"{1e3 * percentile(high, 0.99):13.0f}")
    ratios = [rows[10.0]["goodput"] / max(r["goodput"] for r in rows.values())
              for _, rows in rounds]
    p99 = {load: percentile(merged[load][1], 0.99) for load in LOADS}
    print(f"\ncapacity (closed loop): {statistics.median(c for c, _ in rounds):.1f}/s")
    print(f"goodput at 10x is {statistics.median(ratios):.2f} of the peak (wanted: 0.9)")
    freed = [per_core(rows[10.0]) / max(per_core(r) for r in rows.values())
             for _, rows in rounds]
    print(f"  by the cores that the generator leaves: {statistics.median(freed):.2f} (it used "
          f"{statistics.median(rows[10.0]['cores'] for _, rows in rounds):.2f} of "
          f"{os.cpu_count()} at 10x)")
    print(f"high priority's p99 at 3x is {p99[3.0] / p99[0.1]:.2f} times its unloaded value "
          "(wanted: under 2)")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench overload", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of each load (15)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=os.cpu_count() + 1,
                        help="as many as the extractor's default, processors + 1")
    parser.add_argument("--high-slots", type=int, default=1, help="of the broker (1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory(prefix="siftmesh-bench-") as name:
        book = Book(Path(name), EVEN)
        book.verify()
        for number in range(options.rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            cluster = Cluster(folder)
            try:
                cluster.start(gateways=1, extractor={"slots": options.slots},
                              broker={"high_slots": options.high_slots})
                cluster.wait_whole()
                rounds.append(one_round(cluster, book, options.seed + number,
                                        options.seconds))
            finally:
                cluster.stop()
    report(rounds)


if __name__ == "__main__":
    main()
