"""bench/cache: hits by tier, and throughput by share of hits, beside FastAPI + Redis.

Three tables. (1) Hits a second and p99 when every result comes from one tier: the
gateway's hot cache, the cacher's memory, Redis, SQLite, PostgreSQL; for a result of about
100 KB and one of about 2 KB; beside bench/peer (FastAPI + OpenCV + Redis, uvicorn, 2
workers), which answers its hits from its own Redis. Every server once a round, in turn;
medians over rounds. The tiers before the one that is measured are switched off, so that
each hit travels all the way; there are more pictures than connections, asked for in turn,
since a gateway asks once for what several of its clients want at a time. (2) Throughput with 20, 50 and 80 % of hits and 1, 4 and 8
slots: of each 100 requests so many ask for one of 64 known pictures, the others for one
that nobody has seen. (3) Hit ratios on traces: S3-FIFO, which memory uses, beside LRU.
The load generator (wrk) runs on the same cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["SIFTMESH_BIN"] = str(ROOT / "build/release/bin")

from bench.load import (LUA_HIT, Server, answers, make_picture, start_peer,  # noqa: E402
                        wrk)
from tests.harness.mesh import Mesh, until  # noqa: E402
from tests.harness.stores import Postgres, Redis  # noqa: E402

CONTRAST = "0.005"  # of both: with the default the picture has too few features
os.environ["CONTRAST"] = CONTRAST  # the peer's
SIZES = {"100 KB": 1012, "2 KB": 12}  # features of 148 bytes
SHARES = (20, 50, 80)
SLOTS = (1, 4, 8)
KNOWN = 64

# Each picture in turn; its number is bytes behind the JPEG's end.
LUA_TURN = LUA_HIT + """
local body = wrk.body
function init() n = 0 end
function request()
    n = n % {known} + 1
    return wrk.format("POST", nil, nil, body .. "known" .. n)
end
"""

LUA_MIX = LUA_HIT + """
local body = wrk.body
function setup(thread) counter = (counter or 0) + 1; thread:set("id", counter) end
function init() n = 0; math.randomseed(id) end
function request()
    n = n + 1
    if math.random(100) <= {share} then
        return wrk.format("POST", nil, nil, body .. "known" .. math.random({known}))
    end
    return wrk.format("POST", nil, nil, body .. string.format("{run}-%d-%d", id, n))
