"""Patches: cutting, deriving, caching, on made-up images."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from harness.datasets.base import Batching
from harness.datasets.families import patches
from harness.datasets.folders import sha256
from harness.datasets.registry import declare, load
from harness.errors import DataError

Grey = npt.NDArray[np.uint8]
FALSE_ALARM = 1e-4


def picture(number: int, height: int = 12, width: int = 16) -> Grey:
    return np.full((height, width), number, np.uint8)


def test_rows_are_dequantised_centred_and_one_pixel_short() -> None:
    """Flat images leave the noise alone: differences of uniforms over 256."""
    rows = patches.cut_patches([picture(0), picture(255)], "train", 0, 2000)
    assert rows.shape == (2000, 63)
    assert rows.dtype == np.float32
    # A coordinate is u - mean(u) of 64 uniforms, over 256: variance (1 - 1/64) / 12 / 256^2.
    scaled = rows.astype(np.float64) * 256
    assert np.abs(scaled).max() < 1
    assert scaled.var() == pytest.approx((1 - 1 / 64) / 12, rel=0.01)
    assert np.abs(scaled.mean(axis=0)).max() < 0.03


def test_pixels_keep_their_place() -> None:
    ramp = np.add.outer(16 * np.arange(8), np.arange(8)).astype(np.uint8)
    row = patches.cut_patches([ramp], "train", 0, 1)[0].astype(np.float64) * 256
    expected = (ramp - ramp.mean()).reshape(-1)[:63]
    assert np.abs(row - expected).max() < 1


def test_images_and_places_are_uniform() -> None:
    """The slopes of r^2 + c^2 and its negative tell image and place of every patch."""
    bowl = np.add.outer(np.arange(10) ** 2, np.arange(12) ** 2).astype(np.uint8)
    count = 20_000
    rows = patches.cut_patches([bowl, 255 - bowl], "val", 3, count).astype(np.float64) * 256
    pixels = np.concatenate([rows, np.zeros((count, 1))], axis=1).reshape(count, 8, 8)
    # (c + 7)^2 - c^2 = 14 c + 49; averaging seven lines leaves noise of 0.15.
    across = (pixels[:, :7, 7] - pixels[:, :7, 0]).mean(axis=1)
    down = (pixels[:, 7, :7] - pixels[:, 0, :7]).mean(axis=1)
    left, top = (np.rint((np.abs(slope) - 49) / 14).astype(int) for slope in (across, down))
    assert (left.min(), left.max(), top.min(), top.max()) == (0, 4, 0, 2)
    place = 15 * (across < 0) + 5 * top + left
    assert stats.chisquare(np.bincount(place, minlength=30)).pvalue > FALSE_ALARM


def test_chunks_and_splits_have_their_own_randomness() -> None:
    images = [picture(100)]
    first = patches.cut_patches(images, "train", 0, 5)
    np.testing.assert_array_equal(first, patches.cut_patches(images, "train", 0, 5))
    assert (first != patches.cut_patches(images, "train", 1, 5)).all()
    assert (first != patches.cut_patches(images, "test", 0, 5)).all()


def write_archive(path: Path, counts: Mapping[str, int]) -> None:
    """Flat grey JPEG images, image number i in the order of ids has grey i; stored shuffled."""
    image_module = pytest.importorskip("PIL.Image")
    with tarfile.open(path, "w:gz") as tar:
        for folder, count in counts.items():
            for number in np.random.Generator(np.random.PCG64(0)).permutation(count):
                content = io.BytesIO()
                image_module.fromarray(picture(int(number))).save(content, "JPEG", quality=95)
                # Ids of different lengths: ascending as numbers, not as words.
                member = tarfile.TarInfo(f"BSDS300/images/{folder}/{9000 + 100 * number}.jpg")
                member.size = content.tell()
                content.seek(0)
                tar.addfile(member, content)
        tar.addfile(tarfile.TarInfo("BSDS300/iids_train.txt"))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / patches.FILE
    write_archive(path, {"train": 200, "test": 100})
    monkeypatch.setenv("HARNESS_DATA_DIR", str(path.parent))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(patches, "SIZES", {"train": 300, "val": 20, "test": 50})
    monkeypatch.setattr(patches, "CHUNK", 128)
    monkeypatch.setattr(patches, "CHECKSUM", sha256(path))
    return path


def test_images_come_by_ascending_id(archive: Path) -> None:
    images = patches.read_images(archive, "train")
    assert [int(np.rint(image.mean())) for image in images] == list(range(200))
    assert {image.shape for image in images} == {(12, 16)}
    assert len(patches.read_images(archive, "test")) == 100


def test_derived_once_then_mapped_from_the_cache(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(patches.NAME)
    assert dict(dataset.sizes()) == {"train": 300, "val": 20, "test": 50}
    train = dataset.rows("train").x
    assert train.shape == (300, 63)
    images = patches.read_images(archive, "train")[:180]
    second_chunk = patches.cut_patches(images, "train", 1, 128)
    np.testing.assert_array_equal(train[128:256], second_chunk)

    archive.unlink()
    monkeypatch.delitem(sys.modules, "PIL", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert declare(patches.NAME).available
    np.testing.assert_array_equal(load(patches.NAME).rows("train").x, train)


def test_a_training_batch_from_the_memory_map(archive: Path) -> None:
    batch = load(patches.NAME).training_batch(seed=0, step=1, batching=Batching(100)).x
    assert batch.dtype == np.float64
    train = load(patches.NAME).rows("train").x
    assert {tuple(row) for row in batch} <= {tuple(row) for row in train}


def test_missing_archive_and_missing_pillow(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"pip install 'cnf-harness\[data\]'"):
        load(patches.NAME)
    archive.unlink()
    assert not declare(patches.NAME).available
    with pytest.raises(DataError, match=r"has no BSDS300-images\.tgz; put it there"):
        load(patches.NAME)


def test_wrong_number_of_images(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(archive, {"train": 3, "test": 2})
    monkeypatch.setattr(patches, "CHECKSUM", sha256(archive))
    with pytest.raises(DataError, match=r"holds 3 \+ 2 images, expected 200 \+ 100"):
        load(patches.NAME)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_a_damaged_archive(archive: Path, keep: float, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match="has SHA-256"):
        load(patches.NAME)
    monkeypatch.setattr(patches, "CHECKSUM", sha256(archive))
    with pytest.raises(DataError, match="damaged"):
        load(patches.NAME)


def test_a_damaged_cache_says_what_to_delete(archive: Path, tmp_path: Path) -> None:
    load(patches.NAME)
    (cached,) = (tmp_path / "cache").rglob("val.npy")
    cached.write_bytes(cached.read_bytes()[:500])
    with pytest.raises(DataError, match=r"val\.npy is damaged; delete the folder"):
        load(patches.NAME)
