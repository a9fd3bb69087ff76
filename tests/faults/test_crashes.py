"""Every crash point of the commit is survived; and a commit that is wrong does not survive them."""

from __future__ import annotations

import pytest

from faults.crashes import MISHAPS, mutated, results
from faults.mutations import MUTATIONS
from pipeline.tar import write_shard


@pytest.fixture
def shard(tmp_path):
    write_shard(
        tmp_path / "in.tar", [(f"p{n}.{kind}", f"{n}{kind}".encode()) for n in range(6) for kind in ("jpg", "txt")]
    )
    return tmp_path / "in.tar"


def test_no_crash_point_loses_or_doubles_a_photo(shard, tmp_path):
    found = list(results(mutated(None), shard, tmp_path / "out"))
    assert len(found) == len(MISHAPS) == 7 * 4 + 7 * 3 * 5  # kinds at writes; kinds at removals, five ways to get there
    assert [str(result.mishaps) for result in found if not result.met] == []
    assert [str(result) for result in found if not result.right] == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_commit_is_caught(name, shard, tmp_path):
    caught = any(not result.right for result in results(mutated(MUTATIONS[name]), shard, tmp_path / "out"))
    assert caught, f"nobody noticed that {name}"
