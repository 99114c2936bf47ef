"""`harness compare`: the records of two roots, set beside each other."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.comparison.equivalence import Effect
from harness.comparison.settings import Across, pair_settings
from harness.comparison.sides import Compared, Comparison, Margins, compare_settings
from harness.errors import InputError, Problem
from harness.records.folder import Record, read_records
from harness.suites.filters import fields_of, parse_filter
from harness.text import columns, counted
from harness.trial import AXES

__all__ = ["GATE_BROKEN", "across_of", "compare", "comparison_json", "comparison_text"]

GATE_BROKEN = 3
"""Exit code, as for a gate of a suite."""


def compare(
    first: Path,
    second: Path,
    margins: Margins,
    *,
    where: str | None = None,
    across: str | None = None,
) -> Comparison:
    """Compares the records of two run roots.

    Arguments:
        first: The root that is compared with.
        second: The root that is judged.
        margins: What counts as no difference.
        where: Only trials that match this filter.
        across: `AXIS=FIRST,SECOND` where the sides differ by intention.

    Raises:
        InputError: The filter or the axis is invalid, or the sides have no trial in common.
        RecordError: Records are damaged; it names all of one root.
    """
    axis = None if across is None else across_of(across)
    sides = (_records(first, where), _records(second, where))
    comparison = compare_settings(pair_settings(sides[0], sides[1], axis), margins)
    if not comparison.settings:
        message = (
            f"no setting with a common seed: {counted(len(sides[0]), 'record')} in {first}, "
            f"{len(sides[1]):,} in {second}"
        )
        fix = "sides that differ in an axis are paired by --across, as --across backend=torch,jax"
        raise InputError([Problem("compare", message, fix=fix)])
    return comparison


def across_of(text: str) -> Across:
    """Reads `AXIS=FIRST,SECOND`.

    Raises:
        InputError: It is not of that form, or there is no such axis.
    """
    axis, _, values = text.partition("=")
    first, _, second = values.partition(",")
    known = tuple(name for name in AXES if name != "seed")
    if axis not in known:
        message = f"'{axis}' is no axis"
        raise InputError([Problem("--across", message, known=known, found=axis)])
    if not (first and second) or first == second or "," in second:
        message = f"'{text}' does not name two values"
        raise InputError([Problem("--across", message, fix=f"write {axis}=FIRST,SECOND")])
    return Across(axis, first, second)


def _records(root: Path, where: str | None) -> list[Record]:
    if not (root / "trials").is_dir():
        fix = "name a folder that `harness run --root` has written"
        raise InputError([Problem(str(root), "is no run root: it has no folder trials", fix=fix)])
    records = list(read_records(root))
    if where is None:
        return records
    matches = parse_filter(where).matches
    return [
        each
        for each in records
        if matches({**fields_of(each.trial, "finished"), "id": (each.trial.id,)})
    ]


def comparison_text(comparison: Comparison) -> str:
    """A line for each setting, the sums, what is missing, and what got worse."""
    rows = [_row(each) for each in comparison.settings]
    header = ("setting", "seeds", "quality (nats)", "verdict", "step time", "verdict")
    lines = [columns(rows, header=header), *_sums(comparison)]
    for settings, side in ((comparison.only_first, "first"), (comparison.only_second, "second")):
        if settings:
            names = ", ".join(each.name for each in settings[:5])
            more = ", ..." if len(settings) > 5 else ""
            lines.append(f"only in the {side}: {counted(len(settings), 'setting')}: {names}{more}")
    lines += [f"regression: {sentence}" for sentence in comparison.regressions()]
    return "\n".join(lines)


def _row(each: Compared) -> tuple[object, ...]:
    quality, speed = each.quality, each.speed
    ratio = "" if each.ratio is None else f"x{each.ratio:.4f}"
    if speed is not None and speed.low is not None and speed.high is not None:
        ratio += f" [{math.exp(speed.low):.4f}, {math.exp(speed.high):.4f}]"
    return (
        each.setting.name,
        len(each.setting.seeds),
        "" if quality is None else f"{quality.estimate:+.3g}{_bounds(quality)}",
        _verdict(quality, "no result"),
        ratio,
        _verdict(speed, each.unfair or "no timing"),
    )


def _verdict(effect: Effect | None, otherwise: str) -> str:
    return otherwise if effect is None else effect.outcome


def _bounds(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return ""
    return f" [{effect.low:+.2g}, {effect.high:+.2g}] margin {effect.margin:.2g}"


def _sums(comparison: Comparison) -> list[str]:
    margins, lines = comparison.margins, []
    if (quality := comparison.quality) is not None:
        bounds = f"[{quality.low:+.2g}, {quality.high:+.2g}]"
        lines.append(
            f"quality in sum: {quality.outcome}, {quality.estimate:+.2g} {bounds} margins"
        )
    else:
        lines.append("quality in sum: no setting has two pairs")
    if (
        (speed := comparison.speed) is not None
        and speed.low is not None
        and speed.high is not None
    ):
        lines.append(
            f"speed in sum: {speed.outcome}, step time x{math.exp(speed.estimate):.4f} "
            f"[{math.exp(speed.low):.4f}, {math.exp(speed.high):.4f}]"
        )
    else:
        lines.append("speed in sum: not judged, no setting has two pairs of fair timings")
    lines.append(
        f"the second side against the first; a verdict is wrong with a chance of "
        f"{margins.alpha:g} over all settings and the sum, for quality and for speed each "
        f"(Bonferroni); step times within {100 * margins.speed:g} % are the same"
    )
    return lines


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values; the speed of a setting is a logarithm of a ratio."""
    return {
        "margins": asdict(comparison.margins),
        "settings": [
            {
                **each.setting.labels,
                "seeds": each.setting.seeds,
                "failed": each.setting.failed,
                "quality": each.quality and asdict(each.quality),
                "step_time_ratio": each.ratio,
                "log_step_time": each.speed and asdict(each.speed),
                "unfair": each.unfair,
            }
            for each in comparison.settings
        ],
        "quality_in_margins": comparison.quality and asdict(comparison.quality),
        "log_step_time": comparison.speed and asdict(comparison.speed),
        "only_first": [dict(each.labels) for each in comparison.only_first],
        "only_second": [dict(each.labels) for each in comparison.only_second],
        "regressions": comparison.regressions(),
    }
