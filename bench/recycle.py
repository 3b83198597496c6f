"""bench/recycle: what replacing slots costs in throughput.

Two meshes, one that replaces a slot after --jobs jobs (ten times as often as by default)
and one that never does, are given misses by a closed loop in turn, round after round, so
that what else the machine does hits both. Told: the median of the ratios, and of each
mesh the slowest tenth of its quarter seconds beside its median: a dip would show there.

    ./dev bench recycle [--rounds N] [--seconds S] [--jobs N]
"""

import argparse
import asyncio
import os
import random
import re
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("SIFTMESH_BIN", str(ROOT / "build/release/bin"))

from tests.harness.expected import LIGHT, Book  # noqa: E402
from tests.harness.openload import Mix  # noqa: E402
from tests.integration.faults import storm  # noqa: E402
from tests.integration.faults.cluster import Cluster  # noqa: E402

WINDOW_S = 0.25
MISSES = Mix(known=0.0, mesh=0.0)


def rates(ledger, seconds):
    """Answers a second in each window."""
    begin = ledger.requests[0].due
    counts = [0] * int(seconds / WINDOW_S)
    for request in ledger.requests:
        window = int((request.ended - begin) / WINDOW_S)
        if request.ok and window < len(counts):
            counts[window] += 1
    return [count / WINDOW_S for count in counts]


def measure(cluster, book, seed, seconds):
    ledger = asyncio.run(storm.closed_loop(cluster, book, random.Random(seed), seconds, MISSES))
    return rates(ledger, seconds)


def replaced(cluster):
    return len(re.findall(r'"why":"jobs"', cluster.processes["extractor"].text()))


def slowest(values):
    return statistics.quantiles(values, n=10)[0]


def main():
    parser = argparse.ArgumentParser(prog="./dev bench recycle", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--jobs", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="siftmesh-bench-") as name:
        book = Book(Path(name), LIGHT)
        meshes = {}
        try:
            for jobs in (options.jobs, 0):
                folder = Path(name) / str(jobs)
                folder.mkdir()
                meshes[jobs] = Cluster(folder)
                meshes[jobs].start(gateways=1, extractor={"recycle_jobs": jobs})
                meshes[jobs].wait_whole()
                measure(meshes[jobs], book, 0, 1.0)  # warm
            seen = {jobs: [] for jobs in meshes}
            ratios = []
            for number in range(options.rounds):
                order = list(meshes) if number % 2 == 0 else list(reversed(meshes))
                means = {}
                for jobs in order:
                    windows = measure(meshes[jobs], book, number + 1, options.seconds)
                    seen[jobs] += windows
                    means[jobs] = statistics.mean(windows)
                ratios.append(means[options.jobs] / means[0])
                print(f"  round {number + 1}: {means[options.jobs]:.1f}/s with, "
                      f"{means[0]:.1f}/s without", file=sys.stderr)
            count = replaced(meshes[options.jobs])
            assert count > options.rounds and replaced(meshes[0]) == 0
        finally:
            for mesh in meshes.values():
                mesh.stop()
    print(f"{'':28}{'mean/s':>10}{'median/s':>10}{'slowest tenth/s':>17}")
    for jobs, title in ((options.jobs, f"replaced after {options.jobs} jobs"), (0, "never")):
        print(f"{title:28}{statistics.mean(seen[jobs]):10.1f}"
              f"{statistics.median(seen[jobs]):10.1f}{slowest(seen[jobs]):17.1f}")
    print(f"{count} slots were replaced; the throughput is {statistics.median(ratios):.3f} of "
          f"that without (rounds: {', '.join(f'{r:.3f}' for r in ratios)})")


if __name__ == "__main__":
    main()
