"""Is this machine ready? Versions, frameworks, hardware, data and folders, a line for each."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness import backends
from harness.datasets.folders import DATA_DIR, data_dir
from harness.errors import HarnessError, StorageError
from harness.process.cores import usable_cores
from harness.records.files import commit, replace, storing
from harness.records.version import __version__
from harness.suites.catalogue import dataset_entries

__all__ = ["Check", "doctor"]

_PARTS = {
    "ray": ("ray",),
    "mlflow": ("mlflow-skinny", "sqlalchemy", "alembic"),
    "report": ("pandas", "altair", "jinja2", "vl-convert-python", "pillow"),
}


@dataclass(frozen=True)
class Check:
    """One finding.

    Arguments:
        name: What was looked at.
        ok: True if it is ready, False if `harness run` cannot do without it, None if it can.
        detail: What was found, or what to do.
    """

    name: str
    ok: bool | None
    detail: str


def doctor(root: Path) -> list[Check]:
    """Looks at this machine; imports no framework and leaves nothing behind.

    Arguments:
        root: The run root whose folder must be writable.
    """
    return [
        Check("harness", True, f"{__version__}, Python {platform.python_version()}"),
        *_backends(),
        *_parts(),
        _hardware(),
        _root(root),
        _data(),
    ]


def _backends() -> Iterator[Check]:
    ready = 0
    for name in backends.backend_names():
        try:
            backend = backends.get_backend(name)
        except HarnessError as error:
            yield Check(f"backend {name}", None, str(error))
            continue
        missing = backends.missing_distribution(backend)
        if missing is None:
            ready += 1
            yield Check(f"backend {name}", True, _versions(backend.framework))
        else:
            fix = f"{missing} is not installed; pip install 'cnf-harness[{name}]'"
            yield Check(f"backend {name}", None, fix)
    if not ready:
        yield Check("backends", False, "none is ready; install one of those above")


def _parts() -> Iterator[Check]:
    for extra, distributions in _PARTS.items():
        missing = [name for name in distributions if _version(name) is None]
        if missing:
            fix = f"{', '.join(missing)} not installed; pip install 'cnf-harness[{extra}]'"
            yield Check(extra, None, fix)
        else:
            yield Check(extra, True, _versions(distributions))


def _hardware() -> Check:
    gpu = "an NVIDIA driver" if shutil.which("nvidia-smi") else "no NVIDIA driver"
    return Check(
        "hardware",
        True,
        f"{len(usable_cores())} cores for this process, {gpu}, {platform.machine()}",
    )


def _root(root: Path) -> Check:
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not existing.is_dir():
        return Check("run root", False, f"{existing} is not a folder")
    if not os.access(existing, os.W_OK):
        return Check("run root", False, f"{existing} is not writable; choose another with --root")
    try:
        _try_out(existing)
    except HarnessError as error:
        return Check("run root", False, str(error))
    free = shutil.disk_usage(existing).free / 2**30
    return Check("run root", True, f"{root}, {free:.0f} GiB free")


def _try_out(folder: Path) -> None:
    """Does in a folder what a run does in its root, and removes it.

    Raises:
        StorageError: No record can be committed there.
    """
    with storing(folder), tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as made:
        path = Path(made) / "result.json"
        if not commit(path, b"1") or commit(path, b"2") or path.read_bytes() != b"1":
            raise StorageError(f"{folder}: a record that is committed there is not kept")
        replace(path, b"3")


def _data() -> Check:
    entries = dataset_entries()
    absent = [entry.name for entry in entries if not entry.ready]
    summary = f"{len(entries) - len(absent)} of {len(entries)} datasets are here"
    folder = data_dir()
    if folder is not None and not folder.is_dir():
        return Check("data", None, f"{DATA_DIR} does not name a folder; {summary}")
    return Check("data", True, summary + (f"; not {', '.join(absent)}" if absent else ""))


def _versions(distributions: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {_version(name)}" for name in distributions)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
