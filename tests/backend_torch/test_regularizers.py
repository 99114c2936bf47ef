"""Regularizers against autodiff at a point, and by hand along a linear flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from harness_torch.field import Augmented
from harness_torch.net.net import Net
from harness_torch.regularizers import INTEGRANDS
from harness_torch.solve.native_engine import Native
from harness_torch.solve.problem import BoundField, Field, InitialValue, Inputs, Rates
from torch import Tensor

from harness.architecture.transforms import Block
from harness.streams.stream import Stream
from harness.trial import AdaptiveSolver, ModelSpec, RegularizerName, TraceName

SOLVER = AdaptiveSolver("dopri5", rtol=1e-10, atol=1e-10)
T = torch.tensor(0.3, dtype=torch.float64)
ZERO, ONE = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
NAMES = tuple(INTEGRANDS)
MODELS: list[tuple[ModelSpec, tuple[int, ...]]] = [
    (ModelSpec("concatsquash", (6, 5), "tanh"), (4,)),
    (ModelSpec("blend", (6, 5), "softplus"), (1,)),
    (ModelSpec("concat_v2", (5,), "swish", residual=True), (3,)),
    (ModelSpec("squash", (3,), "tanh", strides=(2, -2), residual=True), (1, 4, 4)),
    (ModelSpec("concatcoord", (2, 2), "elu", strides=(1, 2, -2)), (1, 2, 4)),
]


def _normal(name: str, *shape: int) -> Tensor:
    return torch.tensor(Stream(1, name).normal(shape))


def _integrands(net: Net, z: Tensor, eps: Tensor) -> dict[str, float]:
    """All integrands of one example, from docs/numerics.md, section 5, with autodiff alone."""
    shape, size = z.shape, z.numel()

    def f(t: Tensor, z: Tensor) -> Tensor:
        return net.value(t, z.view(1, *shape)).flatten()

    z, eps = z.flatten(), eps.flatten()
    v, J = f(T, z), torch.func.jacrev(f, argnums=1)(T, z)
    by_t = torch.func.jacfwd(f, argnums=0)(T, z)
    off = J.square().sum() - J.diagonal().square().sum()
    # d^K z / dt^K: each total derivative along the path is a jvp in the direction (1, f).
    total: Callable[[Tensor, Tensor], Tensor] = f
    taylor = {}
    for order in (2, 3, 4):
        total = partial(_along, total, f)
        taylor[f"taylor_{order}"] = total(T, z).square().mean()
    found = {
        "rnode.kinetic": v.square().mean() / 2,
        "rnode.jacobian": (eps @ J).square().mean(),
        "rnode.directional": (J.T @ v).square().mean() / 2,
        "rnode.total": (J.T @ v + by_t).square().mean() / 2,
        "kinetic_sum": v.square().sum(),
        "jacobian_sum": (eps @ J).square().sum(),
        "directional_jvp": (J @ v).square().sum(),
        "ffjord.l1": v.abs().mean(),
        "ffjord.l2": v.square().mean().sqrt(),
        "ffjord.dl2": (J.T @ v).square().mean().sqrt(),
        "ffjord.jfrob": J.square().mean().sqrt(),
        "ffjord.jdiag": J.diagonal().square().mean().sqrt(),
        "ffjord.joffdiag": off / (size * (size - 1)) if size > 1 else ZERO,
        # Every D-th entry of the flat Jacobian, from the first.
        "released.jdiag": J.reshape(-1)[::size].square().mean().sqrt(),
        "released.joffdiag": (J.square().sum() - J.reshape(-1)[::size].square().sum())
        / max(1, size * (size - 1)),
        **taylor,
    }
    return {name: float(value) for name, value in found.items()}


def _along(
    function: Callable[[Tensor, Tensor], Tensor],
    f: Callable[[Tensor, Tensor], Tensor],
    t: Tensor,
    z: Tensor,
) -> Tensor:
    derivative: Tensor = torch.func.jvp(function, (t, z), (torch.ones_like(t), f(t, z)))[1]
    return derivative


@pytest.mark.parametrize(("model", "event"), MODELS, ids=lambda x: getattr(x, "layer", None))
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_every_integrand_against_autodiff(
    trace: TraceName,
    model: ModelSpec,
    event: tuple[int, ...],
    make_net: Callable[[ModelSpec, Any], Net],
    block_arrays: Callable[[ModelSpec, Any], dict[str, Tensor]],
    first_block: Callable[[ModelSpec, Any], Block],
) -> None:
    """All at once, which share derivatives, and one by one, which must not need the others."""
    net, block = make_net(model, event), first_block(model, event)
    z, eps = _normal("z", 3, *event), _normal("eps", 3, *event)
    inputs = Inputs(block_arrays(model, event), ONE, eps, ZERO, ONE)
    together = Augmented(model, block, trace, NAMES)(inputs, T, z)[1]
    expected = [_integrands(net, z[row], eps[row]) for row in range(3)]
    plain = Augmented(model, block, trace)(inputs, T, z)[1][0]
    assert together[0].tolist() == pytest.approx(plain.tolist(), rel=1e-10)
    for index, name in enumerate(NAMES, start=1):
        values = [found[name] for found in expected]
        assert together[index].tolist() == pytest.approx(values, rel=1e-9, abs=1e-14), name
        alone = Augmented(model, block, trace, (name,))(inputs, T, z)[1]
        assert alone[1].tolist() == pytest.approx(values, rel=1e-9, abs=1e-14), name


@pytest.mark.parametrize("name", NAMES)
def test_every_integrand_is_differentiable(
    name: RegularizerName,
    block_arrays: Callable[[ModelSpec, Any], dict[str, Tensor]],
    first_block: Callable[[ModelSpec, Any], Block],
) -> None:
    """In z and every array, against central differences along one direction."""
    model = ModelSpec("concatsquash", (5,), "tanh")
    field = Augmented(model, first_block(model, 3), "exact", (name,))
    eps = _normal("eps", 2, 3)
    start = {"z": _normal("z", 2, 3), **block_arrays(model, 3)}
    way = {key: _normal(f"way/{key}", *x.shape) for key, x in start.items()}

    def value(at: dict[str, Tensor]) -> Tensor:
        z, arrays = at["z"], {k: x for k, x in at.items() if k != "z"}
        return field(Inputs(arrays, ONE, eps, ZERO, ONE), T, z)[1][1].sum()

    leaves = {key: x.clone().requires_grad_() for key, x in start.items()}
    gradients = torch.autograd.grad(value(leaves), list(leaves.values()), materialize_grads=True)
    slope = sum(float((g * w).sum()) for g, w in zip(gradients, way.values(), strict=True))
    h = 1e-5
    ends = [value({key: x + sign * h * way[key] for key, x in start.items()}) for sign in (1, -1)]
    assert slope == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-6)
    assert abs(slope) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_net_at_rest_has_a_finite_gradient(
    name: RegularizerName,
    block_arrays: Callable[[ModelSpec, Any], dict[str, Tensor]],
    first_block: Callable[[ModelSpec, Any], Block],
) -> None:
    """The roots of the FFJORD penalties have the gradient 0 at f = 0, as with `zero_last`."""
    model = ModelSpec("concat", (5,), "tanh", zero_last=True)
    arrays = {k: v.requires_grad_() for k, v in block_arrays(model, 3).items()}
    field = Augmented(model, first_block(model, 3), "exact", (name,))
    inputs = Inputs(arrays, ONE, _normal("eps", 2, 3), ZERO, ONE)
    penalty = field(inputs, T, _normal("z", 2, 3))[1][1].sum()
    found = torch.autograd.grad(penalty, list(arrays.values()), materialize_grads=True)
    assert float(penalty.detach()) == 0
    assert all(bool(gradient.isfinite().all()) for gradient in found)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_integrals_along_a_linear_flow(
    trace: TraceName, first_block: Callable[[ModelSpec, Any], Block]
) -> None:
    """Z' = diag(a, b) z over [0, T]: z_d(t) = z_d e^{a_d t}, so the kinetic integral is
    1/4 sum_d a_d z_d^2 (e^{2 a_d T} - 1) / 2, that of taylor_2 is 1/2 sum_d a_d^3 z_d^2
    (e^{2 a_d T} - 1) / 2, and (eps^T A)_d = a_d eps_d and J are constant.
    """
    rates, end = (0.5, -1.5), 0.8
    z = torch.tensor([[1.0, 2.0], [-0.5, 0.3]], dtype=torch.float64)
    eps = torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
    names: tuple[RegularizerName, ...] = (
        "rnode.jacobian",
        "rnode.kinetic",
        "taylor_2",
        "ffjord.jfrob",
        "ffjord.joffdiag",
    )
    weight = torch.tensor([[0.0, rates[0], 0.0], [0.0, 0.0, rates[1]]], dtype=torch.float64)
    arrays = {"layer0/weight": weight, "layer0/bias": torch.zeros(2).double()}
    inputs = Inputs(arrays, end * ONE, eps, ZERO, ONE)
    model = ModelSpec("concat", (), "identity")
    field = Augmented(model, first_block(model, 2), trace, names)
    q = torch.zeros(1 + len(names), 2, dtype=torch.float64)
    found = Native().solve(InitialValue(field, inputs, z, q), SOLVER)

    for row in range(2):
        e, x = eps[row].tolist(), z[row].tolist()
        grown = [math.expm1(2 * a * end) / 2 for a in rates]
        expected = [
            -end * sum(rates[d] * (1 if trace == "exact" else e[d] ** 2) for d in range(2)),
            end * sum((rates[d] * e[d]) ** 2 for d in range(2)) / 2,
            sum(rates[d] * x[d] ** 2 * grown[d] for d in range(2)) / 4,
            sum(rates[d] ** 3 * x[d] ** 2 * grown[d] for d in range(2)) / 2,
            end * math.sqrt(sum(a**2 for a in rates) / 4),
            0,
        ]
        z1 = [x[d] * math.exp(rates[d] * end) for d in range(2)]
        assert found.u[row].tolist() == pytest.approx(z1, rel=1e-9)
        assert found.q[:, row].tolist() == pytest.approx(expected, rel=1e-8)


class _Wild(Field):
    """A field with a second integral that oscillates fast."""

    def __init__(self, size: float) -> None:
        self.size = size

    def bind(self, inputs: Any) -> BoundField:  # noqa: ANN401
        def field(s: Tensor, u: Tensor) -> Rates:
            wild = self.size * torch.sin(1e3 * s) * torch.ones(len(u), dtype=u.dtype)
            return -u, torch.stack([-u.sum(1), wild])

        return field


def test_regularizers_stay_out_of_the_step_size_control() -> None:
    """A second integral that oscillates fast changes no step."""
    u, q = torch.ones(3, 2, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    steps = []
    for size in (0.0, 1e3):
        end = Native().solve(InitialValue(_Wild(size), (), u, q), SOLVER)
        steps.append((end.accepted, end.rejected))
    assert steps[0] == steps[1]


def test_the_means_and_sums_differ_by_the_dimension(
    block_arrays: Callable[[ModelSpec, Any], dict[str, Tensor]],
    first_block: Callable[[ModelSpec, Any], Block],
) -> None:
    """As docs/numerics.md warns: weights differ from those of the papers by factors of D."""
    model = replace(MODELS[0][0])
    names: tuple[RegularizerName, ...] = ("rnode.kinetic", "kinetic_sum")
    field = Augmented(model, first_block(model, 4), "exact", names)
    inputs = Inputs(block_arrays(model, 4), ONE, None, ZERO, ONE)
    mean, total = field(inputs, T, _normal("z", 3, 4))[1][1:]
    torch.testing.assert_close(total, 8 * mean)
