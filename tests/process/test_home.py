"""Without a home folder, a name, or a lock folder of its own a process finds others."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

import pytest

from harness.process import cores
from harness.process.cores import pin, private_folder
from harness.process.home import settle_home
from harness.records.files import scrub


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cores, "_SYSTEM", ())
    return tmp_path


def _nobody(*_: object) -> str:
    raise KeyError("no such user")


def test_who_has_no_home_gets_one(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(getpass, "getuser", _nobody)
    monkeypatch.setenv("HOME", "/old")
    monkeypatch.setenv("LOGNAME", "old")
    settle_home()
    assert Path(os.environ["HOME"]).is_relative_to(temporary)
    assert os.environ["LOGNAME"] == f"user-{os.getuid()}"


def test_who_has_a_home_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settle_home()
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.parametrize("home", ["/", "~"])
def test_nothing_is_scrubbed_for_who_has_no_home(
    monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda _: home)
    assert scrub({"a": "/data/x ~"}) == {"a": "/data/x ~"}


def test_a_taken_name_of_the_lock_folder_gives_way(temporary: Path) -> None:
    name = f"cnf-harness-{os.getuid()}"
    (temporary / name).touch()
    (temporary / f"{name}-2").symlink_to(temporary)
    found = private_folder()
    assert found == temporary / f"{name}-3"
    assert private_folder() == found


def test_jobs_with_temporary_folders_of_their_own_share_the_lock_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system = tmp_path / "system"
    found = []
    monkeypatch.setattr(cores, "_SYSTEM", (tmp_path / "absent", system))
    for job in ("one", "two"):
        (tmp_path / job).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / job))
        found.append(private_folder())
        system.mkdir(exist_ok=True)
    # Without a folder of the system that can be written, TMPDIR counts.
    assert found == [tmp_path / "one" / found[0].name, system / found[0].name]
    assert private_folder() == found[1]


def test_switches_of_jax_do_not_reach_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "JAX_PLATFORMS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("JAX_DISABLE_JIT", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/x")
    pin(tuple(os.sched_getaffinity(0)), "cpu")
    assert "JAX_DISABLE_JIT" not in os.environ
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/x"
