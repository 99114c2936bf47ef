"""The rows of the printed tables, from what was measured or stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from rounds import Measured

from harness.measuring.tally import quartiles

__all__ = ["LEGEND", "ROWS", "format_table", "quantities"]

Row = Mapping[str, Any] | str
"""Quantities of a contender, or why it has none."""

ROWS = pytest.StashKey[dict[str, list[tuple[str, Row]]]]()
"""Rows of this run by workload."""

LEGEND = """\
ms: median [quartiles] of a step. x yardstick: median [quartiles] of the ratio yardstick /
contender within a round, n rounds; the yardstick is the original approach where that is written,
for autoencoders, images and samples torch eager direct. NFE f/b: evaluations forward / of the
adjoint ODE, or with * those backpropagated through. x ref: step over NFE_f t(f) + NFE_b t(f+vjp)
of the better bare field of torch and jax, compiled. x floor: step over the same work without
evaluating again what a backward pass has kept. error: largest difference of log p from
float64 at tolerance 1e-10.
MB: peak above what the process held before the step. first step: with compilation, s, empty cache
/ filled. All own solvers under norm mixed; zuko scales the trace by 1e-2 and takes the largest
error of all elements, torchdyn one RMS over z and log p: equal tolerances, not equal work."""

_HEADER = (
    "contender",
    "NFE f/b",
    "ms",
    "x yardstick",
    "n",
    "x ref",
    "x floor",
    "error nats",
    "MB",
    "first step s",
)


def quantities(found: Measured) -> dict[str, Any]:
    """Everything a row shows, as stored with the benchmark."""
    nfe = found.ready["nfe"]
    forward, backward, vjp = nfe["forward"], nfe["backward"], nfe["vjp"]
    # A reference for every mode alike; the floor knows which evaluations a mode has to repeat.
    reference = [
        forward * f + (backward + vjp) * both
        for f, both in zip(found.field_s, found.vjp_s, strict=True)
    ]
    floor = [
        (forward + nfe["recompute"]) * f + backward * both + vjp * (both - f)
        for f, both in zip(found.field_s, found.vjp_s, strict=True)
    ]
    counted = backward + vjp > 0 and bool(
        found.field_s
    )  # of a backend that does not say, nothing is made up
    return {
        "step_s": quartiles(found.step_s),
        "x_yardstick": _ratio(found.yardstick_s, found.step_s),
        "x_reference": _ratio(found.step_s, reference) if counted else None,
        "x_floor": _ratio(found.step_s, floor) if counted else None,
        "reference_s": quartiles(reference)["median"] if counted else None,
        "field_s": _median(found.field_s),
        "field_vjp_s": _median(found.vjp_s),
        "cold_s": found.cold_s,
        **found.ready,
    }


def _median(seconds: Sequence[float]) -> float | None:
    return quartiles(seconds)["median"] if seconds else None


def _ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    return quartiles([a / b for a, b in zip(over, under, strict=True)])


def _cells(name: str, row: Row) -> tuple[str, ...]:
    if isinstance(row, str):
        return (name, row)
    nfe, step, ratio = row["nfe"], row["step_s"], row["x_yardstick"]
    backward = f"{nfe['vjp']}*" if nfe["vjp"] else str(nfe["backward"] or "?")
    cold = "" if row["cold_s"] is None else f"{row['cold_s']:.1f}"
    memory = row["memory_bytes"]
    low, high = 1e3 * step["q25"], 1e3 * step["q75"]
    return (
        name,
        f"{nfe['forward']} / {backward}",
        f"{1e3 * step['median']:.4g} [{low:.4g}, {high:.4g}]",
        f"{ratio['median']:.2f} [{ratio['q25']:.2f}, {ratio['q75']:.2f}]",
        str(ratio["n"]),
        *(f"{row[key]['median']:.2f}" if row[key] else "?" for key in ("x_reference", "x_floor")),
        f"{row['error_nats']:.1e}",
        "" if memory is None else f"{memory / 1e6:.0f}",
        f"{cold} / {row['first_step_s']:.1f}",
    )


def format_table(rows: Iterable[tuple[str, Row]]) -> str:
    """A table of contenders; a row that is a string says why there are no numbers."""
    lines = [_HEADER, *(_cells(name, row) for name, row in rows)]
    full = [line for line in lines if len(line) == len(_HEADER)]
    widths = [max(len(line[column]) for line in full) for column in range(len(_HEADER))]
    widths[0] = max(len(line[0]) for line in lines)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        for line in lines
    )
