"""diffrax's diffeqsolve, with the trace by forward-mode products."""

from __future__ import annotations

from typing import Any

import diffrax
import jax
import jax.numpy as jnp

_KEYS = iter(jax.random.split(jax.random.key(0), 64))


def augmented(t: Any, state: Any, args: Any) -> Any:
    """The velocity, and products with the directions."""
    field, directions = args

    def products(e: Any) -> tuple[Any, Any]:
        dx, product = jax.jvp(lambda x: field(t, x), (state[0],), (e,))
        return dx, (product * e).reshape(len(e), -1).sum(1)

    dx, traces = jax.vmap(products)(directions)
    return dx[0], traces.sum(0)


@jax.jit
def solve(field: Any, x: Any, start: Any, end: Any, directions: Any) -> tuple[Any, Any]:
    """The end of the path, and the integral of the trace."""
    done = diffrax.diffeqsolve(
        diffrax.ODETerm(augmented),
        diffrax.Dopri5(),
        t0=start,
        t1=end,
        dt0=None,
        y0=(x, jnp.zeros_like(x, shape=(len(x),))),
        args=(field, directions),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-7),
    )
    return done.ys[0][0], done.ys[1][0]


def build(field: Any, dim: int, estimate: bool = False) -> Any:
    """An exact trace, or one Rademacher probe a row."""

    def directions_of(x: Any, probed: bool) -> Any:
        if probed:
            return jax.random.rademacher(next(_KEYS), (1, *x.shape), x.dtype)
        basis = jnp.eye(dim, dtype=x.dtype).reshape(dim, 1, *x.shape[1:])
        return jnp.broadcast_to(basis, (dim, *x.shape))

    def base(z: Any) -> Any:
        return jax.scipy.stats.norm.logpdf(z).reshape(len(z), -1).sum(1)

    def log_prob(x: Any) -> Any:
        ends = jnp.asarray([field.end_time, 0.0], x.dtype)
        z, change = solve(field, x, *ends, directions_of(x, estimate))
        return base(z) + change

    def sample(z: Any) -> Any:
        ends = jnp.asarray([0.0, field.end_time], z.dtype)
        x, change = solve(field, z, *ends, directions_of(z, False))
        return x, base(z) - change

    return log_prob, sample


def build_estimated(field: Any, dim: int) -> Any:
    """The same with one Rademacher probe a row."""
    return build(field, dim, estimate=True)
