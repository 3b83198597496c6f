"""bench/slow: what slowhttptest's three attacks take from other clients' throughput.

Healthy load: wrk posts one picture again and again (hits of the hot cache), on the same
cores as everything else, the attacker's program included. Each round measures every mode
with and without the attack, in turn; the ratio is the median over rounds of with/without.
The gateway has its defaults. The goal is 0.9.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["SIFTMESH_BIN"] = str(ROOT / "build/release/bin")

from bench.load import LUA_HIT, make_picture, wrk  # noqa: E402
from tests.harness.mesh import Mesh, until  # noqa: E402
from tests.harness.scenes import encoded  # noqa: E402
from tests.harness.slow import MODES, Attack  # noqa: E402


def connections(mesh):
    return mesh.counter("gateway", "siftmesh_gateway_http_connections")


def large_key(mesh):
    noise = encoded(".png", width=2400, height=1800, noise=60.0, seed=3)
    return mesh.post("/v1/features?denoise=none&contrast=0", noise).json()["key"]


def attacked(mesh, mode, key, options, load):
    # A connection that is cut off by its deadline is not opened again: the attack begins
    # anew for each measurement and lasts longer than that.
    until(lambda: connections(mesh) < 20, "the last attack's connections are gone", 120)
    with Attack(mode, mesh.url, key, options.attackers, options.seconds + 30):
        until(lambda: connections(mesh) >= options.attackers, "the attackers came", 30)
        figure = load()
        left = connections(mesh)
    return figure, left


def run(mesh, options, folder):
    script = folder / "hit.lua"
    script.write_text(LUA_HIT.format(picture=make_picture(folder), path="/v1/features"))
    key = large_key(mesh)

    def load():
        return wrk(mesh.url, script, options.connections, options.seconds)["rate"]

    load()  # the first answers are misses
    ratios = {mode: [] for mode in MODES}
    for number in range(options.rounds):
        for mode in MODES:
            alone = load()
            beside, left = attacked(mesh, mode, key, options, load)
            ratios[mode].append(beside / alone)
            print(f"round {number + 1}, {mode}: {alone:.0f} requests/s alone, {beside:.0f} beside "
                  f"{options.attackers} attackers ({left:.0f} connections at the end)",
                  flush=True)
    for mode, values in ratios.items():
        print(f"{mode}: {statistics.median(values):.3f} of the throughput, "
              f"{min(values):.3f} to {max(values):.3f}")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench slow", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--attackers", type=int, default=900)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mesh = Mesh(folder)
        try:
            mesh.start()
            run(mesh, options, Path(folder))
        finally:
            mesh.stop()


if __name__ == "__main__":
    main()
