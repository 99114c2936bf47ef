"""Downloading and unpacking the archive, from a local server that fails in every way."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from archive_data import ROWS, archive, npy
from image_data import idx, pixels

from harness.datasets.families import density_images
from harness.datasets.families import tabular as benchmarks
from harness.datasets.families import tabular_splits as tabular
from harness.datasets.sources import download, public
from harness.datasets.sources.download import Remote
from harness.datasets.sources.public import PublicDataset
from harness.datasets.sources.source import Source
from harness.errors import DataError

pytest.importorskip("pooch")


@dataclass
class Site:
    """What the server does: bodies by path, and for how many bytes and requests it behaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off; afterwards answers are whole."""
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each request."""
    url: str = ""

    def handler(site: Site) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                span = self.headers["Range"]
                site.seen.append((self.path, span))
                if self.path in site.status:
                    self.send_error(site.status[self.path])
                    return
                body, start = site.files[self.path], 0
                if span and site.ranges:
                    start = int(span.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(body):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(body)}")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    self.send_response(206)
                    last = len(body) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(body)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                most = site.breaks.pop(0) if site.breaks else len(body)
                self.wfile.write(body[start : start + most])

        return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with ThreadingHTTPServer(("127.0.0.1", 0), made.handler()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setattr(download, "CHUNK", 100)
    return tmp_path / "cache"


GOOD = archive(
    {
        "./data/mnist/mnist.pkl.gz": b"not for us",
        "./data/power/._data.npy": b"left by another system",
        "./data/power/data.npy": npy(),
    }
)


def table(
    site: Site, content: bytes, *paths: str, name: str = "power", megabytes: int = 1
) -> PublicDataset:
    """A benchmark of 2,000 rows whose archive lies on the local server."""
    urls = tuple(site.url + path for path in paths or ("/data.tar.gz",))
    md5 = f"md5:{hashlib.md5(content).hexdigest()}"
    remote = Remote(
        file="data.tar.gz",
        urls=urls,
        checksum=md5,
        megabytes=megabytes,
        origin="record 1 of example.org",
    )
    whole = next(table for table in benchmarks.TABLES if table.name == name)
    return replace(whole, rows={"data": 2000}, remotes=(remote,))


def leftovers(cache: Path) -> list[str]:
    """Names in the cache, but for the empty files of locks."""
    return sorted(
        path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def part_of(table: PublicDataset) -> Path:
    (remote,) = table.remotes
    return remote.cached.with_name(remote.cached.name + ".part")


def test_downloaded_unpacked_prepared_and_then_all_from_the_cache(site: Site, cache: Path) -> None:
    site.files["/data.tar.gz"] = GOOD
    power = table(site, GOOD)
    declared = power.declare()
    assert (declared.available, declared.reason) == (False, "will download 1 MB")

    dataset = power.load()
    expected = tabular.power(ROWS)
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(dataset.rows(split).x, expected[split])
    (remote,) = power.remotes
    assert leftovers(cache) == sorted([remote.cached.name, "train.npy", "val.npy", "test.npy"])

    remote.cached.unlink()
    power.load()
    assert len(site.seen) == 1
    assert power.declare().available
    assert power.declare().digest == declared.digest


def test_progress(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.files["/data.tar.gz"] = GOOD
    monkeypatch.setattr(download, "REPORT_S", 0.0)
    table(site, GOOD).load()
    assert "power: 0 of 1 MB downloaded\n" in capsys.readouterr().err


def test_a_downloaded_archive_serves_the_next_dataset(site: Site) -> None:
    content = archive({"data/power/data.npy": npy(), "data/miniboone/data.npy": npy()})
    site.files["/data.tar.gz"] = content
    table(site, content).load()
    other = replace(table(site, content, name="miniboone"), shape=(8,))
    assert other.declare().available
    assert other.load().sizes()["test"] == 200
    assert len(site.seen) == 1


def test_a_broken_transfer_is_continued(site: Site) -> None:
    site.files["/data.tar.gz"] = GOOD
    site.breaks = [1000, 500]
    assert table(site, GOOD).load().sizes()["test"] == 200
    spans = [span for _, span in site.seen]
    assert spans == [None, "bytes=1000-", "bytes=1500-"]


def test_a_truncated_download_is_an_error_and_continued_by_the_next_call(
    site: Site, cache: Path
) -> None:
    site.files["/data.tar.gz"] = GOOD
    site.breaks = [1000] * download.ATTEMPTS
    power = table(site, GOOD)
    with pytest.raises(DataError, match=r"connection broke.*0\.004 MB are kept"):
        power.load()
    assert leftovers(cache) == [part_of(power).name]
    assert part_of(power).read_bytes() == GOOD[:4000]
    assert power.load().sizes()["test"] == 200
    assert site.seen[-1][1] == "bytes=4000-"
    assert not part_of(power).exists()


def test_a_server_that_cannot_continue_starts_anew(site: Site) -> None:
    site.files["/data.tar.gz"] = GOOD
    site.ranges, site.breaks = False, [1000]
    assert table(site, GOOD).load().sizes()["test"] == 200


@pytest.mark.parametrize(
    "left",
    [GOOD, GOOD + b"more", b"something else", GOOD[:3000]],
    ids=["whole", "too-long", "another", "part"],
)
def test_whatever_an_earlier_call_left_behind(left: bytes, site: Site) -> None:
    site.files["/data.tar.gz"] = GOOD
    power = table(site, GOOD)
    part_of(power).parent.mkdir(parents=True)
    part_of(power).write_bytes(left)
    assert power.load().sizes()["test"] == 200


def test_wrong_checksum(site: Site, cache: Path) -> None:
    site.files["/data.tar.gz"] = archive({"data/power/data.npy": npy(ROWS + 1)})
    with pytest.raises(DataError, match="sent another content") as caught:
        table(site, GOOD).load()
    assert "put data.tar.gz of record 1 of example.org into the folder" in str(caught.value)
    assert leftovers(cache) == []


def test_server_error_and_the_next_mirror(site: Site, cache: Path) -> None:
    site.status = {"/a": 500, "/b": 404}
    with pytest.raises(DataError, match=r"answered 500 Server Error; .* answered 404 Client"):
        table(site, GOOD, "/a", "/b").load()
    assert leftovers(cache) == []
    site.files["/c"] = GOOD
    assert table(site, GOOD, "/a", "/b", "/c").load().sizes()["test"] == 200


def test_unreachable(site: Site) -> None:
    power = table(site, GOOD)
    (remote,) = power.remotes
    nowhere = replace(remote, urls=("http://127.0.0.1:9/data.tar.gz",))
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9 could not be reached"):
        replace(power, remotes=(nowhere,)).load()


def test_more_than_the_file_can_have(site: Site, cache: Path) -> None:
    site.files["/data.tar.gz"] = GOOD
    with pytest.raises(DataError, match="sends more than the file should have"):
        table(site, GOOD, megabytes=0).load()
    assert leftovers(cache) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_disk_full_while_downloading(site: Site, cache: Path) -> None:
    site.files["/data.tar.gz"] = GOOD
    power = table(site, GOOD)
    part_of(power).parent.mkdir(parents=True)
    part_of(power).symlink_to("/dev/full")
    with pytest.raises(DataError, match="the disk of HARNESS_CACHE_DIR is full"):
        power.load()
    assert leftovers(cache) == []
    assert not part_of(power).is_symlink()


def test_disk_full_while_unpacking_and_writing_arrays(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/data.tar.gz"] = GOOD
    power = table(site, GOOD)
    (remote,) = power.remotes
    for allowed in (0, 1, 2):
        calls = iter(range(10))

        def fsync(_: int, calls: Iterator[int] = calls, allowed: int = allowed) -> None:
            if next(calls) >= allowed:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(DataError, match="the disk of HARNESS_CACHE_DIR is full"):
                power.load()
        whole = {remote.cached.name} | ({"train.npy"} if allowed == 2 else set())
        assert set(leftovers(cache)) == whole
    assert power.load().sizes()["test"] == 200


def test_a_cache_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(DataError, match="HARNESS_CACHE_DIR cannot be written") as caught:
        table(site, GOOD).load()
    assert str(tmp_path) not in str(caught.value)


def test_an_archive_put_into_the_data_folder(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    power = table(site, GOOD)
    (tmp_path / "data.tar.gz").write_bytes(GOOD[:-1])
    with pytest.raises(DataError, match=r"data\.tar\.gz has MD5 .* fetch it again"):
        power.load()
    (tmp_path / "data.tar.gz").write_bytes(GOOD)
    assert power.declare().available
    assert power.load().sizes()["test"] == 200
    assert site.seen == []


def test_missing_pooch(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    power = table(site, GOOD)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"pip install 'cnf-harness\[data\]'"):
        power.load()
    monkeypatch.setattr(public, "_is_installed", lambda package: False)
    assert power.declare().reason == (
        "set HARNESS_DATA_DIR to a folder with power/data.npy or power.npy or "
        "household_power_consumption.txt or power/household_power_consumption.txt; or to "
        "download it: pip install 'cnf-harness[data]'"
    )


def mnist(site: Site, *content: bytes) -> PublicDataset:
    """MNIST of 12 + 3 images whose two files lie on the local server."""
    remotes = []
    for remote, body in zip(density_images.MNIST.remotes, content, strict=True):
        checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
        urls = (site.url + "/" + remote.file,)
        remotes.append(
            Remote(
                file=remote.file,
                urls=urls,
                checksum=checksum,
                megabytes=1,
                origin="a page of example.org",
            )
        )
    source = Source.of(remotes, density_images.MNIST.sources[0].read)
    rows = {"train": 12, "test": 3}
    return replace(density_images.MNIST, sources=(source,), rows=rows, remotes=tuple(remotes))


def test_a_dataset_of_several_files(
    site: Site, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = idx(pixels(12, 28, 28)), idx(pixels(3, 28, 28))
    digits = mnist(site, train, test)
    site.files = {"/mnist/train-images-idx3-ubyte.gz": train}
    site.status = {"/mnist/t10k-images-idx3-ubyte.gz": 404}
    assert digits.declare().reason == "will download 2 MB"
    with pytest.raises(DataError, match="answered 404"):
        digits.load()
    # What has come is kept, and a file that the user has is not downloaded.
    assert digits.declare().reason == "will download 1 MB"
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "data"))
    own = tmp_path / "data/mnist/t10k-images-idx3-ubyte.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(test[:-1] + b"x")
    assert digits.declare().available
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz has SHA-256"):
        digits.load()
    own.write_bytes(test)
    assert digits.load().sizes() == {"train": 12, "val": 2, "test": 3}
    assert len(site.seen) == 2
    names = [remote.cached.name for remote in digits.remotes[:1]]
    assert leftovers(cache) == sorted([*names, "train.npy", "val.npy", "test.npy"])
