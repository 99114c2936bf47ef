"""What nodes of a joined cluster are told, and asked before anything is submitted to them."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.backends import get_backend
from harness.caches import CACHE_DIR, COMPILED_DIR
from harness.datasets import registry as datasets
from harness.datasets.folders import DATA_DIR
from harness.errors import HarnessError
from harness.executors.reaper import MARK
from harness.planning.plan import PlannedTrial
from harness.records.files import storing
from harness.records.version import __version__

__all__ = ["ANSWER_S", "asked_of", "lacking", "not_ready", "proven", "told"]

ANSWER_S = 60.0
"""How long a node has for its answer."""
_FOLDERS = (DATA_DIR, CACHE_DIR, COMPILED_DIR)
_TOLD = ("XLA_FLAGS",)


def told() -> dict[str, str]:
    """Settings of the driver that trials on other nodes are told; folders are absolute."""
    names = [name for name in os.environ if name.startswith("HARNESS_") and name != MARK]
    values = {name: os.environ[name] for name in (*names, *_TOLD) if name in os.environ}
    for name in _FOLDERS:
        if values.get(name):
            values[name] = str(Path(values[name]).expanduser().absolute())
    return values


@contextmanager
def proven(root: Path) -> Iterator[Path]:
    """A file in the run root, during the block, which a node sees that shares the root."""
    path = root / f".node-check.{uuid.uuid4().hex}"
    with storing(path):
        path.write_bytes(b"")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def asked_of(trials: Sequence[PlannedTrial], proof: Path) -> dict[str, Any]:
    """What a node is asked: JSON values for `lacking`.

    Arguments:
        trials: What it may have to run.
        proof: The file of `proven`.
    """
    backends = {planned.trial.backend for planned in trials}
    needs = {name for backend in backends for name in get_backend(backend).framework}
    return {
        "proof": str(proof),
        "versions": _versions(needs),
        "datasets": sorted({planned.trial.dataset.name for planned in trials}),
        "environment": told(),
    }


def lacking(asked: Mapping[str, Any]) -> list[str]:
    """What this node lacks, a sentence each, with its remedy.

    Arguments:
        asked: What `asked_of` returned on the driver's node.
    """
    os.environ.update(asked["environment"])
    wanted: Mapping[str, str | None] = asked["versions"]
    here = _versions(wanted.keys() - _OWN)
    found = [
        f"{name} {here[name] or 'is missing'}, but 'harness run' has {version}: install the same"
        for name, version in wanted.items()
        if here[name] != version
    ]
    proof = Path(asked["proof"])
    if not proof.exists():
        fix = "choose a folder with --root that all nodes share"
        found.append(f"it does not see the run root {proof.parent}: {fix}")
    elif not os.access(proof.parent, os.W_OK):
        found.append(f"it cannot write the run root {proof.parent}")
    return found + [sentence for name in asked["datasets"] for sentence in _without(name)]


def not_ready(said: Mapping[str, Sequence[str]]) -> HarnessError | None:
    """The error that names what nodes lack, by node; None if they lack nothing."""
    lines = [f"node {name}: {each}" for name, found in said.items() for each in found]
    if not lines:
        return None
    return HarnessError("nodes of the cluster are not ready:\n  " + "\n  ".join(lines))


_OWN = frozenset({"harness", "Python"})


def _versions(distributions: Collection[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {"harness": __version__, "Python": platform.python_version()}
    for name in sorted(distributions):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _without(name: str) -> Iterator[str]:
    """Why a dataset is not to be had here; what can be downloaded is."""
    try:
        declared = datasets.declare(name)
    except HarnessError as error:
        yield str(error)
        return
    if not declared.available and not (declared.reason or "").startswith("will download"):
        yield f"no data of '{name}': {declared.reason}"
