"""The augmented right-hand side: traces, their gradients, pieces of a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from harness_torch.field import Augmented, Velocity
from harness_torch.net.net import Net
from harness_torch.solve.problem import Inputs
from torch import Tensor

from harness.architecture.transforms import Block, blocks_of
from harness.errors import BackendError
from harness.streams.stream import Stream
from harness.trial import ModelSpec

DIM = 4
T = torch.tensor(0.3, dtype=torch.float64)
LINEAR = ModelSpec("concatsquash", (6, 5), "softplus")
CONV = ModelSpec("concat", (3, 2), "tanh", strides=(2, 1, -2))
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)

MakeNet = Callable[[ModelSpec, Any], Net]
MakeArrays = Callable[[ModelSpec, Any], dict[str, Tensor]]
FirstBlock = Callable[[ModelSpec, Any], Block]


def _normal(name: str, *shape: int) -> Tensor:
    return torch.tensor(Stream(1, name).normal(shape))


def _inputs(
    arrays: dict[str, Tensor],
    T: float,
    probe: Tensor | None,
    start: float = 0.0,
    span: float = 1.0,
) -> Inputs:
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (T, start, span)]
    return Inputs(arrays, numbers[0], probe, *numbers[1:])


@pytest.mark.parametrize(
    ("trace", "names"),
    [
        ("exact", ()),
        ("exact", ("rnode.jacobian",)),
        ("hutchinson", ()),
        ("hutchinson", ("rnode.jacobian",)),
        ("bottleneck", ()),
    ],
)
@pytest.mark.parametrize("model", [LINEAR, CONV], ids=["linear", "conv"])
def test_one_backward_pass_differentiates_the_divergence(
    trace: Any,  # noqa: ANN401
    names: Any,  # noqa: ANN401
    model: ModelSpec,
    make_net: MakeNet,
    block_arrays: MakeArrays,
    first_block: FirstBlock,
) -> None:
    """Its gradient equals that of a divergence built by autodiff and differentiated twice."""
    event = (1, 4, 4) if model.strides else (DIM,)
    net, block = make_net(model, event), first_block(model, event)
    shape = block.bottleneck_shape if trace == "bottleneck" else event
    z, eps = _normal("z", 3, *event).requires_grad_(), _normal("eps", 3, *shape)
    augmented = Augmented(model, block, trace, names)
    _, rates = augmented(_inputs(block_arrays(model, event), 1.0, eps), T, z)
    found = torch.autograd.grad(-rates[0].sum(), z)[0]

    f = net.value(T, z)
    rows = [
        torch.autograd.grad(f.flatten(1)[:, d].sum(), z, create_graph=True)[0].flatten(1)
        for d in range(f[0].numel())
    ]
    jacobian = torch.stack(rows, dim=1)
    if trace == "exact":
        divergence = jacobian.diagonal(dim1=1, dim2=2).sum(dim=1)
    elif trace == "hutchinson":
        flat = eps.flatten(1)
        divergence = torch.einsum("bi,bij,bj->b", flat, jacobian, flat)
    else:
        divergence = net.at(T, z).bottleneck(eps, block.bottleneck)
    close(-rates[0], divergence)
    expected = torch.autograd.grad(divergence.sum(), z)[0]
    close(found, expected)


@pytest.mark.parametrize("trace", ["exact", "hutchinson", "bottleneck"])
def test_residual_takes_z_from_f_and_the_dimension_from_the_trace(
    trace: Any,  # noqa: ANN401
    block_arrays: MakeArrays,
    first_block: FirstBlock,
) -> None:
    """As released, D is taken from an estimate too, not |eps|^2."""
    with_z = replace(LINEAR, residual=True)
    block = first_block(LINEAR, DIM)
    shape = block.bottleneck_shape if trace == "bottleneck" else (DIM,)
    z, eps = _normal("z", 3, DIM), _normal("eps", 3, *shape)
    inputs = _inputs(block_arrays(LINEAR, DIM), 1.0, eps)
    plain, rates = Augmented(LINEAR, block, trace)(inputs, T, z)
    less, less_rates = Augmented(with_z, block, trace)(inputs, T, z)
    close(less, plain - z)
    close(less_rates[0], rates[0] + DIM)
    close(Velocity(with_z, block)(inputs, T, z)[0], less)


def test_a_piece_of_a_block_runs_over_its_own_time(
    block_arrays: MakeArrays, first_block: FirstBlock
) -> None:
    """The s of the piece [0.2, 0.7] is 0.2 + 0.5 s of the block, and the rates carry the span."""
    field = Augmented(LINEAR, first_block(LINEAR, DIM), "exact", ("rnode.kinetic",))
    arrays, z = block_arrays(LINEAR, DIM), _normal("z", 3, DIM)
    s = torch.tensor(0.6, dtype=torch.float64)
    whole = field(_inputs(arrays, 2.0, None), 0.2 + 0.5 * s, z)
    piece = field(_inputs(arrays, 2.0, None, 0.2, 0.5), s, z)
    for part, all_of_it in zip(piece, whole, strict=True):
        close(part, 0.5 * all_of_it)


def test_the_rates_carry_the_end_time(block_arrays: MakeArrays, first_block: FirstBlock) -> None:
    block, arrays, z = first_block(LINEAR, DIM), block_arrays(LINEAR, DIM), _normal("z", 3, DIM)
    field = Augmented(LINEAR, block, "exact", ("rnode.kinetic",))
    one = field(_inputs(arrays, 1.0, None), T, z)
    for rate, expected in zip(field(_inputs(arrays, 2.0, None), T / 2, z), one, strict=True):
        close(rate, 2 * expected)


def test_equal_blocks_have_equal_fields(first_block: FirstBlock) -> None:
    """So that what is compiled for one serves the other."""
    model = replace(LINEAR, blocks=2)
    blocks = [replace(block, index=0) for block in blocks_of(model, (DIM,))]
    assert len(blocks) == 2
    fields = {Augmented(model, block, "exact") for block in blocks}
    assert len(fields) == 1


@pytest.mark.parametrize("law", ["normal", "rademacher"])
@pytest.mark.parametrize("trace", ["hutchinson", "bottleneck"])
def test_the_estimators_are_unbiased(
    law: str,
    trace: Any,  # noqa: ANN401
    make_net: MakeNet,
    block_arrays: MakeArrays,
    first_block: FirstBlock,
) -> None:
    """z-test of the mean over 4000 probes at one point; |z| < 4 fails by chance once in 16 000,
    and the seed is fixed.
    """
    count, block = 4000, first_block(LINEAR, DIM)
    z = _normal("z", 1, DIM).expand(count, DIM)
    shape = block.bottleneck_shape if trace == "bottleneck" else (DIM,)
    eps = torch.tensor(getattr(Stream(2, "eps"), law)((count, *shape))).double()
    augmented = Augmented(LINEAR, block, trace)
    _, rates = augmented(_inputs(block_arrays(LINEAR, DIM), 0.3, eps), torch.ones_like(T), z)
    estimates = (-rates[0] / T).numpy()
    exact = float(make_net(LINEAR, DIM).at(T, z[:1]).diagonal().sum())
    error = np.std(estimates, ddof=1) / np.sqrt(count)
    assert error > 1e-4, "the estimate does not vary: the probe is not used"
    assert abs(estimates.mean() - exact) < 4 * error


def test_a_missing_probe_is_named(block_arrays: MakeArrays, first_block: FirstBlock) -> None:
    inputs = _inputs(block_arrays(LINEAR, DIM), 1.0, None)
    with pytest.raises(BackendError, match="no probe"):
        Augmented(LINEAR, first_block(LINEAR, DIM), "hutchinson")(inputs, T, _normal("z", 3, DIM))


def test_a_field_is_one_graph(block_arrays: MakeArrays, first_block: FirstBlock) -> None:
    """What torch.compile cannot trace, such as a value that must be known on the host, raises."""
    field = Augmented(LINEAR, first_block(LINEAR, DIM), "hutchinson", ("rnode.total", "taylor_3"))
    inputs = _inputs(block_arrays(LINEAR, DIM), 1.0, _normal("eps", 3, DIM))
    z = _normal("z", 3, DIM)
    traced: Any = torch.compile(field.__call__, fullgraph=True, backend="eager")
    for found, expected in zip(traced(inputs, T, z), field(inputs, T, z), strict=True):
        close(found, expected)
