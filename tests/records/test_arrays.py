"""Arrays that a trial goes on from are what was written, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.records.arrays import pack, seal, unseal

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}
METADATA = {"trainer": "{}"}


def test_sealed_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(seal(ARRAYS, METADATA))
    arrays, metadata = unseal(path)
    assert metadata == METADATA
    assert all(np.array_equal(arrays[name], array) for name, array in ARRAYS.items())


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    raw = bytearray(seal(ARRAYS, METADATA))
    raw[-3] ^= 0x40
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="not what was written"):
        unseal(path)


def test_a_file_of_an_earlier_version_has_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(ARRAYS, METADATA))
    assert unseal(path)[1] == METADATA
