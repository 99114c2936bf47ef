"""What tests of single trials share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def process_unchanged(tmp_path: Path) -> Iterator[None]:
    """For trials in this process: they pin it to cores, set variables, remember what they fit."""
    cores, variables = os.sched_getaffinity(0), dict(os.environ)
    os.environ["HARNESS_CACHE_DIR"] = str(tmp_path / "cache")
    yield
    os.sched_setaffinity(0, cores)
    os.environ.clear()
    os.environ.update(variables)
