"""A mesh in a real group of processes: its CPU quota and its memory limit are the mesh's.

The group is made below the one that the tests are in; where that is not allowed (no root, or
a read-only cgroupfs) there is nothing to test."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness.mesh import SLOWNESS, until

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20
NAME = f"siftmesh-test-{os.getpid()}"


def own_path(controller):
    """Our group of a controller; of version 2, controller is empty."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.lstrip("/")
    raise OSError(f"/proc/self/cgroup names no {controller}")


class Group:
    """Made, entered by whoever is started inside `with`, left and removed."""

    def __init__(self, cpu_quota_us, memory_bytes):
        self.left = []  # (folder that was made, the one to go back to)
        try:
            self.make(cpu_quota_us, memory_bytes)
        except OSError:
            self.remove()
            raise

    def make(self, cpu_quota_us, memory_bytes):
        if (ROOT / "cgroup.controllers").exists():
            self.add(ROOT / own_path(""), {
                "cpu.max": f"{cpu_quota_us} 100000", "memory.high": memory_bytes})
            return
        self.add(ROOT / "cpu" / own_path("cpu"), {
            "cpu.cfs_period_us": 100000, "cpu.cfs_quota_us": cpu_quota_us})
        self.add(ROOT / "memory" / own_path("memory"), {"memory.limit_in_bytes": memory_bytes})

    def add(self, parent, values):
        folder = parent / NAME
        folder.mkdir()
        self.left.append((folder, parent))
        for name, value in values.items():
            (folder / name).write_text(str(value))

    def __enter__(self):
        for folder, _ in self.left:
            (folder / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *_):
        for _, parent in self.left:
            (parent / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        for folder, _ in self.left:
            until(lambda: self.removed(folder), "the group is empty")
        self.left = []

    @staticmethod
    def removed(folder):
        try:
            folder.rmdir()
        except OSError:
            return False
        return True


@pytest.fixture
def group():
    """Half a processor, 1 GiB."""
    try:
        group = Group(50000, 1024 * MIB)
    except OSError as why:
        pytest.skip(f"no cgroup can be made here: {why}")
    yield group
    group.remove()


@pytest.fixture
def grouped_mesh(group, mesh):
    """Its processes are in the group, and are stopped before it goes."""
    with group:
        mesh.start(extractor={"slots": 0}, monitor={"interval_ms": 50})
    try:
        yield mesh
    finally:
        mesh.stop()


def nearest_bound(mesh):
    """Of all that bound memory the one that is nearest to its end: used, limit."""
    return (mesh.counter("monitor", "siftmesh_monitor_memory_used_bytes"),
            mesh.counter("monitor", "siftmesh_monitor_memory_limit_bytes"))


def test_a_quota_and_a_limit_are_those_of_the_mesh(grouped_mesh, group):
    assert grouped_mesh.slots() == 1
    assert grouped_mesh.counter("monitor", "siftmesh_broker_memory_budget_bytes") == \
        1024 * MIB // 100 * 60
    with group:
        neighbour = b"x" * ((800 if SLOWNESS == 1 else 500) * MIB)  # nearer to its end than the machine, if not full
    until(lambda: nearest_bound(grouped_mesh)[1] == 1024 * MIB
          and nearest_bound(grouped_mesh)[0] > 0.9 * len(neighbour), "the monitor watches the group")


def test_files_that_were_read_twice_are_no_memory_in_use(grouped_mesh, group, tmp_path):
    """Twice, since the kernel holds them active then: such cache was called memory."""
    where = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True)
    if where.stdout.strip() in ("tmpfs", "ramfs"):
        pytest.skip("files here are memory, and no page cache")
    file = tmp_path / "large"
    with group:
        with open(file, "wb") as f:
            for _ in range(800):
                f.write(bytes(MIB))
            f.flush()
            os.fsync(f.fileno())
        for _ in range(2):
            with open(file, "rb") as f:
                while f.read(MIB):
                    pass
        samples = grouped_mesh.counter("monitor", "siftmesh_monitor_samples_total")
        until(lambda: grouped_mesh.counter("monitor", "siftmesh_monitor_samples_total")
              > samples + 2, "it has been looked at")
        used, limit = nearest_bound(grouped_mesh)
    assert limit != 1024 * MIB or used < 400 * MIB, used
