"""The field f(t, z) of one block: a net whose layers see the time.

All passes are plain differentiable operations, so one autodiff pass gives the gradient of anything
built from them. The released FFJORD code differentiates an autodiff pass instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from harness.architecture.transforms import Block
from harness.errors import BackendError
from harness.trial import ModelSpec
from harness_jax.net.affine import Affine, Map
from harness_jax.net.amortized import amortized
from harness_jax.net.layers import TIMED_WEIGHTS, Layers, layers_of
from harness_jax.net.linearization import Linearization
from harness_jax.net.nonlinearities import NONLINEARITIES
from harness_jax.net.taylor import nested_derivative, solution_derivative

__all__ = ["BETA", "CONDITION", "Net", "by_layer"]

BETA = "swish_beta"
CONDITION = "condition"


def by_layer(block: Block, arrays: Mapping[str, jax.Array]) -> list[dict[str, jax.Array]]:
    """The arrays of each layer of a block, by the last part of their names."""
    layer_arrays: list[dict[str, jax.Array]] = [{} for _ in block.layers]
    for name, array in arrays.items():
        place, _, kind = name.partition("/")
        if kind:
            layer_arrays[int(place.removeprefix("layer"))][kind] = array
    return layer_arrays


class Net:
    """The field f(t, z) = net(t, z), less z if the model is residual.

    Arguments:
        model: The architecture.
        block: Shapes of the state and of the layers.
        arrays: Arrays of the block by portable name without the block, e.g. `layer0/weight`, and
            `swish_beta` and `condition` [batch, numbers] where the model has them.
    """

    def __init__(self, model: ModelSpec, block: Block, arrays: Mapping[str, jax.Array]) -> None:
        self.act = NONLINEARITIES[model.nonlinearity]
        self._beta = arrays.get(BETA)
        self.block, self.residual = block, model.residual
        own = by_layer(block, arrays)
        self._constant_weights = model.layer not in TIMED_WEIGHTS
        # Layers whose every weight is an example's have no arrays.
        shared = layers_of(model.layer, own, block.layers) if own[0] else _no_layers
        self.layers: Callable[[jax.Array], Sequence[Map]] = shared
        self._shared: Layers | None = shared
        if model.posterior is not None and model.posterior.amortization != "plain":
            self.layers = amortized(model.posterior, block, shared, arrays.get(CONDITION))
            self._shared = None

    def value(self, t: jax.Array, z: jax.Array) -> jax.Array:
        """The field f at t, 0-dimensional, and z [batch, *shape]; [batch, *shape]."""
        return self.at(t, z).f

    def at(self, t: jax.Array, z: jax.Array) -> Linearization:
        """The field f and its Jacobian in z at t, 0-dimensional, and z [batch, *shape]."""
        layers = self.layers(t)
        h, slopes = z, []
        for layer in layers[:-1]:
            h, slope = self.act(layer.apply(h), self._beta)
            slopes.append(slope)
        f = layers[-1].apply(h)
        if self.residual:
            f = f - z
        return Linearization(f, layers, slopes, self.block, residual=self.residual)

    def time_derivative(self, t: jax.Array, z: jax.Array) -> jax.Array:
        """The derivative df/dt at the fixed state, [batch, *shape]."""
        rate: jax.Array = jax.jvp(lambda t: self.value(t, z), (t,), (jnp.ones_like(t),))[1]
        return rate

    def solution_derivative(self, t: jax.Array, z: jax.Array, order: int) -> jax.Array:
        """The derivative d^order z / dt^order along the solution of dz/dt = f, [batch, *shape];
        order from 1 to 4.
        """
        if self._shared is None:
            return nested_derivative(self.value, t, z, order)
        return solution_derivative(
            self._shared,
            lambda x: self.act(x, self._beta),
            t,
            z,
            order,
            residual=self.residual,
            constant_weights=self._constant_weights,
        )


def _no_layers(t: jax.Array) -> list[Affine]:
    raise BackendError("a net without arrays")
