import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked(*patterns):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
                         cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in out.split() if (ROOT / name).exists()]


@pytest.fixture(scope="session")
def sources():
    """Every C source and header of the project."""
    return tracked("*.c", "*.h")


@pytest.fixture(scope="session")
def root():
    return ROOT
