"""What the vector-Jacobian product of an evaluation needs, as plain arrays that can be kept.

Most of it changes with every evaluation; what is a function of the inputs alone (weights) does not
and is not kept with each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from harness_jax.solve.problem import Rates, Tree

__all__ = ["Room", "TapedField", "empty_room"]

BYTES = {"cpu": 2**24, "gpu": 2**31}
"""Room for the evaluations of a solve, by platform; but one step always fits. XLA fills it with
zeros in every training step and copies it on the way, which takes a processor longer than to
evaluate again; so there it is small.
"""

PullBack = Callable[[tuple[Tree, Tree]], tuple[Tree, Tree]]

Room = list[jax.Array]
"""Kept arrays of evaluations, [slots + 1, ...] each; the last slot takes what is not kept."""


class TapedField(NamedTuple):
    """A field with its inputs, whose evaluations can be kept on a tape and differentiated.

    Arguments:
        rates: The right-hand side.
        inputs: Its differentiable inputs.
        fixed: Its other inputs.
    """

    rates: Rates
    inputs: Tree
    fixed: Tree

    def taped(self, s: jax.Array, z: Tree) -> tuple[tuple[Tree, Tree], list[jax.Array]]:
        """The rates, and what is to be kept of this evaluation."""
        value, vjp = self._vjp(s, z, self.inputs, self.fixed)
        leaves = jax.tree.leaves(vjp)
        varies = self._varies(s, z)
        return value, [leaf for leaf, v in zip(leaves, varies, strict=True) if v]

    def pull_back(self, s: jax.Array, z: Tree) -> Callable[[list[jax.Array]], PullBack]:
        """Makes the pull-back of an evaluation from what was kept of it. Any s and z will do: what
        is taken from here does not depend on them.
        """
        _, vjp = self._vjp(s, z, self.inputs, self.fixed)
        leaves, tree = jax.tree.flatten(vjp)
        varies = self._varies(s, z)

        def from_kept(kept: list[jax.Array]) -> PullBack:
            rest = iter(kept)
            all_leaves = [
                next(rest) if v else leaf for leaf, v in zip(leaves, varies, strict=True)
            ]
            pull_back: PullBack = jax.tree.unflatten(tree, all_leaves)
            return pull_back

        return from_kept

    def _vjp(self, s: jax.Array, z: Tree, inputs: Tree, fixed: Tree) -> Any:  # noqa: ANN401
        return jax.vjp(lambda z, inputs: self.rates(s, z, inputs, fixed), z, inputs)

    def _varies(self, s: jax.Array, z: Tree) -> list[bool]:
        """Of each array that the product needs, whether it depends on s or z."""

        def leaves(s: jax.Array, z: Tree, inputs: Tree, fixed: Tree) -> list[jax.Array]:
            return jax.tree.leaves(self._vjp(s, z, inputs, fixed)[1])

        jaxpr = jax.make_jaxpr(leaves)(s, z, self.inputs, self.fixed).jaxpr
        varying = set(jaxpr.invars[: 1 + len(jax.tree.leaves(z))])
        for equation in jaxpr.eqns:
            if not varying.isdisjoint(v for v in equation.invars if not isinstance(v, Literal)):
                varying.update(equation.outvars)
        return [not isinstance(v, Literal) and v in varying for v in jaxpr.outvars]


def empty_room(
    field: TapedField, s: jax.Array, z: Tree, needed: int, max_steps: int, *, last: int = 0
) -> Room:
    """Room for evaluations of steps with so many needed stages, and for those that the last step
    needs besides.
    """
    kept = jax.eval_shape(lambda: field.taped(s, z)[1])
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in kept)
    steps = min(BYTES.get(jax.default_backend(), BYTES["cpu"]) // (needed * size), max_steps)
    slots = max(steps, 1) * needed + last
    return [jnp.zeros((slots + 1, *leaf.shape), leaf.dtype) for leaf in kept]
