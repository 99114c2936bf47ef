"""Arrays by name as the bytes of a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from harness.errors import RecordError
from harness.interface import Array, Arrays

__all__ = ["pack", "unpack"]


def pack(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Encodes arrays as safetensors; views are copied into C order first."""
    ordered = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return save(ordered, dict(metadata))


def unpack(path: Path) -> Arrays:
    """Reads the arrays of a file.

    Raises:
        RecordError: It is absent or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path}: its arrays cannot be read: {error}") from error
