"""One block of a flow: a solve, or several that follow one another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from harness_jax.solve.adjoint import LARGEST
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import FirstSteps, How
from harness_jax.solve.gradients import solve_block
from harness_jax.solve.problem import InitialValue, length_of

__all__ = ["pieces", "solve_pieces", "solve_whole"]


def solve_whole(
    how: How, problem: InitialValue, first: FirstSteps
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves a block at once: z and q at s = 1, and what the solve did."""
    zero = jnp.zeros((), problem.y0[0].dtype)
    return _solve_piece(how, problem, first, zero, zero + 1)


def solve_pieces(
    how: How, problem: InitialValue, first: FirstSteps, times: jax.Array
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves a block in pieces that end at `times` [k] within (0, 1), in any order, and 1.

    Each piece after the first starts with the last step size that the piece before proposed.

    Returns:
        The states at 0, the sorted times and 1, [k + 2, batch, ...]; q at 1; and what the solves
        did together, steps in units of the block's s.
    """
    starts, spans = pieces(times)
    head, tail = _rows(first.ledger, slice(0, 1)), _rows(first.ledger, slice(1, None))
    z, q = problem.y0
    z1, q, stats = _solve_piece(how, problem, first._replace(ledger=head), starts[0], spans[0])

    def go_on(
        carry: tuple[jax.Array, jax.Array, jax.Array],
        piece: tuple[jax.Array, jax.Array, jax.Array | None],
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Stats]]:
        z, q, proposed = carry
        start, span, ledger = piece
        own = FirstSteps(proposed, first.backward, None if ledger is None else ledger[None])
        z, q, stats = _solve_piece(how, problem._replace(y0=(z, q)), own, start, span)
        return (z, q, stats.proposed), (z, stats)

    (_, q, _), (later, rest) = lax.scan(
        go_on, (z1, q, stats.proposed), (starts[1:], spans[1:], tail)
    )
    together = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), stats, rest)
    return jnp.concatenate([z[None], z1[None], later]), q, _total(together)


def _solve_piece(
    how: How, problem: InitialValue, first: FirstSteps, start: jax.Array, span: jax.Array
) -> tuple[jax.Array, jax.Array, Stats]:
    """Solves [start, start + span]; step sizes outside of it are in units of the block's s."""
    first = first.within(span)
    if first.ledger is not None:
        # The ledger is read as a cotangent, so this scales what the adjoint solve reports.
        first = first._replace(ledger=first.ledger[0].at[LARGEST].multiply(span))
    fixed = problem.fixed._replace(start=start, span=span)
    z, q, stats = solve_block(how, problem._replace(fixed=fixed, length=length_of), first)
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


def pieces(times: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Starts and spans, [k + 1] each, of the pieces into which `times` [k] cut [0, 1]."""
    ends = jnp.concatenate([jnp.sort(times), jnp.ones_like(times[:1])])
    starts = jnp.concatenate([jnp.zeros_like(times[:1]), ends[:-1]])
    return starts, ends - starts
