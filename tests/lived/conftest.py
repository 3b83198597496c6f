import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


@pytest.fixture
def lived_seconds():
    """Two minutes in `./dev test`; as long as `./dev lived MINUTES` says."""
    return 60.0 * float(os.environ.get("SIFTMESH_LIVED_MINUTES", "2"))
