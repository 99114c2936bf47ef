"""The optimiser, with its moments under portable names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from harness.interface import Arrays

__all__ = ["Adam"]


class Adam:
    """torch.optim.Adam: betas 0.9 and 0.999, eps 1e-8 added after bias correction.

    References:
        D. Kingma, J. Ba: Adam: a method for stochastic optimization, 2014,
        https://arxiv.org/abs/1412.6980, algorithm 1.

    Arguments:
        arrays: What is trained, by name.
    """

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        self._arrays = dict(arrays)
        self._adam = torch.optim.Adam(self._arrays.values(), eps=1e-8)
        zeros = {
            f"adam/{moment}/{name}": np.zeros(array.shape)
            for name, array in self._arrays.items()
            for moment in ("m", "v")
        }
        self.load_state({**zeros, "adam/count": np.zeros((), dtype=np.int64)})

    def step(self, lr: float) -> None:
        """Moves every array along its `.grad` and clears that."""
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> Arrays:
        """Returns `adam/m/<name>`, `adam/v/<name>` and `adam/count`."""
        state: Arrays = {}
        count = 0
        for name, array in self._arrays.items():
            entry = self._adam.state[array]
            state[f"adam/m/{name}"] = entry["exp_avg"].cpu().numpy().copy()
            state[f"adam/v/{name}"] = entry["exp_avg_sq"].cpu().numpy().copy()
            count = int(entry["step"])
        return {**state, "adam/count": np.array(count, dtype=np.int64)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        for name, array in self._arrays.items():
            self._adam.state[array] = {
                "step": torch.tensor(float(state["adam/count"])),
                "exp_avg": _like(array, state[f"adam/m/{name}"]),
                "exp_avg_sq": _like(array, state[f"adam/v/{name}"]),
            }


def _like(array: Tensor, value: np.ndarray) -> Tensor:
    return torch.tensor(value, dtype=array.dtype, device=array.device).reshape(array.shape)
