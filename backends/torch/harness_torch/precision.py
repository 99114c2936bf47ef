"""The precision a model really computes in, verified after its first solve."""

from __future__ import annotations

import torch
from torch import Tensor

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

    def of_state(self, z: Tensor) -> None:
        """Checks once, by an array that a solve returned.

        Raises:
            BackendError: It is not what the trial asks for.
        """
        if self._done:
            return
        self._done = True
        actual = str(z.dtype).removeprefix("torch.")
        if actual == "float32" and _rounds_products(z.device):
            actual = "tf32"
        if actual != self._expected:
            raise BackendError(
                f"the trial asks for {self._expected}, but this process computes in {actual}"
            )


def _rounds_products(device: torch.device) -> bool:
    """True if float32 matrix products round their factors to the 10 bits of TF32.

    1 + 2^-12 is a float32; as a TF32 number it is 1.
    """
    factor = torch.full((64, 64), 1 + 2.0**-12, device=device)
    return bool((factor @ torch.eye(64, device=device))[0, 0] == 1)
