"""Parts of a plan for jobs that know nothing of each other: disjoint, together the whole.

What a part holds depends on the suite and the filter alone, never on what has been finished: all
jobs of an array agree, whenever they start. Trials that share a trained model are in one part, so
that nothing is trained twice.
"""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, replace

from harness.errors import InputError, Problem
from harness.planning.plan import Plan, PlannedTrial
from harness.suites.filters import FIELDS, parse_filter

__all__ = ["Shard", "parse_shard", "part_of", "shard_of"]

_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One part of so many.

    Arguments:
        number: Which one, from 1.
        count: How many there are.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Reads `2/8`, the second of eight parts.

    Raises:
        InputError: It is not of that form, or there is no such part.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        fix = "write i/n: 2/8 is the second of eight parts"
        raise InputError(
            [Problem("--shard", f"found {text!r}, expected two numbers i/n", fix=fix)]
        )
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        accepted = f"1/{count} to {count}/{count}" if count > 1 else "1/1, 1/2, 2/2 and so on"
        message = f"found {text!r}, expected i/n with 1 <= i <= n"
        raise InputError(
            [Problem("--shard", message, fix=f"parts are numbered from 1: {accepted}")]
        )
    return Shard(number, count)


def shard_of(text: str | None, where: str | None) -> Shard | None:
    """Reads the options `--shard` and `-k` of a command; None if it is not to be divided.

    Raises:
        InputError: The shard is malformed, or the filter asks for the state of trials, which
            changes while jobs run.
    """
    if text is None:
        return None
    shard = parse_shard(text)
    if where is not None:
        _require_stable(where)
    return shard


def _require_stable(where: str) -> None:
    parse_filter(where)
    try:
        parse_filter(where, known=tuple(name for name in FIELDS if name != "state"))
    except InputError as error:
        (problem,) = error.problems
        message = "the state of trials cannot choose what is divided by --shard"
        fix = "leave it out; what is finished is not run again without --rerun"
        raise InputError([replace(problem, message=message, known=(), fix=fix)]) from None


def part_of(plan: Plan, shard: Shard) -> Plan:
    """Returns one part of a plan; it may be empty where there are more parts than models.

    A part has no timings and no budget: both are of the whole.

    The groups that share a model go, larger ones first, to the part with the fewest trials: the
    sizes of any two parts differ by at most the largest group. Equals go by their training id,
    which mixes the axes: in the order of the suite, two parts would be its two backends.

    Arguments:
        plan: The trials; those that it skips are in no part.
        shard: Which part.
    """
    groups: dict[str, list[PlannedTrial]] = {}
    for planned in plan.wanted:
        groups.setdefault(planned.trial.training_id, []).append(planned)
    # (number of trials, number of the part); there are never more parts in use than groups.
    parts = [(0, number) for number in range(1, min(shard.count, len(groups)) + 1)]
    own = set[str]()
    for name in sorted(groups, key=lambda name: (-len(groups[name]), name)):
        size, number = parts[0]
        heapq.heapreplace(parts, (size + len(groups[name]), number))
        if number == shard.number:
            own.add(name)
    trials = tuple(each for each in plan.wanted if each.trial.training_id in own)
    return replace(plan, trials=trials, timing=None, budget=None)
