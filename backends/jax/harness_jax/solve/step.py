"""One step of an explicit Runge-Kutta method, and the pull-back of cotangents through it.

The state is (z, q) with rates (dz/ds, dq/ds) that depend on z alone, so stages are kept of z and
sums of q. Stages run in a loop over the padded tableau: the field is compiled once, not once a
stage.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from harness.solvers import Tableau
from harness_jax.solve.control import end_weights
from harness_jax.solve.problem import Rates, Tree, time_dtype

__all__ = [
    "Evaluate",
    "Start",
    "Step",
    "Taken",
    "either",
    "part_within",
    "pull_back",
    "pull_back_increment",
    "put",
    "rates_where",
    "stage_slopes",
    "take_step",
]

Weights = tuple[float, ...] | jax.Array

Tape = Any
"""What an evaluation leaves for the backward pass, a tree of arrays; None for nothing."""

Integrated = jax.Array | bool
"""`harness.solvers.Tableau.integrated` of a stage; if it is not, its dq/ds may be zeros."""

Evaluate = Callable[[Tape, jax.Array, Integrated, jax.Array, Tree], tuple[Tree, Tree, Tape]]
"""(tape, index of the stage in the step, integrated, s, z) -> (dz/ds, dq/ds, tape)."""

PullBack = Callable[[jax.Array, Integrated, jax.Array, Tree, tuple[Tree, Tree]], tuple[Tree, Tree]]
"""(index of the stage, integrated, s, z, cotangents of (dz/ds, dq/ds)) -> those of z and of the
inputs."""


class Start(NamedTuple):
    """Where a step starts, and how far it goes.

    Arguments:
        s: Start.
        h: Size.
        end: s + h, or exactly 1.
        z: State.
        q: Integrals.
        k: dz/ds of all stages, [stages, ...]; the first is read if it is known.
        ends: dq/ds of the first and the last stage, [2, ...]; the first is read if it is known.
        known: Number of known stages, 0 or 1.
        part: What of it is within the solve (`part_within`); None if it surely is.
    """

    s: jax.Array
    h: jax.Array
    end: jax.Array
    z: Tree
    q: Tree
    k: Tree
    ends: Tree
    known: jax.Array | int
    part: jax.Array | None = None


class Taken(NamedTuple):
    """A step that a solve has taken.

    Arguments:
        s: Its start.
        h: Its size.
        z: State at `s`.
        k: dz/ds of the stages that the end depends on, [needed, ...].
        part: As in `Start`.
    """

    s: jax.Array
    h: jax.Array
    z: Tree
    k: Tree
    part: jax.Array | None = None


class Step(NamedTuple):
    """An attempted step.

    Arguments:
        z: State at its end.
        q: Integrals at its end.
        k: dz/ds of all stages, [stages, ...].
        ends: dq/ds of the first and the last stage, [2, ...].
        error: Error estimate of (z, q); zeros if the method has none.
        reached: (z, q) at its end, or at that of the solve if it is within the step.
        tape: What its evaluations left.
    """

    z: Tree
    q: Tree
    k: Tree
    ends: Tree
    error: Tree
    reached: tuple[Tree, Tree]
    tape: Tape


def take_step(evaluate: Evaluate, tableau: Tableau, start: Start, tape: Tape) -> Step:
    """Takes one step.

    Arguments:
        evaluate: The right-hand side.
        tableau: The method.
        start: Where from, and how far.
        tape: What earlier evaluations left.
    """
    s, h, end, z, q, k, ends, known, part = start
    error = tableau.error or tableau.b
    a, b, c = (_constant(x, z) for x in (_padded(tableau), (tableau.b, error), tableau.c))
    if part is not None:
        b = jnp.concatenate([b, end_weights(tableau, part)[None]])

    def stage(i: jax.Array, carry: tuple[Tree, Tree, Tree, Tape]) -> tuple[Tree, ...]:
        k, ends, sums, tape = carry
        time = s + c[i] * h
        if tableau.fsal:
            time = jnp.where(i == tableau.stages - 1, end, time)
        dz, dq, tape = evaluate(tape, i, _integrated(tableau, i), time, add(z, h, a[i], k))
        sums = jax.tree.map(lambda total, rate: total + _times(b[:, i], rate), sums, dq)
        return put(k, i, dz), put(ends, jnp.minimum(i, 1), dq), sums, tape

    # Sums of each rate, for the solution, the error and the interpolated end.
    sums = jax.tree.map(lambda rates: _times(jnp.where(known > 0, b[:, 0], 0), rates[0]), ends)
    k, ends, sums, tape = lax.fori_loop(known, tableau.stages, stage, (k, ends, sums, tape))
    q_error = jax.tree.map(lambda leaf: h * leaf[1], sums)
    z_error = jax.tree.map(lambda leaf: h * leaf, weighted(error, k))
    z1, q1 = add(z, h, tableau.b, k), jax.tree.map(lambda leaf, rate: leaf + h * rate[0], q, sums)
    reached = z1, q1
    if part is not None:
        reached = add(z, h, b[2], k), jax.tree.map(lambda leaf, rate: leaf + h * rate[2], q, sums)
    return Step(z1, q1, k, ends, (z_error, q_error), reached, tape)


def part_within(s: jax.Array, h: jax.Array) -> jax.Array:
    """The part of a step that is within the solve: less than 1 if it passes s = 1."""
    return jnp.where(s + h > 1, (1 - s) / h, 1)


def pull_back(
    through: PullBack, tableau: Tableau, step: Taken, bars: tuple[Tree, Tree], q_bar: Tree
) -> tuple[Tree, Tree]:
    """Cotangents of z at the start of a step, and those of the inputs with its share added."""
    z_bar, _ = bars
    share, inputs_bar = pull_back_increment(through, tableau, step, bars, q_bar)
    return jax.tree.map(jnp.add, z_bar, share), inputs_bar


def pull_back_increment(
    through: PullBack, tableau: Tableau, step: Taken, bars: tuple[Tree, Tree], q_bar: Tree
) -> tuple[Tree, Tree]:
    """As `pull_back`, without the part that comes by z + increment from z itself.

    Arguments:
        through: Pull-back of one evaluation.
        tableau: The method.
        step: The step.
        bars: Cotangents of z at the end, and those of the inputs so far.
        q_bar: Cotangents of q, the same at both ends.
    """
    (s, h, z, k, part), (z_bar, inputs_bar) = step, bars
    b, stages = _constant(tableau.b, z), tableau.evaluations_per_step
    count: jax.Array | int = stages
    if part is not None:
        # The last stage of an FSAL pair has a weight where the end is within the step.
        b, count, stages = end_weights(tableau, part), stages + (part < 1), tableau.stages
    padded = _padded(tableau)[:stages, :stages]
    a, columns, c = (_constant(x, z) for x in (padded, padded.T, tableau.c))

    def stage(r: jax.Array, carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        bars, inputs_bar = carry
        i = count - 1 - r
        k_bar = jax.tree.map(
            lambda bar, later: h * (b[i] * bar + later), z_bar, weighted(columns[i], bars)
        )
        rate_bar = jax.tree.map(lambda bar: h * b[i] * bar, q_bar)
        at = s + c[i] * h, add(z, h, a[i], k)
        bar, more = through(i, _integrated(tableau, i), *at, (k_bar, rate_bar))
        return put(bars, i, bar), jax.tree.map(jnp.add, inputs_bar, more)

    room = jax.tree.map(lambda rates: jnp.zeros((stages, *rates.shape[1:]), rates.dtype), k)
    bars, inputs_bar = lax.fori_loop(0, count, stage, (room, inputs_bar))
    return jax.tree.map(lambda room: room.sum(axis=0), bars), inputs_bar


def add(z: Tree, h: jax.Array, weights: Weights, k: Tree) -> Tree:
    """Returns z + h sum_j w_j k_j."""
    return jax.tree.map(lambda leaf, rate: leaf + h * rate, z, weighted(weights, k))


def weighted(weights: Weights, k: Tree) -> Tree:
    """Returns sum_j w_j k_j over the first axis of k; weight 0 leaves out whatever k_j holds."""

    def leaf(k: jax.Array) -> jax.Array:
        if isinstance(weights, tuple):
            terms = [weight * k[j] for j, weight in enumerate(weights) if weight]
        else:
            terms = [_times(weights[j], k[j]) for j in range(len(k))]
        return functools.reduce(jnp.add, terms)

    return jax.tree.map(leaf, k)


def put(rows: Tree, i: jax.Array | int, leaves: Tree) -> Tree:
    """Rows with row i replaced."""
    return jax.tree.map(
        lambda room, leaf: lax.dynamic_update_index_in_dim(room, leaf, i, axis=0), rows, leaves
    )


def _times(weights: jax.Array, leaf: jax.Array) -> jax.Array:
    """Products of a leaf with one weight or, along a new first axis, with each of several."""
    weights = weights.reshape(*weights.shape, *(1,) * leaf.ndim)
    return jnp.where(weights == 0, 0, weights * leaf)


def rates_where(
    integrated: Integrated, rates: Rates, s: jax.Array, z: Tree, inputs: Tree, fixed: Tree
) -> tuple[Tree, Tree]:
    """The rates, without the work that dq/ds takes where nothing depends on it."""

    def both() -> tuple[Tree, Tree]:
        return rates(s, z, inputs, fixed)

    def slope() -> tuple[Tree, Tree]:
        shapes = jax.eval_shape(both)[1]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return both()[0], zeros

    return either(integrated, both, slope)


def either(
    integrated: Integrated,
    both: Callable[[], tuple[Tree, Tree]],
    slope: Callable[[], tuple[Tree, Tree]],
) -> tuple[Tree, Tree]:
    """What is computed for both rates, or for the slope alone."""
    if integrated is True:
        return both()
    rates: tuple[Tree, Tree] = lax.cond(integrated, both, slope)
    return rates


def _integrated(tableau: Tableau, i: jax.Array) -> Integrated:
    """True where all stages are, and on a GPU: a condition would wait for it."""
    if all(tableau.integrated) or jax.default_backend() != "cpu":
        return True
    return jnp.asarray(tableau.integrated)[i]


def _padded(tableau: Tableau) -> np.ndarray:
    """The coefficients a as a square array."""
    rows = [[*row, *[0.0] * (tableau.stages - len(row))] for row in tableau.a]
    return np.array(rows)


def _constant(x: npt.ArrayLike, z: Tree) -> jax.Array:
    return jnp.asarray(x, time_dtype(z))


def stage_slopes(
    slope: Callable[[jax.Array, Tree], Tree],
    tableau: Tableau,
    s: jax.Array,
    h: jax.Array,
    z: Tree,
    k: Tree,
) -> Tree:
    """dz/ds of the stages that the end of a step depends on, [needed, ...]; k gives the shape."""
    needed = tableau.evaluations_per_step
    a, c = _constant(_padded(tableau)[:needed, :needed], z), _constant(tableau.c, z)
    return lax.fori_loop(
        0, needed, lambda i, k: put(k, i, slope(s + c[i] * h, add(z, h, a[i], k))), k
    )
