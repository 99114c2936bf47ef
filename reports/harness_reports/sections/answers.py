"""The answers to what readers come with, in sentences: they stand above everything else."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence

from harness.text import counted
from harness_reports.page.elements import Answer
from harness_reports.page.numbers import short
from harness_reports.published.verdict import KINDS
from harness_reports.sections.published_verdicts import PublishedVerdicts
from harness_reports.trials.comparisons import CORRECTION, LEVEL, Comparison
from harness_reports.trials.entries import Entry
from harness_reports.trials.quantities import NAMES

__all__ = ["agreement_sentences", "answers", "paper_sentences", "state_sentences"]


def answers(
    entries: Sequence[Entry],
    verdicts: PublishedVerdicts,
    comparisons: Sequence[Comparison],
    speed: Sequence[str],
) -> tuple[Answer, ...]:
    """All of them.

    Arguments:
        entries: The trials of the plan.
        verdicts: How they stand against the published tables.
        comparisons: How the backends compare.
        speed: What is known of their speed, in sentences.
    """
    candidates = [
        Answer("Is the paper reproduced?", tuple(paper_sentences(verdicts))),
        Answer("Do the backends agree?", tuple(agreement_sentences(comparisons))),
        Answer("Which backend is faster?", tuple(speed) if comparisons else ()),
        Answer("Did everything run?", tuple(state_sentences(entries))),
    ]
    return tuple(answer for answer in candidates if answer.sentences)


def paper_sentences(verdicts: PublishedVerdicts) -> Iterator[str]:
    """How many verdicts of each kind, and the results that differ, by name."""
    judged = [
        (judgement, backend, own.verdict)
        for members in verdicts.judged.values()
        for judgement in members
        for backend, own in judgement.verdicts.items()
    ]
    if not judged:
        names = _listed([*verdicts.derived, *verdicts.uncovered])
        yield f"No published table covers {names}, so this suite does not test the paper."
        yield "The suite “paper” has the datasets of the published tables: harness run paper."
        return
    kinds = collections.Counter(verdict.kind for _, _, verdict in judged)
    counts = [f"{kinds[k]} {_COUNTED.get(k, k)}" for k in KINDS if kinds[k] or k in _ALWAYS]
    yield f"Of {counted(len(judged), 'published result')}: {', '.join(counts)}."
    by_text: dict[tuple[str, str], list[str]] = {}
    for judgement, backend, verdict in judged:
        if verdict.kind == "differs":
            name = NAMES.get(judgement.value.metric, judgement.value.metric)
            what = f"{judgement.configuration.dataset} {name}"
            by_text.setdefault((what, str(verdict)), []).append(backend)
    differing = [f"{what} {text} ({', '.join(who)})" for (what, text), who in by_text.items()]
    yield from (f"{text}." for text in differing[:_NAMED])
    if len(differing) > _NAMED:
        yield f"{len(differing) - _NAMED} more differ."
    if outside := [*verdicts.derived, *verdicts.uncovered]:
        yield f"No published table covers {_listed(outside)}."


_COUNTED = {"differs": "differ"}
_ALWAYS = ("reproduced", "differs", "not comparable", "not run")
_NAMED = 3
"""Results or datasets that are named one by one; the tables have all."""


def agreement_sentences(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Which backends are the same within which margin, which are better, what is undecided."""
    by_names: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        by_names.setdefault(comparison.pair.names, []).append(comparison)
    if not by_names:
        yield "The suite has one backend only, so there is none to compare it with."
    for names, members in by_names.items():
        yield from _agreement(f"{names[0]} against {names[1]}", members)


def _agreement(who: str, members: Sequence[Comparison]) -> Iterator[str]:
    total = counted(len(members), "comparison")
    paired = [one for one in members if one.differences]
    if not paired:
        yield f"{who}: no seed has ended ok with both, so nothing is known yet ({total} planned)."
        return
    same = [one for one in members if one.outcome == "same"]
    if same:
        share = "in all" if len(same) == len(members) else f"in {len(same)} of"
        where = f" {share} {total}" if len(members) > 1 else ""
        yield f"{who}: the same{where}: {_margins(same)}."
    for one in members:
        if one.better is not None:
            yield f"{one.better} is better on {difference_words(one)}."
    undecided = [one for one in members if one.outcome == "undecided"]
    if undecided:
        widest = max(undecided, key=lambda one: one.width)
        yield (
            f"{who}: undecided in {len(undecided)} of {total}, since the seeds differ too much: "
            f"the widest is {difference_words(widest)}."
        )
    if single := [one for one in members if one.outcome == "one pair"]:
        largest = max(single, key=lambda one: abs(one.differences[0]) / one.margin)
        yield (
            f"{who}: one seed alone in {len(single)} of {total}, which gives no verdict; there "
            f"they differ by at most {short(abs(largest.differences[0]))} "
            f"{largest.quantity.unit} ({largest.dataset})."
        )
    if len(paired) < len(members) or not all(one.complete for one in paired):
        pairs = sum(len(one.differences) for one in members)
        planned = sum(one.planned for one in members)
        yield f"So far {pairs} of {counted(planned, 'pair')} of trials have ended ok."
    tested = sum(one.outcome in ("same", "lower", "higher", "undecided") for one in members)
    if tested > 1:
        yield f"Tests at {LEVEL:.0%}, corrected for {tested} comparisons ({CORRECTION})."


def _margins(same: Iterable[Comparison]) -> str:
    """The margin of each dataset, beside what another seed changes."""
    texts: dict[str, str] = {}
    for one in same:
        if one.dataset not in texts:
            text = f"{one.dataset} within {short(one.margin)} {one.quantity.unit}"
            if one.spread:
                text += f" (another seed moves it by {short(one.spread)})"
            texts[one.dataset] = text
    named = list(texts.values())[:_NAMED]
    if len(texts) > _NAMED:
        named.append(f"{counted(len(texts) - _NAMED, 'more dataset')} within theirs")
    return _listed(named, "and")


def difference_words(one: Comparison) -> str:
    """`digits, dopri5 none: torch − jax 0.012 ± 0.004 bits/dim`."""
    interval = one.interval
    settings = f"{one.dataset}, {' '.join(one.pair.first.settings(('solver', 'regularizer')))}"
    if interval is None:
        return settings
    sign = " − ".join(one.pair.names)
    return (
        f"{settings}: {sign} {short(interval.estimate)} ± {short(one.width)} {one.quantity.unit}"
    )


def state_sentences(entries: Sequence[Entry]) -> Iterator[str]:
    """How many trials ended in which way."""
    states = collections.Counter(entry.state for entry in entries)
    counts = ", ".join(f"{number:,} {state}" for state, number in states.most_common())
    yield f"{counted(len(entries), 'trial')}: {counts}."


def _listed(names: Iterable[str], word: str = "or") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
