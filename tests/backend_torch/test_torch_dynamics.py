"""Derivatives of the dynamics against autodiff; the trace estimator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from harness_torch.control import Inputs
from harness_torch.dynamics import Augmented, Dynamics
from torch import Tensor

from harness.errors import BackendError
from harness.streams import Stream
from harness.trial import LayerName, ModelSpec, NonlinearityName

DIM = 4
T = torch.tensor(0.3, dtype=torch.float64)
MakeArrays = Callable[[ModelSpec, int], dict[str, Tensor]]
MakeDynamics = Callable[[ModelSpec, int], Dynamics]
NETS = [
    (layer, nonlinearity)
    for layer in get_args(LayerName)
    for nonlinearity in get_args(NonlinearityName)
]


def _normal(name: str, *shape: int) -> Tensor:
    return torch.tensor(Stream(1, name).normal(shape))


def _inputs(arrays: dict[str, Tensor], T: float, eps: Tensor | None) -> Inputs:
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return Inputs(arrays, T * one, eps, zero, one)


def _jacobians(dynamics: Dynamics, z: Tensor) -> Tensor:
    """df/dz of each row by autodiff, [batch, D, D]."""
    one = torch.func.jacrev(lambda row: dynamics.value(T, row[None])[0])
    return torch.stack([one(row) for row in z])


@pytest.mark.parametrize(("layer", "nonlinearity"), NETS)
def test_all_passes_against_autodiff(
    layer: LayerName, nonlinearity: NonlinearityName, make_dynamics: MakeDynamics
) -> None:
    dynamics = make_dynamics(ModelSpec(layer, (6, 5), nonlinearity), DIM)
    z, u = _normal("z", 3, DIM), _normal("u", 3, DIM)
    v = _normal("v", 2, 3, DIM)
    f = dynamics.value(T, z)
    jacobian = _jacobians(dynamics, z)
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)

    value, trace = dynamics.value_and_trace(T, z)
    close(value, f)
    close(trace, jacobian.diagonal(dim1=1, dim2=2).sum(1))

    value, tangents = dynamics.value_and_tangents(T, z, v)
    close(value, f)
    close(tangents, torch.einsum("bij,kbj->kbi", jacobian, v))

    value, cotangent = dynamics.value_and_cotangent(T, z, u)
    close(value, f)
    close(cotangent, torch.einsum("bi,bij->bj", u, jacobian))


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize("names", [(), ("rnode.jacobian",)])
def test_one_backward_pass_differentiates_the_divergence(
    trace: str, names: tuple[str, ...], make_dynamics: MakeDynamics, block_arrays: MakeArrays
) -> None:
    """Its gradient equals that of a divergence built by autodiff and differentiated twice."""
    model = ModelSpec("concatsquash", (6, 5), "softplus")
    dynamics = make_dynamics(model, DIM)
    z, eps = _normal("z", 3, DIM).requires_grad_(), _normal("eps", 3, DIM)
    augmented = Augmented(model.layer, model.nonlinearity, trace, names)  # type: ignore[arg-type]
    _, rates = augmented(_inputs(block_arrays(model, DIM), 1.0, eps), T, z)
    found = torch.autograd.grad(-rates[0].sum(), z)[0]

    f = dynamics.value(T, z)
    if trace == "exact":
        rows = [torch.autograd.grad(f[:, d].sum(), z, create_graph=True)[0] for d in range(DIM)]
        divergence = torch.stack([row[:, d] for d, row in enumerate(rows)]).sum()
    else:
        divergence = (torch.autograd.grad(f, z, eps, create_graph=True)[0] * eps).sum()
    expected = torch.autograd.grad(divergence, z)[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("law", ["normal", "rademacher"])
def test_hutchinson_is_unbiased(
    law: str, make_dynamics: MakeDynamics, block_arrays: MakeArrays
) -> None:
    """z-test of the mean over 4000 probes at one point; |z| < 4 fails by chance once in 16 000,
    and the seed is fixed.
    """
    count = 4000
    model = ModelSpec("concatsquash", (6, 5), "tanh")
    dynamics = make_dynamics(model, DIM)
    z = _normal("z", 1, DIM).expand(count, DIM)
    eps = torch.tensor(getattr(Stream(2, "eps"), law)((count, DIM))).double()
    augmented = Augmented(model.layer, model.nonlinearity, "hutchinson")
    _, rates = augmented(_inputs(block_arrays(model, DIM), 0.3, eps), torch.ones_like(T), z)
    estimates = (-rates[0] / T).numpy()
    exact = float(dynamics.value_and_trace(T, z[:1])[1])
    error = np.std(estimates, ddof=1) / np.sqrt(count)
    assert error > 1e-4, "the estimate does not vary: the probe is not used"
    assert abs(estimates.mean() - exact) < 4 * error


def test_a_missing_probe_is_named(block_arrays: MakeArrays) -> None:
    inputs = _inputs(block_arrays(ModelSpec("concat", (6,)), DIM), 1.0, None)
    with pytest.raises(BackendError, match="no probe"):
        Augmented("concat", "tanh", "hutchinson")(inputs, T, _normal("z", 3, DIM))
