"""The precision a model really computes in, verified after its first solve."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from harness.errors import BackendError
from harness.trial import PrecisionName

__all__ = ["PrecisionCheck"]


class PrecisionCheck:
    """Compares the dtype of a state and the rounding of products with what a trial asks for.

    Arguments:
        expected: Precision of the trial.
    """

    def __init__(self, expected: PrecisionName) -> None:
        self._expected, self._done = expected, False

    def of_state(self, z: Any) -> None:  # noqa: ANN401
        """Checks once, by an array that a solve returned.

        Raises:
            BackendError: It is not what the trial asks for.
        """
        if self._done:
            return
        self._done = True
        actual = str(z.dtype)
        if actual == "float32" and _rounds_products():
            actual = "tf32"
        if actual != self._expected:
            raise BackendError(
                f"the trial asks for {self._expected}, but this process computes in {actual}"
            )


def _rounds_products() -> bool:
    """True if float32 matrix products round their factors to the 10 bits of TF32.

    1 + 2^-12 is a float32; as a TF32 number it is 1.
    """
    factor = jnp.full((64, 64), 1 + 2.0**-12, jnp.float32)
    product = jax.jit(jnp.matmul)(factor, jnp.eye(64, dtype=jnp.float32))
    return bool(product[0, 0] == 1)
