"""diffrax: `dt0=None` starts every adaptive solve with a step of 0.01."""

import sys
from importlib.metadata import version

import diffrax
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)
first = []
for rate in (1e-4, 1.0):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, rate: -rate * y),
        diffrax.Dopri5(),
        t0=0.0,
        t1=1.0,
        dt0=None,
        y0=jnp.ones(1),
        args=rate,
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
        saveat=diffrax.SaveAt(steps=True),
    )
    first.append(float(solution.ts[0]))
print(f"diffrax {version('diffrax')}, y' = -rate y, dt0=None")
print("expected: a first step chosen from the field, so longer for the slow one")
print(f"got {first[0]:.4f} at rate 1e-4, {first[1]:.4f} at rate 1")
sys.exit(int(first[0] == first[1] == 0.01))
