"""bench/load: requests a second through HTTP, siftmesh beside its peers, in one run.

Peers: the FastAPI + OpenCV + Redis stack of bench/peer (uvicorn, 2 workers), and for hits
bench/bare_http.c, a bare libuv + llhttp server that hashes the body and answers as many
bytes. Each round measures every server once, in turn; figures are medians over rounds.
The load generator (wrk) runs on the same cores. Hits: one picture, asked for again and
again. Misses: each request's picture has other bytes (a counter after the JPEG's end), so
nothing is ever found in a cache.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["SIFTMESH_BIN"] = str(ROOT / "build/release/bin")

from tests.harness.mesh import Mesh, free_port, until  # noqa: E402

PICTURE_BYTES = 69_000
BLOB_HEADER_BYTES = 160
FEATURE_BYTES = 148

LUA_HIT = """
local f = io.open("{picture}", "rb"); wrk.body = f:read("*a"); f:close()
wrk.method = "POST"; wrk.path = "{path}"
wrk.headers["Content-Type"] = "image/jpeg"
wrk.headers["Accept"] = "application/octet-stream"
"""
LUA_MISS = LUA_HIT + """
local body = wrk.body
function setup(thread) counter = (counter or 0) + 1; thread:set("id", counter) end
function init() n = 0 end
function request()
    n = n + 1
    return wrk.format("POST", nil, nil, body .. string.format("{run}-%d-%d", id, n))
