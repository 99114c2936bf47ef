"""First steps `warm`: each solve of a training step starts with the largest step that the same
solve accepted in the step before (docs/numerics.md, section 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from harness.errors import BackendError
from harness.interface import Array, Arrays
from harness.trial import AdaptiveSolver, Trial

__all__ = ["WarmSteps", "power_of_two"]

Steps = dict[str, jax.Array]
"""`forward` and, in mode `adjoint`, `backward`: [blocks], in units of each block's s; 0 before the
first step. Empty where first steps are not warm."""


@dataclass(frozen=True)
class WarmSteps:
    """Which warm steps a trial keeps, and their way to the host and back.

    Arguments:
        trial: The trial.
        blocks: How many blocks there are.
        device: Where they live.
    """

    trial: Trial
    blocks: int
    device: jax.Device

    def initial(self) -> Steps:
        """Zeros."""
        return self.load_state(dict.fromkeys(self._slots(), np.zeros(self.blocks)))

    def state(self, steps: Steps) -> Arrays:
        """Returns `warm/forward` and `warm/backward`, float64 [blocks], where there are any."""
        return {f"warm/{name}": np.asarray(h).astype(np.float64) for name, h in steps.items()}

    def load_state(self, state: Mapping[str, Array]) -> Steps:
        """Restores what `state` returned; powers of two lose nothing in float32.

        Raises:
            BackendError: They are missing.
        """
        if missing := [slot for slot in self._slots() if slot not in state]:
            raise BackendError(f"the state lacks {', '.join(missing)}")
        return {
            slot.removeprefix("warm/"): jax.device_put(
                state[slot].astype(self.trial.dtype), self.device
            )
            for slot in self._slots()
        }

    def _slots(self) -> list[str]:
        solver = self.trial.solver
        if not isinstance(solver, AdaptiveSolver) or solver.first_step != "warm":
            return []
        return ["warm/forward"] + ["warm/backward"] * (self.trial.gradient == "adjoint")


def power_of_two(steps: jax.Array) -> jax.Array:
    """The largest power of two that is at most each step; 0 for 0."""
    wide = steps.dtype == jnp.float64
    bits = lax.bitcast_convert_type(steps, jnp.uint64 if wide else jnp.uint32)
    mask = jnp.asarray(0x7FF0000000000000 if wide else 0x7F800000, bits.dtype)
    return lax.bitcast_convert_type(bits & mask, steps.dtype)
