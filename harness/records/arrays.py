"""Arrays by name as the bytes of a safetensors file, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from harness.errors import RecordError
from harness.interface import Array, Arrays

__all__ = ["DAMAGE", "pack", "seal", "unpack", "unseal"]

DAMAGE = (
    *(OSError, SafetensorError, ValueError, LookupError),
    *(TypeError, AttributeError, RecursionError),
)
"""What is raised by `unseal`, and by taking its metadata apart, if a file is damaged."""

_CHECKSUM = "sha256"


def pack(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Encodes arrays as safetensors; views are copied into C order first."""
    ordered = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return save(ordered, dict(metadata))


def seal(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Encodes arrays with a checksum of them and of the metadata, since a trial goes on from them.

    `unseal` notices one flipped bit; it would be other numbers with status ok.
    """
    return pack(tensors, {**metadata, _CHECKSUM: _checksum(tensors, metadata)})


def unseal(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Reads arrays and metadata that `seal` wrote; a file of an earlier version has no checksum.

    Raises:
        OSError, SafetensorError, ValueError: It is absent, or not what was written.
    """
    with safe_open(path, framework="np") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    written = metadata.pop(_CHECKSUM, None)
    if written is not None and written != _checksum(tensors, metadata):
        raise ValueError(f"{path}: not what was written")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    state = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        array = np.asarray(tensors[name], order="C")
        state.update(f"{name} {array.dtype.str} {array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def unpack(path: Path) -> Arrays:
    """Reads the arrays of a file that `seal` wrote.

    Raises:
        RecordError: It is absent or damaged.
    """
    try:
        return unseal(path)[0]
    except DAMAGE as error:
        raise RecordError(f"{path}: its arrays cannot be read: {error}") from error
