"""Archives of any kind are read, or refused by the name of the file; never believed."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.folders import content_checksum
from harness.datasets.formats.npz import names_in, not_data, read_npz
from harness.errors import DataError

X = np.random.Generator(np.random.PCG64(0)).normal(size=(200, 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def _packed(method: int) -> bytearray:
    content, archive = io.BytesIO(), io.BytesIO()
    np.save(content, X)
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("data.npy", content.getvalue())
    return bytearray(archive.getvalue())


def _refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=rf"mine\.npz cannot be read .*{match}"):
        read_npz("mine", path, ("data",))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_any_method_that_python_has_will_do(path: Path, method: int) -> None:
    path.write_bytes(_packed(method))
    assert names_in("mine", path) == ["data"]
    np.testing.assert_array_equal(read_npz("mine", path, ("data", "train"))["data"], X)


def test_an_unknown_method_encryption_and_damage_are_refused(path: Path) -> None:
    raw = _packed(zipfile.ZIP_STORED)
    local, central = raw.find(b"PK\3\4"), raw.find(b"PK\1\2")
    unknown, encrypted = bytearray(raw), bytearray(raw)
    for place in (local + 8, central + 10):
        struct.pack_into("<H", unknown, place, 99)
    encrypted[local + 6] |= 1
    encrypted[central + 8] |= 1
    damaged = [_packed(method) for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)]
    for each in damaged:
        each[60:90] = b"\xff" * 30
    wrong = [bytes(content) for content in (unknown, encrypted, *damaged, raw[:100])]
    for content in (*wrong, b""):
        path.write_bytes(content)
        _refused(path, "")


@pytest.mark.parametrize(
    "shape", ["(100000000000, 2)", "(99999999999999999999, 2)", "(True, 2)", "(-1, 2)", "(((", "7"]
)
def test_a_header_that_promises_what_is_not_there_is_refused(path: Path, shape: str) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (11 + len(header)) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(3200)
        file.writestr("data.npy", content)
    _refused(path, "")


def test_only_what_is_asked_for_is_unpacked(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        content = io.BytesIO()
        np.save(content, X)
        file.writestr("data.npy", content.getvalue())
        file.writestr("notes.npy", b"no array at all")
    assert list(read_npz("mine", path, ("data",))) == ["data"]
    with pytest.raises(DataError):
        read_npz("mine", path, ("notes",))


def test_objects_are_refused(path: Path) -> None:
    np.savez(path, data=np.array([[{}, 1]] * 50, dtype=object))
    _refused(path, "objects, not numbers")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"1, 2\n3, 4\n", "a text file"),
    ],
)
def test_what_is_no_archive_is_called_by_its_name(path: Path, content: bytes, word: str) -> None:
    path.write_bytes(content)
    assert word in str(not_data(path))
    _refused(path, word)


def test_other_data_of_the_same_size_and_time_have_another_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("harness.datasets.folders._SETTLED_NS", 0)
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_bytes(b"one")
    other.write_bytes(b"two")
    for file in (mine, other):
        os.utime(file, (1, 1))
    before = content_checksum(mine)
    assert content_checksum(mine) == before
    other.replace(mine)
    assert content_checksum(mine) != before
