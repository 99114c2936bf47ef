"""The registry of datasets, plugins, users' own files, checksums."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import folders as files
from harness.datasets.registry import Dataset, Declaration, Loader, declare, load, names
from harness.errors import DataError, InputError
from harness.plugins import plugins

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def _no_plugins_remembered() -> Iterator[None]:
    plugins.cache_clear()
    yield
    plugins.cache_clear()


def save(path: Path, rows: int = 30) -> None:
    x = np.arange(2.0 * rows).reshape(rows, 2)
    np.savez(path, train=x[:20], val=x[20:25], test=x[25:])


class Plugin(Loader):
    def declare(self) -> Declaration:
        return Declaration("plugged", "f" * 16, "from a plugin")

    def load(self) -> Dataset:
        return load("moons")


class NoLoader:
    pass


def plug(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    points = [
        metadata.EntryPoint(name.rstrip("_"), f"{__name__}:{target}", "harness.datasets")
        for name, target in targets.items()
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)


def test_names_are_sorted_and_include_own_files(data: Path) -> None:
    built_in = names()
    assert built_in == sorted(built_in)
    assert {"8gaussians", "digits", "power", "power-partial", "bsds300-rederived"} <= set(built_in)
    save(data / "my-data.npz")
    save(data / "power-partial.npz")
    save(data / "Not Kebab.npz")
    assert names() == sorted([*built_in, "my-data"])


def test_unknown_name_says_what_is_known_and_nearest() -> None:
    with pytest.raises(InputError) as caught:
        declare("8gausians")
    message = str(caught.value)
    assert "unknown dataset '8gausians'" in message
    assert "did you mean '8gaussians'?" in message
    assert "HARNESS_DATA_DIR" in message


@pytest.mark.parametrize("name", ["", "..", "../data/my-data", "/etc/passwd", "my-data.npz"])
def test_a_name_is_never_a_path(name: str, data: Path) -> None:
    save(data / "my-data.npz")
    with pytest.raises(InputError):
        load(name)


def test_absent_file_is_declared_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = declare("power-partial")
    assert not absent.available
    assert absent.reason is not None
    assert "has no power-partial.npz" in absent.reason
    monkeypatch.delenv("HARNESS_DATA_DIR")
    unset = declare("power-partial")
    assert unset.reason == "set HARNESS_DATA_DIR to a folder with power-partial.npz"
    assert unset.digest == absent.digest
    with pytest.raises(DataError, match="set HARNESS_DATA_DIR"):
        load("power-partial")


def test_own_file_conflicting_with_a_built_in_name_is_an_error(data: Path) -> None:
    save(data / "moons.npz")
    with pytest.raises(DataError, match=r"two datasets are named 'moons'.*moons\.npz"):
        declare("moons")


@pytest.mark.usefixtures("_no_plugins_remembered")
def test_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, plugged="Plugin")
    assert "plugged" in names()
    assert declare("plugged").summary == "from a plugin"
    assert load("plugged").info.name == "moons"


@pytest.mark.usefixtures("_no_plugins_remembered")
def test_two_plugins_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, plugged="Plugin", plugged_="NoLoader")
    with pytest.raises(DataError, match="two packages register a dataset named 'plugged'"):
        names()


@pytest.mark.usefixtures("_no_plugins_remembered")
def test_a_plugin_cannot_shadow_a_built_in_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, moons="Plugin")
    with pytest.raises(DataError, match="two datasets are named 'moons'"):
        declare("moons")


@pytest.mark.usefixtures("_no_plugins_remembered")
def test_a_plugin_must_be_a_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, plugged="NoLoader")
    with pytest.raises(DataError, match=r"not a harness\.datasets\.base\.Loader"):
        declare("plugged")


def test_digest_of_an_own_file_follows_its_content(data: Path) -> None:
    path = data / "my-data.npz"
    save(path)
    first = declare("my-data").digest
    assert len(first) == 16
    assert declare("my-data").digest == first
    save(path, rows=31)
    assert declare("my-data").digest != first
    with pytest.raises(DataError, match="no longer the one this trial was planned with"):
        load("my-data", digest=first)
    assert load("my-data", digest=declare("my-data").digest).sizes()["test"] == 6


def test_own_file_is_hashed_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    save(data / "my-data.npz")
    first = declare("my-data").digest

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path.name} was hashed again")

    monkeypatch.setattr(files, "sha256", refuse)
    assert declare("my-data").digest == first
    os.utime(data / "my-data.npz", ns=(1, 1))
    with pytest.raises(AssertionError, match="hashed again"):
        declare("my-data")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1}', b'{"key": [1, 2]}'])
def test_a_damaged_checksum_note_is_ignored(
    content: bytes, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    save(data / "my-data.npz")
    digest = declare("my-data").digest
    (note,) = (tmp_path / "cache" / "checksums").iterdir()
    note.write_bytes(content)
    assert declare("my-data").digest == digest


def test_a_cache_that_cannot_be_written_costs_time_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(data / "my-data.npz")
    digest = declare("my-data").digest
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "file"))
    assert declare("my-data").digest == digest


@pytest.mark.parametrize(
    "checksum",
    [
        "md5:b1946ac92492d2347c6235b4d2611184",
        "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "git:ce013625030ba8dba906f756967f9e9ca394464a",
    ],
)
def test_checksums_in_every_form(checksum: str, tmp_path: Path) -> None:
    """As md5sum, sha256sum and `git hash-object` give them."""
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    files.verify("x", "file", path, checksum)
    path.write_bytes(b"hello")
    with pytest.raises(DataError, match=f"expected {checksum.partition(':')[2][:16]}"):
        files.verify("x", "file", path, checksum)


def test_cache_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache_dir() == tmp_path / "xdg" / "cnf-harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / ".cache" / "cnf-harness"


def test_publish_leaves_the_old_file_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "derived" / "x.npy"
    files.publish(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        files.publish(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["x.npy"]


def test_declaring_all_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.datasets.registry import declare, names\n"
        "for name in names(): declare(name)\n"
        "heavy = {'torch', 'jax', 'sklearn', 'scipy', 'PIL', 'pandas', 'ray', 'mlflow', 'h5py'}\n"
        "heavy |= {'pooch', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
