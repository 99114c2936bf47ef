"""Derivatives of a net at a point against autodiff."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import torch
from harness_torch.net import linearization
from harness_torch.net.net import Net
from harness_torch.net.taylor import Jet
from torch import Tensor

from harness.architecture.transforms import Block
from harness.streams.stream import Stream
from harness.trial import LayerName, ModelSpec, NonlinearityName

T = torch.tensor(0.3, dtype=torch.float64)
Event = int | tuple[int, ...]
MakeNet = Callable[[ModelSpec, Event], Net]
NETS: list[tuple[ModelSpec, Event]] = [
    *(
        (ModelSpec(layer, (6, 5), nonlinearity), 4)
        for layer in get_args(LayerName)
        for nonlinearity in get_args(NonlinearityName)
    ),
    (ModelSpec("concat", ()), 4),
    *(
        (ModelSpec(layer, (3, 2), "tanh", strides=(1, 2, -2)), (2, 4, 4))
        for layer in get_args(LayerName)
    ),
    (ModelSpec("concat", (3, 2, 3), "swish", strides=(2, 1, 1, -2)), (2, 4, 4)),
]
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def _normal(name: str, *shape: int) -> Tensor:
    return torch.tensor(Stream(1, name).normal(shape))


def _shape(event: Event) -> tuple[int, ...]:
    return (event,) if isinstance(event, int) else event


def _jacobians(net: Net, z: Tensor) -> Tensor:
    """Of each example by autodiff, [batch, D, D]."""
    one = torch.func.jacrev(lambda row: net.value(T, row[None])[0].flatten())
    return torch.stack([one(row).flatten(1) for row in z])


@pytest.mark.parametrize(("model", "event"), NETS, ids=str)
def test_all_passes_against_autodiff(model: ModelSpec, event: Event, make_net: MakeNet) -> None:
    net, shape = make_net(model, event), _shape(event)
    z, u, v = _normal("z", 3, *shape), _normal("u", 3, *shape), _normal("v", 2, 3, *shape)
    point, jacobian = net.at(T, z), _jacobians(net, z)
    close(point.f, net.value(T, z))
    close(point.jacobian(), jacobian)
    close(point.diagonal(), jacobian.diagonal(dim1=1, dim2=2))
    close(point.tangent(v).flatten(2), torch.einsum("bij,kbj->kbi", jacobian, v.flatten(2)))
    close(point.cotangent(u).flatten(1), torch.einsum("bi,bij->bj", u.flatten(1), jacobian))


@pytest.mark.parametrize("entries", [1, 200])
@pytest.mark.parametrize("conv", [False, True])
def test_a_basis_in_chunks_gives_the_same(
    *, entries: int, conv: bool, make_net: MakeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelSpec("concat", (3,), "tanh", strides=(2, -2) if conv else None)
    event: Event = (2, 4, 4) if conv else 7
    z = _normal("z", 3, *_shape(event))
    point = make_net(model, event).at(T, z)
    whole = point.diagonal(), point.jacobian()
    monkeypatch.setattr(linearization, "BASIS_ENTRIES", entries)
    close(point.diagonal(), whole[0])
    close(point.jacobian(), whole[1])


@pytest.mark.parametrize("conv", [False, True])
def test_the_bottleneck_trace(
    *, conv: bool, make_net: MakeNet, first_block: Callable[[ModelSpec, Event], Block]
) -> None:
    """By autodiff of the two halves; summed over a basis it is Tr J."""
    hidden, strides = ((4, 2, 5), (2, 1, -2, 1)) if conv else ((6, 3, 5), None)
    model = ModelSpec("concatsquash", hidden, "softplus", strides=strides)  # type: ignore[arg-type]
    event: Event = (2, 4, 4) if conv else 4
    net, block = make_net(model, event), first_block(model, event)
    assert block.bottleneck == 2
    z = _normal("z", 1, *_shape(event))
    point, layers = net.at(T, z), net.layers.at(T)

    def h(z: Tensor) -> Tensor:
        for layer in layers[:2]:
            z = net.act.value(layer.apply(z))
        return z

    def g(h: Tensor) -> Tensor:
        return layers[3].apply(net.act.value(layers[2].apply(h)))

    size = math.prod(block.bottleneck_shape)
    dh = torch.func.jacrev(h)(z).reshape(size, -1)
    dg = torch.func.jacrev(g)(h(z)).reshape(-1, size)
    eps = _normal("eps", 1, *block.bottleneck_shape)
    flat = eps.flatten()
    close(point.bottleneck(eps, 2), (flat @ dh @ dg @ flat)[None])
    basis = torch.eye(size).double().view(size, 1, *block.bottleneck_shape)
    whole = sum(point.bottleneck(e, 2) for e in basis)
    close(whole, point.diagonal().sum(dim=1))


@pytest.mark.parametrize("layer", get_args(LayerName))
@pytest.mark.parametrize("conv", [False, True])
def test_a_jet_is_the_taylor_series_along_a_path(
    *, layer: LayerName, conv: bool, make_net: MakeNet
) -> None:
    """Of net(T + d, z(d)) for a cubic z(d), against nested forward mode."""
    model = ModelSpec(layer, (3, 2), "swish", strides=(1, 2, -2) if conv else None)
    shape = (2, 4, 4) if conv else (4,)
    net = make_net(model, shape)
    zs = [_normal(f"z{k}", 3, *shape) for k in range(4)]
    function: Any = lambda d: net.value(  # noqa: E731
        T + d, zs[0] + d * zs[1] + d**2 * zs[2] + d**3 * zs[3]
    )
    jet = Jet(net.at(T, zs[0]), net.series(T, 3))
    zero = torch.zeros((), dtype=torch.float64)
    for k in range(1, 4):
        function = partial(_derivative, function)
        close(jet.push(zs[k]), function(zero) / math.factorial(k))


def _derivative(function: Callable[[Tensor], Tensor], d: Tensor) -> Tensor:
    derivative: Tensor = torch.func.jvp(function, (d,), (torch.ones_like(d),))[1]
    return derivative
