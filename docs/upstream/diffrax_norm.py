"""diffrax: beside many coordinates the default error norm does not see one that matters: log p."""

import sys
from importlib.metadata import version

import diffrax
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)


def error(dim: int) -> float:
    """The error of a log p that oscillates, beside `dim` coordinates that rest."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: (jnp.zeros(dim), 10 * jnp.cos(10 * t))),
        diffrax.Dopri5(),
        t0=0.0,
        t1=1.0,
        dt0=0.01,
        y0=(jnp.zeros(dim), jnp.zeros(())),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
    )
    return abs(float(solution.ys[1][0]) - float(jnp.sin(10.0)))


alone, beside = error(1), error(3072)
print(f"diffrax {version('diffrax')}, rtol = atol = 1e-6, error of log p")
print(f"expected about {alone:.1e}, as beside 1 coordinate\ngot {beside:.1e} beside 3072")
sys.exit(int(beside > 5 * alone))
