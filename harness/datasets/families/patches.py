"""Patches of natural images, derived anew from the 300 images of the Berkeley benchmark.

This follows the published protocol of BSDS300 as a density benchmark (Zoran & Weiss 2011; Uria et
al., arXiv:1306.0186; the MAF paper), not the file BSDS300.hdf5 of the MAF authors: positions of
the patches and the images that validate are ours, hence the name `bsds300-rederived`.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from harness.datasets.arrays import ArrayDataset
from harness.datasets.base import Dataset, Declaration, Loader, Split
from harness.datasets.derived import derived, is_derived
from harness.datasets.folders import absence, checked_file, declared_digest, find
from harness.errors import DataError
from harness.streams.stream import Stream

__all__ = ["LOADERS", "SIZES", "cut_patches", "read_images"]

LOADER_VERSION = 1
NAME = "bsds300-rederived"
FILE = "BSDS300-images.tgz"
CHECKSUM = "61034256c1f0733f9dcaf67a45e39c18104e7a499cc736db02efbc0d48f8949f"
SIZES: Mapping[Split, int] = {"train": 1_000_000, "val": 50_000, "test": 250_000}
SIDE = 8
CHUNK = 50_000

Grey = npt.NDArray[np.uint8]
Patches = npt.NDArray[np.float32]


def cut_patches(images: Sequence[Grey], split: Split, chunk: int, count: int) -> Patches:
    """Cuts random patches and turns them into rows.

    Each patch comes from a uniformly drawn image and place. Uniform noise on (0, 1) is added to
    its 8-bit pixels, the sum divided by 256, the patch's mean subtracted, and the last pixel,
    which the others now determine, dropped.

    Arguments:
        images: Grey images [height, width], sides of at least 8.
        split: Names the random streams.
        chunk: Number of the chunk; its randomness depends on nothing else.
        count: Patches to cut.

    Returns:
        [count, 63] float32.
    """
    slot = f"data/{NAME}/{split}"
    choice = Stream(0, f"{slot}/image", chunk).integers(len(images), (count,))
    place = Stream(0, f"{slot}/place", chunk).uniform((count, 2))
    noise = Stream(0, f"{slot}/noise", chunk).uniform((count, SIDE * SIDE))
    pixels = np.empty((count, SIDE, SIDE), np.uint8)
    for number, image in enumerate(images):
        here = np.flatnonzero(choice == number)
        windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))
        top, left = np.floor(place[here] * windows.shape[:2]).astype(np.int64).T
        pixels[here] = windows[top, left]
    x = (pixels.reshape(count, -1) + noise) / 256.0
    x -= x.mean(axis=1, keepdims=True)
    return x[:, :-1].astype(np.float32)


def read_images(archive: Path, folder: str) -> list[Grey]:
    """Reads `BSDS300/images/<folder>/<id>.jpg` by ascending id, as 8-bit luma (ITU-R 601).

    Members are read in memory by their exact names; nothing is unpacked to disk.

    Raises:
        DataError: pillow is not installed, or the archive does not hold such images.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"dataset '{NAME}' decodes JPEG images with pillow, which is not installed; "
            "run: pip install 'cnf-harness[data]'"
        ) from error
    prefix = f"BSDS300/images/{folder}/"
    try:
        with tarfile.open(archive, "r:gz") as tar:
            files = {
                int(member.name.removeprefix(prefix).removesuffix(".jpg")): member
                for member in tar.getmembers()
                if member.isfile() and member.name.startswith(prefix)
            }
            images = {}
            # In the order of the archive: going back in a compressed stream starts it anew.
            for number, member in files.items():
                content = cast(BinaryIO, tar.extractfile(member)).read()
                with Image.open(io.BytesIO(content)) as image:
                    images[number] = np.asarray(image.convert("L"), np.uint8)
    except (tarfile.TarError, OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"dataset '{NAME}': {archive.name} is damaged or holds other images; fetch it again"
        ) from error
    return [images[number] for number in sorted(images)]


def _derive() -> Iterator[tuple[Split, Callable[[BinaryIO], None]]]:
    """Yields each split with what writes its npy file, chunk by chunk."""
    archive = checked_file(NAME, FILE, f"sha256:{CHECKSUM}")
    training, testing = read_images(archive, "train"), read_images(archive, "test")
    if (len(training), len(testing)) != (200, 100):
        raise DataError(
            f"dataset '{NAME}': {archive.name} holds {len(training)} + {len(testing)} images, "
            "expected 200 + 100"
        )
    sources: Mapping[Split, Sequence[Grey]] = {
        "train": training[:180],
        "val": training[180:],
        "test": testing,
    }
    for split, images in sources.items():

        def write(file: BinaryIO, split: Split = split, images: Sequence[Grey] = images) -> None:
            shape = (SIZES[split], SIDE * SIDE - 1)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            starts = range(0, SIZES[split], CHUNK)
            for chunk, start in enumerate(starts):
                count = min(CHUNK, SIZES[split] - start)
                file.write(cut_patches(images, split, chunk, count).astype("<f4").tobytes())

        yield split, write


class _PatchesLoader(Loader):
    def declare(self) -> Declaration:
        """Available if the images, or arrays derived from them earlier, are there."""
        present = find(FILE) is not None or is_derived(NAME, _digest())
        return Declaration(
            NAME,
            _digest(),
            "1.3 million 8x8 patches of the 300 Berkeley images, cut anew; 63-D; research only",
            present,
            None if present else absence(FILE),
            event_shape=(63,),
            test_rows=SIZES["test"],
        )

    def load(self) -> Dataset:
        """Derives the arrays once (under a minute, 330 MB of cache), then maps them to memory."""
        return ArrayDataset(NAME, derived(NAME, _digest(), _derive))


def _digest() -> str:
    return declared_digest(CHECKSUM, LOADER_VERSION)


LOADERS: Mapping[str, Loader] = {NAME: _PatchesLoader()}
