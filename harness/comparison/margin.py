"""How far two results may lie apart and count as the same: written here once, used everywhere.

The margin is the larger of two: the bar that the backends' log p keep (docs/numerics.md, section
11), and a tenth of what another seed changes, so that a difference within it changes no ranking
that up to a hundred seeds support. The report, `harness compare` and `harness verify` share it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from harness.records.verified import PARITY_BAR

__all__ = ["SEED_SHARE", "margin_of"]

SEED_SHARE = 0.1
"""The share of the standard deviation over seeds."""


def margin_of(values: Iterable[float], spread: float | None, dtype: str = "float32") -> float:
    """The largest difference that counts as none, rounded down to one digit, so that it can be
    read; the smallest is the bar of parity, in full.

    Arguments:
        values: Results, for the scale of the bar of parity.
        spread: Standard deviation over seeds, in the unit of the results; None if it is not known.
        dtype: Type of the arrays, `float32` or `float64`.
    """
    # The median: one trial that went astray must not make everything equal.
    bar = PARITY_BAR[dtype] * max(1.0, statistics.median([*map(abs, values)] or [0.0]))
    share = SEED_SHARE * (spread or 0.0)
    if share <= bar:
        return bar
    unit = 10.0 ** math.floor(math.log10(share))
    return max(bar, float(f"{math.floor(share / unit) * unit:.0e}"))