end
"""


def configurations(folder, redis, postgres):
    """name -> options of the cacher; the gateway keeps nothing, but in "hot"."""
    alone = {"memory_bytes_max": 0}
    return {"hot cache": None, "memory": {},
            "Redis": {**alone, "redis": redis.url},
            "SQLite": {**alone, "store": f"sqlite://{folder}/results.db"},
            "PostgreSQL": {**alone, "store": postgres.url}}


def start_mesh(folder, name, cacher):
    mesh = Mesh(folder / name)
    (folder / name).mkdir()
    gateway = {} if cacher is None else {"hot_bytes_max": 0}
    mesh.start(extractor={"slots": 1}, gateway=gateway, cacher=cacher or {})
    return mesh


COUNTERS = {"memory": "memory_hits_total", "Redis": "redis_hits_total",
            "SQLite": "store_hits_total", "PostgreSQL": "store_hits_total"}


def check_tier(mesh, name, at_least):
    """That the hits came from where the table says; the cacher tells once a second."""
    def counted():
        if name == "hot cache":
            return mesh.counter("gateway", "siftmesh_gateway_hot_hits_total") >= at_least
        stats = [w["stats"] for w in mesh.status()["workers"] if w["service"] == "cache"]
        return stats[0][COUNTERS[name]] >= at_least
    until(counted, f"{name} counted its hits", 10)


def known_by(server, picture):
    """Asks for each picture until the answer is a hit; the bytes of one answer."""
    def ask_until_hit(number):
        def ask():
            how, body = answers(server, picture + f"known{number}".encode())
            return body if how in ("hit", None) else None
        return until(ask, f"{server.name} has the result", 60)
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask_until_hit, range(1, KNOWN + 1)))[0]


def measure_tiers(meshes, folder, picture_path, options, children):
    picture, table = picture_path.read_bytes(), {}
    for size, count in SIZES.items():
        path = f"/v1/features?max_features={count}&contrast={CONTRAST}"
        servers = [Server(name, mesh.url, path)
                   for name, mesh in meshes.items()]
        peer_folder = folder / f"peer-{count}"
        peer_folder.mkdir()
        servers.append(start_peer(peer_folder, count, children))
        bytes_by_name = {s.name: len(known_by(s, picture)) for s in servers}
        runs = {s.name: [] for s in servers}
        for number in range(options.rounds):
            for server in servers:
                script = folder / "wrk.lua"
                script.write_text(LUA_TURN.format(picture=picture_path, path=server.path,
                                                  known=KNOWN))
                runs[server.name].append(wrk(server.url, script, options.connections,
                                             options.seconds))
                print(f"  {size} round {number + 1}/{options.rounds} {server.name:22}"
                      f"{runs[server.name][-1]['rate']:10.1f}/s", file=sys.stderr)
        for name, mesh in meshes.items():
            asked = sum(run["rate"] for run in runs[name]) * options.seconds
            check_tier(mesh, name, 0.8 * asked)
        table[size] = {name: {"bytes": bytes_by_name[name],
                              **{key: statistics.median(r[key] for r in all_runs)
                                 for key in ("rate", "p50_ms", "p99_ms", "bad")}}
                       for name, all_runs in runs.items()}
        for child in children[-2:]:
            child.terminate()
            child.wait()
        del children[-2:]
    return table


def measure_mix(folder, picture_path, options):
    table = {}
    for slots in SLOTS:
        mesh = Mesh(folder / f"mix{slots}")
        (folder / f"mix{slots}").mkdir()
        try:
            mesh.start(extractor={"slots": slots, "slots_max": max(SLOTS)})
            until(lambda: mesh.slots() == slots, "all slots are up")
            server = Server("siftmesh", mesh.url, "/v1/features")
            for number in range(1, KNOWN + 1):
                answers(server, picture_path.read_bytes() + f"known{number}".encode())
            for share in SHARES:
                script = folder / "wrk.lua"
                script.write_text(LUA_MIX.format(
                    picture=picture_path, path=server.path, share=share, known=KNOWN,
                    run=f"{slots}-{share}"))
                run = wrk(server.url, script, options.mix_connections, options.mix_seconds)
                table[f"{slots} slots, {share} % hits"] = run
                print(f"  {slots} slots, {share} % hits {run['rate']:10.1f}/s",
                      file=sys.stderr)
        finally:
            mesh.stop()
    return table


def report(result, options):
    for size, rows in result["tiers"].items():
        peer = rows["FastAPI+OpenCV+Redis"]["rate"]
        print(f"\nhits of a result of about {size}, {options.connections} connections, "
              f"median of {options.rounds} x {options.seconds} s\n{'':24}{'bytes':>9}"
              f"{'hits/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'refused':>9}{'of the peer':>13}")
        for name, row in rows.items():
            print(f"{name:24}{row['bytes']:9}{row['rate']:10.1f}{row['p50_ms']:9.2f}"
                  f"{row['p99_ms']:9.2f}{row['bad']:9.0f}{row['rate'] / peer:11.1f} x")
    print(f"\nthroughput by share of hits, {options.mix_connections} connections, "
          f"{options.mix_seconds} s each, requests/s (p99 ms)")
    print(f"{'':10}" + "".join(f"{f'{share} % hits':>22}" for share in SHARES))
    for slots in SLOTS:
        cells = [result["mix"][f"{slots} slots, {share} % hits"] for share in SHARES]
        print(f"{f'{slots} slots':10}" + "".join(
            f"{c['rate']:12.1f} ({c['p99_ms']:7.1f})" for c in cells))


def main():
    parser = argparse.ArgumentParser(prog="./dev bench cache", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of a run of hits (4)")
    parser.add_argument("--connections", type=int, default=32, help="for hits (32)")
    parser.add_argument("--mix-seconds", type=int, default=8, help="(8)")
    parser.add_argument("--mix-connections", type=int, default=16, help="(16)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    children, meshes, result = [], {}, {}
    with tempfile.TemporaryDirectory(prefix="siftmesh-bench-") as name:
        folder = Path(name)
        picture = make_picture(folder)
        with Redis() as redis, Postgres() as postgres:
            try:
                for title, cacher in configurations(folder, redis, postgres).items():
                    meshes[title] = start_mesh(folder, title.replace(" ", "-"), cacher)
                result["tiers"] = measure_tiers(meshes, folder, picture, options, children)
            finally:
                for child in children:
                    child.terminate()
                    child.wait()
                for mesh in meshes.values():
                    mesh.stop()
        result["mix"] = measure_mix(folder, picture, options)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    report(result, options)
    subprocess.run([str(ROOT / "build/release/bin/cache_trace")], check=True)


if __name__ == "__main__":
    main()
