"""The optimisers against their published formulas in numpy, and against torch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_torch.optimizers import Adam
from torch import Tensor

from harness.interface import Array
from harness.streams.stream import Stream
from harness.trial import Optimizer

SPECS = [
    Optimizer(name, eps=eps, weight_decay=decay, clip_norm=clip)
    for name in ("adam", "adam_eps_hat", "adamax", "adamw")
    for eps, decay, clip in ((1e-8, 0.0, None), (1e-3, 0.1, 0.5))
]
STEPS = 20


def _start() -> dict[str, Array]:
    return {name: Stream(1, name).normal(shape) for name, shape in (("x", (3,)), ("y", (2, 4)))}


def _gradients(step: int) -> dict[str, Array]:
    """Some entries tiny, so that the place of eps matters."""
    return {
        name: Stream(2, name, step).normal(x.shape) * np.where(x > 0, 1.0, 1e-7)
        for name, x in _start().items()
    }


def _take(adam: Adam, arrays: dict[str, Tensor], steps: range) -> None:
    for step in steps:
        for name, gradient in _gradients(step).items():
            arrays[name].grad = torch.tensor(gradient)
        adam.step(0.1 / (1 + step))


def _trained() -> dict[str, Tensor]:
    return {name: torch.tensor(x).requires_grad_() for name, x in _start().items()}


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_update_is_the_published_one(spec: Optimizer) -> None:
    """docs/numerics.md, section 7, written out."""
    expected = _start()
    m = {name: np.zeros_like(x) for name, x in expected.items()}
    v = {name: np.zeros_like(x) for name, x in expected.items()}
    for step in range(STEPS):
        lr, k, gradients = 0.1 / (1 + step), step + 1, _gradients(step)
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        for name, x in expected.items():
            g = gradients[name] * min(1.0, (spec.clip_norm or np.inf) / norm)
            if spec.name in ("adam", "adamax"):
                g = g + spec.weight_decay * x
            if spec.name == "adamw":
                x = x * (1 - lr * spec.weight_decay)
            m[name] = 0.9 * m[name] + 0.1 * g
            if spec.name == "adamax":
                v[name] = np.maximum(0.999 * v[name], np.abs(g) + spec.eps)
                move = lr / (1 - 0.9**k) * m[name] / v[name]
            else:
                v[name] = 0.999 * v[name] + 0.001 * g**2
                if spec.name == "adam_eps_hat":
                    rate = np.sqrt(1 - 0.999**k) / (1 - 0.9**k)
                    move = lr * rate * m[name] / (np.sqrt(v[name]) + spec.eps)
                else:
                    m_hat, v_hat = m[name] / (1 - 0.9**k), v[name] / (1 - 0.999**k)
                    move = lr * m_hat / (np.sqrt(v_hat) + spec.eps)
            expected[name] = x - move

    arrays = _trained()
    adam = Adam(arrays, spec)
    _take(adam, arrays, range(STEPS))
    state = adam.state()
    assert state["adam/count"] == STEPS
    for name, x in expected.items():
        np.testing.assert_allclose(arrays[name].detach().numpy(), x, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(state[f"adam/m/{name}"], m[name], rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(state[f"adam/v/{name}"], v[name], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize(
    ("spec", "torchs"),
    [
        (Optimizer("adam", eps=1e-4, weight_decay=0.1), torch.optim.Adam),
        (Optimizer("adamw", eps=1e-4, weight_decay=0.1), torch.optim.AdamW),
        (Optimizer("adamax", eps=1e-4, weight_decay=0.1), torch.optim.Adamax),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_the_update_is_torchs(spec: Optimizer, torchs: Any) -> None:  # noqa: ANN401
    arrays, reference = _trained(), _trained()
    adam = Adam(arrays, spec)
    theirs = torchs(reference.values(), eps=spec.eps, weight_decay=spec.weight_decay)
    _take(adam, arrays, range(STEPS))
    for step in range(STEPS):
        for name, gradient in _gradients(step).items():
            reference[name].grad = torch.tensor(gradient)
        theirs.param_groups[0]["lr"] = 0.1 / (1 + step)
        theirs.step()
    for name, x in reference.items():
        torch.testing.assert_close(arrays[name], x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_restored_optimizer_goes_on_bitwise(spec: Optimizer) -> None:
    straight = _trained()
    _take(Adam(straight, spec), straight, range(6))
    first = _trained()
    adam = Adam(first, spec)
    _take(adam, first, range(3))
    resumed = {name: x.detach().clone().requires_grad_() for name, x in first.items()}
    again = Adam(resumed, spec)
    again.load_state(adam.state())
    _take(again, resumed, range(3, 6))
    for name, x in straight.items():
        assert torch.equal(resumed[name], x)


def test_an_array_without_a_gradient_counts_as_zero() -> None:
    arrays = _trained()
    adam = Adam(arrays, Optimizer("adam", weight_decay=0.1))
    arrays["x"].grad = torch.zeros_like(arrays["x"])
    adam.step(0.1)
    assert all(not torch.equal(arrays[name], torch.tensor(x)) for name, x in _start().items())
    assert all(array.grad is None for array in arrays.values())
