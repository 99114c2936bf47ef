"""The optimisers of docs/numerics.md, section 7, with their moments under portable names."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from harness.interface import Arrays
from harness.trial import Optimizer

__all__ = ["Adam"]

BETAS = (0.9, 0.999)


class Adam:
    """Adam and its kin: `adam`, `adam_eps_hat`, `adamw`, `adamax`.

    References:
        D. Kingma, J. Ba: Adam: a method for stochastic optimization, 2014,
        https://arxiv.org/abs/1412.6980: algorithm 1, its efficient form with eps outside the
        correction (`adam_eps_hat`, the end of section 2), and algorithm 2 (`adamax`).
        I. Loshchilov, F. Hutter: Decoupled weight decay regularization, 2017,
        https://arxiv.org/abs/1711.05101 (`adamw`).

    Arguments:
        arrays: What is trained, by name.
        spec: The method; its learning rate is an argument of each step.
    """

    def __init__(self, arrays: Mapping[str, Tensor], spec: Optimizer) -> None:
        self._names, self._arrays, self._spec = list(arrays), list(arrays.values()), spec
        self._count = 0
        self._m = [torch.zeros_like(array) for array in self._arrays]
        self._v = [torch.zeros_like(array) for array in self._arrays]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Moves every array along its `.grad`, or none as if it were zero, and clears that."""
        if not self._arrays:
            return
        spec, arrays, m, v = self._spec, self._arrays, self._m, self._v
        gradients = [
            torch.zeros_like(array) if array.grad is None else array.grad for array in arrays
        ]
        for array in arrays:
            array.grad = None
        if spec.clip_norm is not None:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_mul_(gradients, (spec.clip_norm / norm).clamp(max=1))
        self._count += 1
        if spec.name in ("adam", "adamw"):
            # The same arithmetic in one pass over the arrays.
            fused = torch._fused_adam_ if spec.name == "adam" else torch._fused_adamw_
            steps = [torch.full((), float(self._count), device=arrays[0].device)] * len(arrays)
            fused(
                arrays,
                gradients,
                m,
                v,
                [],
                steps,
                lr=lr,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=spec.weight_decay,
                eps=spec.eps,
                amsgrad=False,
                maximize=False,
            )
            return
        if spec.weight_decay and spec.name == "adamax":
            torch._foreach_add_(gradients, arrays, alpha=spec.weight_decay)
        b1, b2 = BETAS
        c1, c2 = 1 - b1**self._count, 1 - b2**self._count
        torch._foreach_lerp_(m, gradients, 1 - b1)
        torch._foreach_mul_(v, b2)
        if spec.name == "adamax":
            torch._foreach_maximum_(v, torch._foreach_add(torch._foreach_abs(gradients), spec.eps))
            torch._foreach_addcdiv_(arrays, m, v, -lr / c1)
        else:
            torch._foreach_addcmul_(v, gradients, gradients, 1 - b2)
            sizes = torch._foreach_add(torch._foreach_sqrt(v), spec.eps)
            torch._foreach_addcdiv_(arrays, m, sizes, -lr * math.sqrt(c2) / c1)

    def state(self) -> Arrays:
        """Returns `adam/m/<name>`, `adam/v/<name>` and `adam/count`."""
        state: Arrays = {"adam/count": np.array(self._count, dtype=np.int64)}
        for name, m, v in zip(self._names, self._m, self._v, strict=True):
            state[f"adam/m/{name}"] = m.cpu().numpy().copy()
            state[f"adam/v/{name}"] = v.cpu().numpy().copy()
        return state

    @torch.no_grad()
    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        self._count = int(state["adam/count"])
        for name, m, v in zip(self._names, self._m, self._v, strict=True):
            m.copy_(torch.as_tensor(state[f"adam/m/{name}"]))
            v.copy_(torch.as_tensor(state[f"adam/v/{name}"]))
