"""The five tabular benchmarks of the FFJORD paper, their parts, and where they come from.

Row counts are those of the MAF and FFJORD papers. Densities are those of the standardised
variables, as all published tables have them, so `log_volume` is 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.datasets.base import Array, Loader, Split
from harness.datasets.families import own as npz
from harness.datasets.families import tabular_splits as tabular
from harness.datasets.formats import maf as maf_files
from harness.datasets.formats import uci as uci_files
from harness.datasets.sources.download import Remote
from harness.datasets.sources.partial import Partial
from harness.datasets.sources.public import PublicDataset
from harness.datasets.sources.source import Source

__all__ = ["ARCHIVE", "LOADERS", "PINNED_FILES", "TABLES"]

ARCHIVE = Remote(
    file="data.tar.gz",
    urls=(
        "https://zenodo.org/records/1161203/files/data.tar.gz?download=1",
        "https://zenodo.org/api/records/1161203/files/data.tar.gz/content",
    ),
    checksum="md5:9b9c9b0375315ad270eba4ce80c093ab",
    megabytes=817,
    origin="record 1161203 of zenodo.org",
)
"""The data of Papamakarios et al. (arXiv:1705.07057), doi:10.5281/zenodo.1161203."""


def _unchanged(train: Array, val: Array, test: Array) -> Mapping[Split, Array]:
    """BSDS300 comes split, dequantised and centred, and is not standardised."""
    return {"train": train, "val": val, "test": test}


TABLES = (
    PublicDataset(
        name="power",
        summary="electric power of a household (UCI), as MAF prepares it; 6-D",
        sources=(
            Source(("power/data.npy",), maf_files.npy),
            Source(("power.npy",), maf_files.npy),
            Source(("household_power_consumption.txt",), uci_files.power),
            Source(("power/household_power_consumption.txt",), uci_files.power),
        ),
        rows={"data": 2_049_280},
        shape=(6,),
        prepare=tabular.power,
        remotes=(ARCHIVE,),
        folder="data",
        test_rows=204_928,
        part="power-partial",
    ),
    PublicDataset(
        name="gas",
        summary="gas sensors under ethylene and CO (UCI), as MAF prepares it; 8-D",
        sources=(
            Source(("gas/ethylene_CO.pickle",), maf_files.gas),
            Source(("ethylene_CO.pickle",), maf_files.gas),
        ),
        rows={"data": 1_052_065},
        shape=(8,),
        prepare=tabular.gas,
        remotes=(ARCHIVE,),
        folder="data",
        test_rows=105_206,
        part="gas-partial",
    ),
    PublicDataset(
        name="gas-resampled",
        summary="gas sensors, our own quarter of the rows of ethylene_CO.txt; 8-D",
        sources=(
            Source(("ethylene_CO.txt",), uci_files.gas),
            Source(("gas/ethylene_CO.txt",), uci_files.gas),
        ),
        rows={"data": 4_208_261},
        shape=(8,),
        prepare=tabular.resampled_gas,
        part="gas-resampled-partial",
    ),
    PublicDataset(
        name="hepmass",
        summary="signal events of HEPMASS (UCI), as MAF prepares it; 21-D",
        sources=tuple(
            Source((f"{folder}1000_train{ext}", f"{folder}1000_test{ext}"), maf_files.hepmass)
            for folder in ("hepmass/", "")
            for ext in (".csv", ".csv.gz")
        ),
        rows={"train": 350_136, "test": 174_987},
        shape=(21,),
        prepare=tabular.hepmass,
        remotes=(ARCHIVE,),
        folder="data",
        test_rows=174_987,
        part="hepmass-partial",
    ),
    PublicDataset(
        name="miniboone",
        summary="signal events of MiniBooNE (UCI), as MAF prepares it; 43-D",
        sources=(
            Source(("miniboone/data.npy",), maf_files.npy),
            Source(("miniboone.npy",), maf_files.npy),
            Source(("MiniBooNE_PID.txt",), uci_files.miniboone),
            Source(("miniboone/MiniBooNE_PID.txt",), uci_files.miniboone),
        ),
        rows={"data": 36_488},
        shape=(43,),
        prepare=tabular.miniboone,
        remotes=(ARCHIVE,),
        folder="data",
        test_rows=3_648,
        part="miniboone-partial",
    ),
    PublicDataset(
        name="bsds300",
        summary="8x8 patches of the Berkeley images, as MAF packages them; 63-D; research only",
        sources=(
            Source(("BSDS300/BSDS300.hdf5",), maf_files.bsds300),
            Source(("BSDS300.hdf5",), maf_files.bsds300),
        ),
        rows={"train": 1_000_000, "val": 50_000, "test": 250_000},
        shape=(63,),
        prepare=_unchanged,
        remotes=(ARCHIVE,),
        folder="data",
        package="h5py",
        test_rows=250_000,
        part="bsds300-partial",
    ),
)


def _pinned(name: str, checksum: str, rows: int, whole: str, summary: str) -> PublicDataset:
    """A part of known content: the array `data` of `<name>.npz`, whose last tenth is the test."""
    (table,) = (table for table in TABLES if table.name == whole)
    source = Source((f"{name}.npz",), npz.parts, (f"sha256:{checksum}",))
    return PublicDataset(
        name=name,
        summary=summary,
        sources=(source,),
        rows={"data": rows},
        shape=table.shape,
        prepare=table.prepare,
        test_rows=int(0.1 * rows),
    )


_PINNED = {
    "power": _pinned(
        "power-partial",
        "893798910db2ec6bca62d4ee0624afda65d5b0838fba7c281887ef3b092441c5",
        48_419,
        "power",
        "the first 48,419 of the 2,049,280 rows of POWER; 6-D; for checks, not for tables",
    ),
    "miniboone": _pinned(
        "miniboone-partial",
        "82a9d698daf563e3df6285a3b5787ffd647fa29f380b8fceea8684ca01d1b979",
        1_523,
        "miniboone",
        "the first 1,523 of the 36,488 rows of MINIBOONE; 43-D; for checks, not for tables",
    ),
}
_PARTS = tuple(Partial(table, _PINNED.get(table.name)) for table in TABLES)

LOADERS: Mapping[str, Loader] = {
    **{table.name: table for table in TABLES},
    **{part.name: part for part in _PARTS},
}

PINNED_FILES = frozenset(part.name for part in _PINNED.values())
"""Stems of npz files in the data folder that are ours, not datasets of the user."""
