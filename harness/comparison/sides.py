"""Two sides compared: quality and speed for each setting and in sum, and what got worse.

Of the chance `alpha` of a false alarm, which quality and speed have each, one half is for the sum
and one half is shared by the settings, so that many settings do not raise it (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.comparison.agreement import SEED_SHARE
from harness.comparison.equivalence import Effect, combined, effect
from harness.comparison.settings import Setting
from harness.records.verified import TOLERANCE
from harness.statistics import summarize

__all__ = ["Compared", "Comparison", "Margins", "compare_settings"]


@dataclass(frozen=True)
class Margins:
    """What counts as no difference, and how sure a verdict is.

    Arguments:
        speed: Share of the step time, as 0.01 for one per cent.
        quality: In nats; None means a quarter of the first side's standard deviation over seeds,
            at least the bar of parity.
        alpha: Chance of a false alarm, of quality and of speed each.
    """

    speed: float = 0.01
    quality: float | None = None
    alpha: float = 0.05


@dataclass(frozen=True)
class Compared:
    """One setting.

    Arguments:
        setting: Its records.
        quality: Difference in nats, second side minus first; None without a pair.
        speed: Logarithm of the ratio of step times; None without a pair of fair timings.
        unfair: Why there is no verdict on speed.
        ratio: Geometric mean of the ratios of step times, fair or not; None without a pair.
    """

    setting: Setting
    quality: Effect | None
    speed: Effect | None
    unfair: str | None
    ratio: float | None


@dataclass(frozen=True)
class Comparison:
    """All settings of two sides.

    Arguments:
        settings: Those with a common seed.
        quality: In sum: mean difference in units of each setting's margin.
        speed: In sum: mean logarithm of the ratio of step times.
        only_first: Settings without a record on the second side.
        only_second: Settings without a record on the first side.
        margins: What counts as no difference.
    """

    settings: tuple[Compared, ...]
    quality: Effect | None
    speed: Effect | None
    only_first: tuple[Setting, ...]
    only_second: tuple[Setting, ...]
    margins: Margins

    def regressions(self) -> list[str]:
        """A sentence for each thing that is worse beyond its margin on the second side."""
        sentences = []
        for each in self.settings:
            name, (before, now) = each.setting.name, each.setting.failed
            if now > before:
                sentences.append(
                    f"{name}: {now} of {len(each.setting.seeds)} failed, before {before}"
                )
            if each.quality is not None and each.quality.outcome == "worse":
                low, margin = each.quality.low or 0.0, each.quality.margin
                sentences.append(f"{name}: worse by at least {low:.3g} nats, margin {margin:.3g}")
            if each.speed is not None and each.speed.outcome == "worse":
                sentences.append(f"{name}: slower by at least {_percent(each.speed.low)}")
        if self.quality is not None and self.quality.outcome == "worse":
            sentences.append("in sum: worse beyond the margin")
        if self.speed is not None and self.speed.outcome == "worse":
            sentences.append(f"in sum: slower by at least {_percent(self.speed.low)}")
        return sentences


def compare_settings(settings: Sequence[Setting], margins: Margins) -> Comparison:
    """Compares two sides.

    Arguments:
        settings: Their records, paired.
        margins: What counts as no difference.
    """
    common = [each for each in settings if each.seeds]
    times = {id(each): _log_ratios(each) for each in common}
    unfair = {id(each): each.unfair() for each in common}
    fair = [each for each in common if times[id(each)] and unfair[id(each)] is None]
    share = margins.alpha / 2
    of_quality = share / max(1, sum(bool(each.quality()) for each in common))
    of_speed = share / max(1, len(fair))
    band = math.log1p(margins.speed)
    compared = []
    for each in common:
        logs = times[id(each)]
        reason = unfair[id(each)]
        compared.append(
            Compared(
                each,
                _quality(each, margins, of_quality),
                effect(logs, band, of_speed) if logs and reason is None else None,
                reason,
                math.exp(math.fsum(logs) / len(logs)) if logs else None,
            )
        )
    scaled = [
        [(b - a) / each.quality.margin for a, b in each.setting.quality()]
        for each in compared
        if each.quality is not None
    ]
    return Comparison(
        tuple(compared),
        combined(scaled, 1.0, share),
        combined([times[id(each)] for each in fair], band, share),
        tuple(each for each in settings if not each.seeds and each.first),
        tuple(each for each in settings if not each.seeds and not each.first),
        margins,
    )


def _log_ratios(setting: Setting) -> list[float]:
    return [math.log(b) - math.log(a) for a, b in setting.step_seconds()]


def _quality(setting: Setting, margins: Margins, alpha: float) -> Effect | None:
    pairs = setting.quality()
    if not pairs:
        return None
    dtype = setting.first[setting.seeds[0]].trial.dtype
    exact = TOLERANCE[dtype] * max(1.0, *(abs(a) for a, _ in pairs))
    margin = margins.quality
    if margin is None:
        spread = summarize([a for a, _ in pairs])
        margin = max(exact, SEED_SHARE * (spread.sd or 0.0) if spread else 0.0)
    return effect([b - a for a, b in pairs], margin, alpha, min(exact, margin))


def _percent(log_ratio: float | None) -> str:
    return f"{100 * math.expm1(log_ratio or 0.0):.2g} %"
