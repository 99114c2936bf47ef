"""One block of a flow: a solve, or several that follow one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from harness.trial import GradientName, SolverSpec
from harness_jax.control import Field, Inputs, Stats
from harness_jax.gradients import Engine, solve_block
from harness_jax.trajectory import pieces

__all__ = ["LARGEST", "FirstSteps", "How", "solve_in_pieces", "solve_whole"]

LARGEST = 2
"""The entry of a row of `gradients.new_ledger` that is the largest accepted step."""


@dataclass(frozen=True)
class How:
    """How blocks are solved.

    Arguments:
        engine: Who takes the steps.
        solver: Method and tolerances.
        mode: Gradient mode; None if no gradient is wanted.
    """

    engine: Engine
    solver: SolverSpec
    mode: GradientName | None = None


class FirstSteps(NamedTuple):
    """What a block's solves start with, and where the adjoint solves report.

    Arguments:
        forward: First step in units of the block's s; 0 or None for the solver's rule.
        backward: That of the adjoint solve; 0 or None for that of the forward solve.
        ledger: Rows of `gradients.new_ledger`, one a solve, for mode `adjoint`.
    """

    forward: jax.Array | None = None
    backward: jax.Array | None = None
    ledger: jax.Array | None = None


def solve_whole(
    how: How,
    field: Field,
    inputs: Inputs,
    fixed: Inputs,
    z: jax.Array,
    q: jax.Array,
    first: FirstSteps,
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves a block at once: z and q at s = 1, and what the solve did."""
    zero = jnp.zeros((), z.dtype)
    return _solve_piece(how, field, inputs, fixed, z, q, zero, zero + 1, first)


def solve_in_pieces(
    how: How,
    field: Field,
    inputs: Inputs,
    fixed: Inputs,
    z: jax.Array,
    q: jax.Array,
    first: FirstSteps,
    times: jax.Array,
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves a block in pieces that end at `times` [k] within (0, 1), in any order, and 1.

    Each piece after the first starts with the last step size that the piece before proposed.

    Returns:
        The states at 0, the sorted times and 1, [k + 2, batch, ...]; q at 1; and what the solves
        did together, steps in units of the block's s.
    """
    starts, spans = pieces(times)
    head, tail = _rows(first.ledger, slice(0, 1)), _rows(first.ledger, slice(1, None))
    z1, q, stats = _solve_piece(
        how, field, inputs, fixed, z, q, starts[0], spans[0], first._replace(ledger=head)
    )

    def go_on(
        carry: tuple[jax.Array, jax.Array, jax.Array],
        piece: tuple[jax.Array, jax.Array, jax.Array | None],
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Stats]]:
        z, q, proposed = carry
        start, span, ledger = piece
        own = FirstSteps(proposed, first.backward, None if ledger is None else ledger[None])
        z, q, stats = _solve_piece(how, field, inputs, fixed, z, q, start, span, own)
        return (z, q, stats.proposed), (z, stats)

    (_, q, _), (later, rest) = lax.scan(
        go_on, (z1, q, stats.proposed), (starts[1:], spans[1:], tail)
    )
    together = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), stats, rest)
    return jnp.concatenate([z[None], z1[None], later]), q, _total(together)


def _solve_piece(
    how: How,
    field: Field,
    inputs: Inputs,
    fixed: Inputs,
    z: jax.Array,
    q: jax.Array,
    start: jax.Array,
    span: jax.Array,
    first: FirstSteps,
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves [start, start + span]; step sizes outside of it are in units of the block's s."""
    ledger = None
    if first.ledger is not None:
        # The ledger is read as a cotangent, so this scales what the adjoint solve reports.
        ledger = first.ledger[0].at[LARGEST].multiply(span)
    z, q, stats = solve_block(
        how.engine,
        how.mode,
        field,
        inputs,
        fixed._replace(start=start, span=span),
        z,
        q,
        how.solver,
        ledger=ledger,
        h0=None if first.forward is None else first.forward / span,
        backward_h0=None if first.backward is None else first.backward / span,
    )
    sizes = ("first_step", "proposed", "largest")
    return z, q, stats._replace(**{name: span * getattr(stats, name) for name in sizes})


def _total(stats: Stats) -> Stats:
    """What several solves did together, from entries [solves]."""
    failed = jnp.argmax(stats.failure != 0)
    sums: Stats = jax.tree.map(jnp.sum, stats)
    return sums._replace(
        first_step=stats.first_step[0],
        proposed=stats.proposed[-1],
        largest=jnp.max(stats.largest),
        failure=stats.failure[failed],
    )


def _rows(ledger: jax.Array | None, rows: slice) -> jax.Array | None:
    return None if ledger is None else ledger[rows]
