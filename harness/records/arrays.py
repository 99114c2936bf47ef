"""Arrays by name as the bytes of a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors.numpy import save

from harness.interface import Array

__all__ = ["pack"]


def pack(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Encodes arrays as safetensors; views are copied into C order first."""
    ordered = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return save(ordered, dict(metadata))
