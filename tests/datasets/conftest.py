"""What tests of datasets share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, empty, beside a cache folder of the test's own."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("HARNESS_DATA_DIR", str(folder))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return folder
