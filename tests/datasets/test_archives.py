"""Taking single files out of an archive that may be damaged or hostile."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from archive_data import ROWS, archive, npy

from harness.datasets.families import tabular as benchmarks
from harness.datasets.sources.archives import extract
from harness.datasets.sources.download import Remote
from harness.datasets.sources.public import PublicDataset
from harness.errors import DataError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder."""
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def table(folder: Path, content: bytes, name: str = "power") -> PublicDataset:
    """A benchmark of 2,000 rows whose archive the user has put into the data folder."""
    (folder / "data.tar.gz").write_bytes(content)
    remote = Remote(
        file="data.tar.gz",
        urls=(),
        checksum=f"md5:{hashlib.md5(content).hexdigest()}",
        megabytes=1,
        origin="record 1",
    )
    whole = next(table for table in benchmarks.TABLES if table.name == name)
    return replace(whole, rows={"data": 2000}, remotes=(remote,))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"data/power/data.npy": npy(), "../escaped": b"x"}, "climbs out of its folder"),
        ({"data/../../escaped": b"x", "data/power/data.npy": npy()}, "climbs out"),
        ({"/tmp/escaped": b"x", "data/power/data.npy": npy()}, "climbs out"),
        ({"data\\..\\..\\escaped": b"x", "data/power/data.npy": npy()}, "climbs out"),
        ({"": link("data/power/data.npy", "/etc/passwd")}, "is not a file of at most"),
        ({"": link("data/power/data.npy", "../x", tarfile.LNKTYPE)}, "is not a file of at most"),
        ({"power/data.npy": npy()}, r"has no data/power/data\.npy"),
        ({"data/power/data.npy": b"no array"}, "cannot be read as an npy file"),
        ({"data/power/data.npy": npy(ROWS[:1999])}, "has 1,999 rows, expected 2,000"),
    ],
)
def test_archives_that_hold_what_they_should_not(
    members: Mapping[str, bytes | tarfile.TarInfo], message: str, folder: Path, cache: Path
) -> None:
    content = archive(members)
    power = table(folder, content)
    with pytest.raises(DataError, match=message):
        power.load()
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert not list(cache.parent.rglob("*escaped*"))
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-2000], lambda x: x[:50], lambda x: b"no archive"]
)
def test_damaged_archives(damage: Callable[[bytes], bytes], folder: Path) -> None:
    content = damage(archive({"data/power/data.npy": npy(ROWS[:300])}))
    with pytest.raises(DataError, match=r"data\.tar\.gz is damaged or cut short"):
        table(folder, content).load()


def test_a_member_larger_than_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "data.tar.gz"
    path.write_bytes(archive({"big": bytes(2000)}))
    with pytest.raises(DataError, match="not a file of at most 0 MB"):
        extract("power", path, ["big"], tmp_path, 1999)
    assert extract("power", path, ["big"], tmp_path, 2000)["big"].stat().st_size == 2000


class Exploit:
    def __init__(self, target: Path) -> None:
        self._target = str(target)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self._target,)


def test_a_pickle_that_would_run_code(folder: Path, tmp_path: Path) -> None:
    content = archive(
        {"data/gas/ethylene_CO.pickle": pickle.dumps(Exploit(tmp_path / "executed"))}
    )
    gas = table(folder, content, name="gas")
    message = re.escape("asks for 'posix.mkdir', which is not data; nothing in it was executed")
    with pytest.raises(DataError, match=message):
        gas.load()
    assert not (tmp_path / "executed").exists()
