"""The registry of datasets: built-in ones, those of plugins, and the user's own files.

Declaring reads no arrays, so that plans stay cheap; scikit-learn and pillow are imported by the
datasets that need them, when they are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata

from harness.datasets.base import Dataset, Declaration, Loader, Rows, Split
from harness.datasets.families import (
    density_images,
    digits,
    patches,
    standins,
    tabular,
    toys,
    vae_images,
)
from harness.datasets.families.own import SUFFIXES, OwnFile
from harness.datasets.folders import data_dir
from harness.errors import DataError, HarnessError, InputError, Problem
from harness.plugins import plugins
from harness.specs.own_data import OwnData

__all__ = [
    "Dataset",
    "Declaration",
    "Loader",
    "Rows",
    "Split",
    "declare",
    "is_own",
    "load",
    "names",
    "outline",
]

GROUP = "harness.datasets"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_BUILT_IN: Mapping[str, Loader] = {
    **toys.LOADERS,
    **digits.LOADERS,
    **tabular.LOADERS,
    **patches.LOADERS,
    **density_images.LOADERS,
    **vae_images.LOADERS,
    **standins.LOADERS,
}
# Files in the data folder that a built-in dataset of the same name reads: not the user's own.
_OWN_FILES = tabular.PINNED_FILES | density_images.PINNED_FILES | vae_images.PINNED_FILES


def names() -> list[str]:
    """Names of all datasets: built-in, of plugins, and your files in the data folder."""
    return sorted({*_BUILT_IN, *_plugins(), *_user_files()})


def declare(name: str) -> Declaration:
    """Says what a dataset is, without reading it.

    Raises:
        InputError: There is no dataset of that name.
        DataError: Two packages, or a package and a file of the user, claim the name.
    """
    return _loader(name).declare()


def is_own(name: str) -> bool:
    """True for a file of the user's, as it is or prepared."""
    try:
        return isinstance(_loader(name), OwnFile)
    except HarnessError:
        return False


def load(name: str, digest: str | None = None) -> Dataset:
    """Loads a dataset.

    Arguments:
        name: Its name.
        digest: The digest that a trial was planned with; None accepts any.

    Raises:
        InputError: There is no dataset of that name.
        DataError: It is absent, incomplete or corrupt, or not the one of `digest`.
    """
    loader = _loader(name)
    if digest is not None and loader.declare().digest != digest:
        raise DataError(
            f"dataset '{name}' is no longer the one this trial was planned with (digest "
            f"{digest}): its file or its loader has changed; plan the suite again"
        )
    return loader.load()


def outline(name: str, digest: str) -> Dataset:
    """A dataset for what is known of it, its shape and its space; it may have no rows.

    Raises:
        InputError: There is no dataset of that name.
        DataError: It must be loaded, and cannot be, or is not the one of `digest`.
    """
    return _loader(name).without_rows() or load(name, digest)


def _loader(name: str) -> Loader:
    data = OwnData.of(name)
    file = name.partition("+")[0]
    user_files, plugged = _user_files(), _plugins()
    own = user_files.get(file, [])
    claims = [
        *(["this package"] if name in _BUILT_IN else []),
        *([plugged[name].value] if name in plugged else []),
        *(f"{each.path.name} in your data folder" for each in own),
    ]
    if len(claims) > 1:
        raise DataError(f"two datasets are named '{file}': {' and '.join(claims)}; rename one")
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name in plugged:
        return _plugin_loader(plugged[name])
    if own and data is not None:
        return OwnFile(data, own[0].path)
    if "+" in name and (file in _BUILT_IN or file in plugged):
        message = f"'{file}' is no file of your own, and is not prepared otherwise than it is"
        raise InputError([Problem("dataset", message, fix=f"write '{file}'")])
    raise InputError(
        [
            Problem(
                "dataset",
                f"unknown dataset '{name}'",
                known=names(),
                found=name,
                fix="use a known name, or put <name>.npz (arrays train, val and test, or data), "
                "<name>.csv or <name>.parquet (name in lower-case kebab) into the folder that "
                "HARNESS_DATA_DIR names",
            )
        ]
    )


def _user_files() -> dict[str, list[OwnFile]]:
    """Files in the data folder; one that a built-in dataset reads is not the user's own."""
    folder = data_dir()
    if folder is None or not folder.is_dir():
        return {}
    files: dict[str, list[OwnFile]] = {}
    for path in sorted(folder.iterdir()):
        is_table = path.suffix in SUFFIXES and _NAME.fullmatch(path.stem)
        if is_table and path.stem not in _OWN_FILES:
            files.setdefault(path.stem, []).append(OwnFile(OwnData(path.stem), path))
    return files


def _plugins() -> Mapping[str, metadata.EntryPoint]:
    return plugins(GROUP, "dataset", DataError)


def _plugin_loader(point: metadata.EntryPoint) -> Loader:
    loader = point.load()()
    if not isinstance(loader, Loader):
        raise DataError(f"{point.value} is not a harness.datasets.base.Loader")
    return loader
