"""Stores as they are met: not there, damaged, or with somebody between."""

import pytest

from tests.harness.mesh import until
from tests.integration.test_cache_tiers import COLD, counter, is_known, own_stats, post, stored


def said(mesh, words):
    return [line for line in mesh.processes["cacher"].text().splitlines() if words in line]


def no_folder(path):
    path.parent.rmdir()
    return path.parent.mkdir


def damaged(path):
    path.write_bytes(b"SQLite format 3" + bytes(5000))
    return path.unlink


def foreign(path):
    path.write_text("a letter, not a database\n" * 500)
    return path.unlink


@pytest.mark.parametrize("harm", [no_folder, damaged, foreign])
def test_a_store_that_cannot_be_opened_is_done_without_until_it_can(mesh, tmp_path, harm):
    path = tmp_path / "folder/results.db"
    path.parent.mkdir()
    mend = harm(path)
    mesh.start(gateway=COLD, cacher={"store": f"sqlite://{path}", "store_breaker_ms_max": 200})
    assert [post(mesh, 700).cache for _ in range(3)] == ["miss", "hit", "hit"]
    until(lambda: counter(mesh, "store_breaker") == 2, "the breaker is open")
    assert len(said(mesh, "store cannot be used")) == 1
    mend()
    until(lambda: stored(mesh) == 1, "what waited is stored")
    assert len(said(mesh, "store cannot be used")) == len(said(mesh, "store answers again")) == 1
    assert not said(mesh, "store is by-passed")
