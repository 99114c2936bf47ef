"""The cache folder: where it is, and that nothing fails where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import caches


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HARNESS_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_users_variable_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert caches.cache_dir() == tmp_path / ".cache" / "cnf-harness"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert caches.cache_dir() == tmp_path / "xdg" / "cnf-harness"
    monkeypatch.setenv("HARNESS_CACHE_DIR", "~/own")
    assert caches.cache_dir() == tmp_path / "own"
    assert not (tmp_path / "own").exists()


def test_a_folder_is_made_when_it_is_needed(tmp_path: Path) -> None:
    made = caches.made_cache("xla")
    assert made == tmp_path / ".cache" / "cnf-harness" / "xla"
    assert made is not None
    assert made.is_dir()


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", _no_home)
    assert caches.cache_dir() is None
    assert caches.made_cache("xla") is None


def test_a_folder_that_cannot_be_made_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "file"))
    assert caches.made_cache("xla") is None