end
"""


def make_picture(folder):
    """A 640x480 JPEG of about 69 KB: a generated scene, noise as a small sensor has it."""
    import cv2
    from tests.harness.scenes import scene
    best = None
    for noise in (4, 6, 8, 10, 12):
        for quality in range(60, 99, 2):
            ok, data = cv2.imencode(".jpg", scene(640, 480, 7, noise),
                                    [cv2.IMWRITE_JPEG_QUALITY, quality])
            if best is None or abs(len(data) - PICTURE_BYTES) < abs(len(best) - PICTURE_BYTES):
                best = data.tobytes()
    path = folder / "picture.jpg"
    path.write_bytes(best)
    return path


def wrk(url, script, connections, seconds):
    """One run; requests/s of good answers, p50 and p99 in ms."""
    out = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "120s", "--latency",
         "-s", str(script), url], capture_output=True, text=True, check=True).stdout

    def find(pattern, default=None):
        found = re.search(pattern, out)
        if found is None and default is None:
            raise RuntimeError(out)
        return found.group(1) if found else default

    def ms(text):
        number, unit = re.match(r"([0-9.]+)(us|ms|s|m)", text).groups()
        return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]

    requests, took = re.search(r"(\d+) requests in ([0-9.]+\w+)", out).groups()
    bad = int(find(r"Non-2xx or 3xx responses: (\d+)", "0"))
    rate = (int(requests) - bad) / (ms(took) / 1000)
    return {"rate": rate, "p50_ms": ms(find(r"\n +50% +(\S+)")),
            "p99_ms": ms(find(r"\n +99% +(\S+)")), "bad": bad}


def post(url, path, picture):
    request = urllib.request.Request(
        url + path, picture, {"Content-Type": "image/jpeg",
                              "Accept": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.headers.get("X-Cache"), answer.read()


def idle_pss_mib(mesh):
    """PSS of every process of the mesh, MiB, and their number."""
    pids = [p.pid for p in mesh.processes.values()] + mesh.slot_pids()
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
    return total / 1024, len(pids)


class Server:
    def __init__(self, name, url, path):
        self.name, self.url, self.path = name, url, path


def start_peer(folder, limit, children):
    redis_port, port = free_port(), free_port()
    children.append(subprocess.Popen(
        ["redis-server", "--port", str(redis_port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL))
    log = open(folder / "peer.log", "wb")
    children.append(subprocess.Popen(
        ["/usr/bin/python3", "-m", "uvicorn", "--workers", "2", "--port", str(port),
         "--log-level", "warning", "app:app"], cwd=ROOT / "bench/peer", stdout=log,
        stderr=log, env={**os.environ, "REDIS_PORT": str(redis_port),
                         "MAX_FEATURES": str(limit), "OMP_NUM_THREADS": "1"}))
    return Server("FastAPI+OpenCV+Redis", f"http://127.0.0.1:{port}", "/v1/features")


def start_bare(answer_bytes, children):
    port = free_port()
    children.append(subprocess.Popen(
        [str(ROOT / "build/release/bin/bare_http"), str(port), str(answer_bytes)]))
    return Server("bare HTTP", f"http://127.0.0.1:{port}", "/")


def answers(server, picture):
    def ask():
        try:
            return post(server.url, server.path, picture)
        except OSError:
            return None
    return until(ask, f"{server.name} answers", 60)


def measure(servers, script, kind, connections, seconds, rounds, folder, picture):
    """Every server once a round, in turn; medians by server name."""
    runs = {s.name: [] for s in servers}
    for number in range(rounds):
        for server in servers:
            path = folder / "wrk.lua"
            path.write_text(script.format(picture=picture, path=server.path,
                                          run=f"{kind}{number}"))
            run = wrk(server.url, path, connections, seconds)
            runs[server.name].append(run)
            print(f"  {kind} round {number + 1}/{rounds} {server.name:22}"
                  f" {run['rate']:10.1f}/s", file=sys.stderr)
    return {name: {key: statistics.median(r[key] for r in all_runs)
                   for key in ("rate", "p50_ms", "p99_ms", "bad")}
            for name, all_runs in runs.items()}


def table(title, figures, first):
    print(f"\n{title}\n{'':24}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'refused':>9}"
          f"{'siftmesh is':>14}")
    for name, f in figures.items():
        ratio = "" if name == first else f"{figures[first]['rate'] / f['rate']:.2f} x"
        print(f"{name:24}{f['rate']:10.1f}{f['p50_ms']:10.2f}{f['p99_ms']:10.2f}"
              f"{f['bad']:9.0f}{ratio:>14}")


def run(options, folder, mesh, children):
    picture_path = make_picture(folder)
    picture = picture_path.read_bytes()
    suffix = f"?max_features={options.max_features}" if options.max_features else ""
    mesh.start(extractor={"slots": options.slots})
    until(lambda: mesh.slots() == options.slots, "all slots are up")
    time.sleep(1)  # let it come to rest: this is a measurement, not a test
    pss, processes = idle_pss_mib(mesh)
    ours = Server("siftmesh", mesh.url, "/v1/features" + suffix)
    first = answers(ours, picture)
    again = answers(ours, picture)
    assert first[0] == "miss" and again[0] == "hit" and first[1] == again[1]
    answer_bytes = len(again[1])
    bare = start_bare(answer_bytes, children)
    answers(bare, picture)
    peer = start_peer(folder, options.max_features, children)
    peer_bytes = len(answers(peer, picture)[1])

    hits = measure([ours, peer, bare], LUA_HIT, "hits", options.connections,
                   options.seconds, options.rounds, folder, picture_path)
    misses = measure([ours, peer], LUA_MISS, "misses", options.miss_connections,
                     options.miss_seconds, options.rounds, folder, picture_path)
    features = (answer_bytes - BLOB_HEADER_BYTES) // FEATURE_BYTES
    return {"picture_bytes": len(picture), "answer_bytes": answer_bytes,
            "features": features, "peer_features": peer_bytes // FEATURE_BYTES,
            "slots": options.slots, "idle_pss_mib": pss, "processes": processes,
            "hits": hits, "misses": misses}


def report(result, options):
    print(f"picture: 640x480 JPEG, {result['picture_bytes']} bytes; answer: "
          f"{result['answer_bytes']} bytes, {result['features']} features "
          f"(peer {result['peer_features']})")
    table(f"hits, {options.connections} connections, median of {options.rounds} x "
          f"{options.seconds} s", result["hits"], "siftmesh")
    table(f"misses, {options.miss_connections} connections, median of {options.rounds} x "
          f"{options.miss_seconds} s", result["misses"], "siftmesh")
    print(f"\nidle mesh: {result['processes']} processes with {result['slots']} slots, "
          f"{result['idle_pss_mib']:.1f} MiB PSS")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench load", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of a run of hits (5)")
    parser.add_argument("--miss-seconds", type=int, default=15, help="(15)")
    parser.add_argument("--connections", type=int, default=64, help="for hits (64)")
    parser.add_argument("--miss-connections", type=int, default=8, help="(8)")
    parser.add_argument("--slots", type=int, default=4, help="(4)")
    parser.add_argument("--max-features", type=int, default=0,
                        help="cap, for both; 440 makes an answer of 65 KB (no cap)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    children = []
    with tempfile.TemporaryDirectory(prefix="siftmesh-bench-") as name:
        folder = Path(name)
        mesh = Mesh(folder)
        try:
            result = run(options, folder, mesh, children)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()
            mesh.stop()
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        report(result, options)


if __name__ == "__main__":
    main()
