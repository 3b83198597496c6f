import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.harness.mesh import DATA, Mesh  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    item.failed_so_far = getattr(item, "failed_so_far", False) or outcome.get_result().failed


def running(request, folder):
    mesh = Mesh(folder)
    yield mesh
    if getattr(request.node, "failed_so_far", False):
        print(mesh.logs())
    mesh.stop()


@pytest.fixture
def mesh(request, tmp_path):
    """A mesh for this test alone; the test calls mesh.start(...)."""
    yield from running(request, tmp_path)


@pytest.fixture(scope="module")
def shared_mesh(request, tmp_path_factory):
    """A running mesh with defaults, shared by the tests of a file that do not harm it."""
    for mesh in running(request, tmp_path_factory.mktemp("mesh")):
        mesh.start()
        yield mesh


@pytest.fixture(scope="session")
def data():
    """The folder of real photographs; the test is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no test photographs in {DATA} (set SIFTMESH_TEST_DATA)")
    return DATA
