"""Spectral norm: weights divided by their largest singular value (docs/numerics.md, section 4).

References:
    T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida: Spectral normalization for generative
    adversarial networks, 2018, https://arxiv.org/abs/1802.05957.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.architecture.arrays import SPECTRAL

__all__ = ["divided", "turned"]


@torch.no_grad()
def turned(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The buffers `<name>_u` and `<name>_v` after one turn of the power iteration."""
    buffers = {}
    for name, array in arrays.items():
        if f"{name}_u" in arrays:
            matrix = array.flatten(1)
            v = matrix.T @ arrays[f"{name}_u"]
            v = v / torch.linalg.vector_norm(v)
            u = matrix @ v
            buffers[f"{name}_u"] = u / torch.linalg.vector_norm(u)
            buffers[f"{name}_v"] = v
    return buffers


def divided(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arrays with each weight over sigma = u^T W v, a function of W; that of a vector is its
    norm.
    """
    weights = dict(arrays)
    for name, array in arrays.items():
        if not name.startswith("block") or name.rpartition("/")[2] not in SPECTRAL:
            continue
        if array.dim() == 1:
            sigma = torch.linalg.vector_norm(array)
        else:
            sigma = arrays[f"{name}_u"] @ array.flatten(1) @ arrays[f"{name}_v"]
        weights[name] = array / sigma
    return weights
