"""From tensors and counts to the plain numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from harness.interface import Array, EvaluationReport, Nfe, Pending, StepReport
from harness.trial import GradientName
from harness_torch.solve.blocks import BlockCounts, first_failure

__all__ = ["PendingStep", "evaluation_report", "to_numpy"]


def evaluation_report(
    values: Mapping[str, Tensor], counts: Sequence[BlockCounts]
) -> EvaluationReport:
    """Fetches the values; a solve that stopped early has none."""
    failure = first_failure(counts)
    if failure is None and not all(bool(x.isfinite().all()) for x in values.values()):
        failure = "non-finite"
    arrays = {} if failure else {name: to_numpy(value) for name, value in values.items()}
    return EvaluationReport(arrays, _nfe(counts, None), failure)


class PendingStep(Pending):
    """The parts of a loss on the device; the counts are known to the host already.

    Arguments:
        values: The loss, what the objective lowers, and the regularizers.
        names: Of the regularizers.
        counts: One entry a block.
        gradient: Gradient mode; `direct` where nothing was solved.
        likelihood: What the objective lowers is a negative log-likelihood.
    """

    def __init__(
        self,
        values: Tensor,
        names: Sequence[str],
        counts: Sequence[BlockCounts],
        gradient: GradientName,
        *,
        likelihood: bool = True,
    ) -> None:
        self._values, self._names, self._likelihood = values, names, likelihood
        self._counts, self._gradient = counts, gradient

    def fetch(self) -> StepReport:
        """A step whose solve stopped early has no loss: NaN."""
        failure = first_failure(self._counts)
        values = self._values.tolist()
        if failure is not None:
            values = [math.nan] * len(values)
        elif not math.isfinite(values[0]):
            failure = "non-finite"
        loss, lowered, *means = values
        nll = lowered if self._likelihood else None
        regularizers = dict(zip(self._names, means, strict=True))
        return StepReport(loss, nll, regularizers, _nfe(self._counts, self._gradient), failure)


def _nfe(counts: Sequence[BlockCounts], gradient: GradientName | None) -> Nfe:
    def by_block(name: str) -> tuple[int, ...]:
        return tuple(block.total(name) for block in counts)

    return Nfe(
        by_block("forward"),
        by_block("backward") if gradient == "adjoint" else (),
        by_block("accepted"),
        by_block("rejected"),
        by_block("vjp") if gradient not in (None, "adjoint") else (),
        by_block("recompute") if gradient not in (None, "adjoint") else (),
    )


def to_numpy(array: Tensor) -> Array:
    """A copy on the host."""
    return array.detach().cpu().numpy().copy()
