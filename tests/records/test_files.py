"""What the operating system refuses is a sentence, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.commands.doctor import doctor
from harness.errors import StorageError, sentence_of
from harness.records.files import commit, replace, storing, sweep


def _refusing(number: int) -> object:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "its disk is full .*; free some space"),
        (errno.EROFS, "cannot be written .*; make it writable"),
        (errno.ENOENT, "is gone .*; it was deleted"),
        (errno.EIO, r"failed \(Input/output error\)$"),
    ],
)
def test_a_refusal_is_a_sentence(number: int, words: str) -> None:
    with pytest.raises(StorageError, match=f"^runs/x: {words}"), storing(Path("runs/x")):
        raise OSError(number, os.strerror(number))


def test_an_error_without_a_number_is_a_sentence_too() -> None:
    assert sentence_of(OSError(), "x") == "x: failed (OSError)"


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _refusing(errno.ENOSPC))
    for write in (commit, replace):
        with pytest.raises(StorageError, match="its disk is full"):
            write(tmp_path / "file", b"1")
    assert list(tmp_path.iterdir()) == []


def test_without_hard_links_the_first_commit_still_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _refusing(errno.EPERM))
    path = tmp_path / "result.json"
    assert commit(path, b"one")
    assert not commit(path, b"two")
    assert path.read_bytes() == b"one"


def test_a_root_without_links_and_locks_is_refused_by_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> tuple[bool | None, str]:
        (check,) = [check for check in doctor(tmp_path) if check.name == "run root"]
        return check.ok, check.detail

    assert found()[0] is True
    monkeypatch.setattr(os, "link", _refusing(errno.EPERM))
    assert found()[0] is True
    monkeypatch.setattr("fcntl.flock", _refusing(errno.ENOLCK))
    ok, detail = found()
    assert ok is False
    assert "neither hard links nor file locks" in detail
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_sync_folders_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert commit(tmp_path / "file", b"1")


def test_old_leftovers_are_swept(tmp_path: Path) -> None:
    names = [f".result.json.{'0' * 32}", f".new.json.{'1' * 32}", ".hidden", "result.json"]
    for name in names:
        (tmp_path / name).touch()
    for name in (names[0], *names[2:]):
        os.utime(tmp_path / name, (1, 1))
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
