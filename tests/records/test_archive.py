"""A run root in one file, and what is refused of a file that is none."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, write_spec

import harness
from harness.commands.archive import archive, report_archive
from harness.datasets.registry import load
from harness.errors import InputError, RecordError
from harness.records import archive as archives
from harness.records.archive import unpack_archive

pytestmark = pytest.mark.usefixtures("process_unchanged")

TRIAL = fake_trial(iterations=10, validate_every=5)
OTHER = replace(TRIAL, seed=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two trials that ended, and one that was never run."""
    for trial in (TRIAL, OTHER, replace(TRIAL, seed=2)):
        write_spec(tmp_path / "runs", trial)
    for trial in (TRIAL, OTHER):
        run_fake(tmp_path / "runs", trial)
    return tmp_path / "runs"


def test_it_is_a_run_root_when_unpacked(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert archive(root, tmp_path / "a.zip") == 2
    unpack_archive(tmp_path / "a.zip", tmp_path / "there")
    assert result_of(tmp_path / "there", TRIAL) == result_of(root, TRIAL)
    names = {path.name for path in (tmp_path / "there").rglob("*")}
    assert {"samples.safetensors", "metrics.jsonl", "trained.json"} <= names
    assert names.isdisjoint({"log.txt", "checkpoint", "progress.json"})
    monkeypatch.setattr("harness.models.opening.get_backend", lambda name: FakeBackend())
    x = load("moons").rows("test", 5).x
    here, there = (
        harness.trained(where, TRIAL.id).log_prob(x) for where in (root, tmp_path / "there")
    )
    np.testing.assert_array_equal(here, there)


def test_equal_records_make_equal_files(root: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        archive(root, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    # Nothing is left of what was written aside.
    assert {path.name for path in tmp_path.glob("*.zip*")} == {"a.zip", "b.zip"}
    assert not list(tmp_path.glob(".*.zip*"))


def test_a_filter_chooses(root: Path, tmp_path: Path) -> None:
    assert archive(root, tmp_path / "a.zip", "seed=1") == 1
    unpack_archive(tmp_path / "a.zip", tmp_path / "there")
    assert [path.name for path in (tmp_path / "there" / "trials").iterdir()] == [OTHER.id]
    with pytest.raises(InputError, match="no trial of the suite"):
        archive(root, tmp_path / "b.zip", "seed=7")
    with pytest.raises(InputError, match="holds no trials"):
        archive(tmp_path / "nothing", tmp_path / "b.zip")


def test_a_colleague_reads_the_report(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.zip"
    archive(root, file)
    page = report_archive(file)
    assert page.parent == tmp_path / "mine-report"
    text = page.read_text()
    assert "harness report mine.zip" in text
    assert "moons" in text


GOOD = f"trials/{TRIAL.id}/spec.json"
HOSTILE = {
    "climbs out": ["../../etc/passwd"],
    "from the root": ["/etc/passwd"],
    "climbs within": [f"trials/{TRIAL.id}/../../x"],
    "a backslash": [f"trials\\{TRIAL.id}\\spec.json"],
    "hidden": [f"trials/{TRIAL.id}/.bashrc"],
    "no record": ["README.md"],
    "twice": [GOOD, GOOD],
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_no_record_has_are_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in [GOOD.replace("spec", "result"), *HOSTILE[case]]:
            file.writestr(name, "{}")
    _require_refused(path, tmp_path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo(GOOD)
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, "/etc/passwd")
    _require_refused(tmp_path / "a.zip", tmp_path)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_FINE", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(GOOD, bytes(10_000_000))
    _require_refused(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_what_is_no_zip_file_is_refused(content: bytes | None, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    if content is None:
        archive(root, path)
        whole = bytearray(path.read_bytes())
        whole[200] ^= 1
        content = bytes(whole)
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"a\.zip"):
        unpack_archive(path, tmp_path / "there")


def _require_refused(path: Path, folder: Path) -> None:
    with pytest.raises(RecordError, match="nothing of it was used"):
        unpack_archive(path, folder / "there")
    assert not (folder / "there").exists()
