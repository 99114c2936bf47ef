"""A few of the kills and damaged inputs that the scripts beside this make by the hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import fuzz
from kills import Storm


def test_damaged_inputs_are_read_or_refused() -> None:
    faults: list[str] = []
    found = fuzz(15, 7, lambda kind, number, what: faults.append(f"{kind} {number}: {what}"))
    assert faults == []
    assert all(read + refused == 15 for read, refused in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["trial", "all"])
def test_a_killed_run_comes_to_the_same_end(tmp_path: Path, victim: str) -> None:
    assert Storm(tmp_path, "inline", "fake").kill(0, victim, 0.5) is None
