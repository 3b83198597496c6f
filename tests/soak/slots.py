"""Slots replaced again and again under load: nothing may pile up.

    tests/soak/slots.py [RECYCLES]     default 200; 10000 before a release

A mesh whose slots are replaced after two jobs each computes small pictures until so many
slots have come and gone. Then: every answer was 200, there is no zombie and no orphan, as
many slots as were asked for, and the supervisor has the descriptors, threads and memory
that it had after the first tenth. Run by ./dev soak.
"""

import itertools
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.harness.mesh import SLOWNESS, Mesh, until  # noqa: E402

SLOTS = 2
GROWTH_BYTES = 4 << 20  # the allocator's own ups and downs
PATIENCE_S = 60         # without a single recycle


def picture(number):
    """A PGM of 32 x 32 whose bytes are its number's: never in a cache."""
    pixels = bytearray(b"\x40" * 1024)
    for i, digit in enumerate(f"{number:016x}"):
        pixels[i * 33] = 16 * int(digit, 16)
    return b"P5 32 32 255\n" + bytes(pixels)


def children(pid):
    """(pid, state, program) of every child, zombies too."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                text = Path(f"/proc/{child}/stat").read_text()
            except OSError:
                continue
            found.append((int(child), text.rsplit(")", 1)[1].split()[0], text))
    return found


def is_zombie(child):
    return child[1] == "Z"


def usage(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return {"files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
            "threads": int(re.search(r"Threads:\s+(\d+)", status).group(1)),
            "private_bytes": int(re.search(r"RssAnon:\s+(\d+)", status).group(1)) * 1024}


def settled(mesh, pid):
    """No successor on its way, nobody waiting to be reaped."""
    found = children(pid)
    return len(found) == SLOTS and not any(is_zombie(c) for c in found)


def recycles(mesh):
    text = mesh.processes["extractor"].text()
    return len(re.findall(r'"why":"jobs"', text))


def compute(mesh, numbers, done):
    """Post pictures until done()."""
    while not done():
        answer = mesh.post("/v1/features", picture(next(numbers)))
        assert answer.status == 200, answer.body


def drive(mesh, numbers, goal):
    """Load from as many clients as slots until `goal` slots have been replaced."""
    seen, since = recycles(mesh), time.monotonic()
    reached = []
    with ThreadPoolExecutor(SLOTS) as pool:
        clients = [pool.submit(compute, mesh, numbers, lambda: reached) for _ in range(SLOTS)]
        try:
            while seen < goal and not any(c.done() for c in clients):
                time.sleep(0.2)  # how often a log is read, not a wait for the mesh
                now = recycles(mesh)
                if now > seen:
                    seen, since = now, time.monotonic()
                assert time.monotonic() - since < PATIENCE_S * SLOWNESS, "no recycle any more"
        finally:
            reached.append(True)
        for client in clients:
            client.result()
    return seen


def soak(mesh, goal):
    """Returns what happened, for a person."""
    mesh.start(extractor={"slots": SLOTS, "recycle_jobs": 2}, gateway={"access_log": "none"},
               cacher={"memory_bytes_max": 16 << 20})
    pid = mesh.processes["extractor"].pid
    numbers = itertools.count(1)
    begin = time.monotonic()
    first = drive(mesh, numbers, max(20, goal // 10))
    until(lambda: settled(mesh, pid), "as many slots as asked for, no zombie")
    before = usage(pid)
    last = drive(mesh, numbers, max(goal, first + 20))
    seconds = time.monotonic() - begin
    until(lambda: settled(mesh, pid), "as many slots as asked for, no zombie")
    # A worn slot whose successor is just coming up has descriptors for a moment: what leaks
    # never comes back to the number before.
    until(lambda: usage(pid)["files"] <= before["files"], "descriptors of the ended slots closed")
    after = usage(pid)
    slots = [child[0] for child in children(pid)]
    assert after["threads"] == before["threads"], (before, after)
    assert after["private_bytes"] < before["private_bytes"] + GROWTH_BYTES, (before, after)
    died = re.findall(r'"why":"died"', mesh.processes["extractor"].text())
    assert not died, f"{len(died)} slots died"
    mesh.stop()
    assert not [s for s in slots if Path(f"/proc/{s}").exists()], "an orphan is left"
    return (f"{last} slots replaced in {seconds:.0f} s, {next(numbers) - 1} pictures; "
            f"supervisor: {after['files']} files, {after['threads']} threads, "
            f"{before['private_bytes'] >> 10} -> {after['private_bytes'] >> 10} KiB private")


def main():
    goal = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        mesh = Mesh(folder)
        try:
            print(soak(mesh, goal))
        except BaseException:
            print(mesh.logs(), file=sys.stderr)
            raise
        finally:
            mesh.stop()


if __name__ == "__main__":
    main()
