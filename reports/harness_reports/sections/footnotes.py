"""Footnotes of the tables of published values: what a reader must know before comparing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from harness_reports.published.values import PublishedValue

__all__ = ["LETTERS", "Footnotes", "remarks", "sentence"]

LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"

_MARKS: Mapping[str, str] = {
    "R": "mark R: read in a secondary source, the original was not seen",
    "D": "mark D: derived from what the source says",
    "M+": "mark M+: recalled from memory; independent checks agree, but it judges nothing",
}


class Footnotes:
    """Footnotes of one table, lettered in the order of their first use."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def after(self, name: str, texts: Iterable[str]) -> str:
        """The name and the letters of the texts."""
        letters = [self._letters.setdefault(t, LETTERS[len(self._letters)]) for t in texts]
        return f"{name}\u00a0{''.join(sorted(letters, key=LETTERS.index))}" if letters else name

    def text(self) -> str | None:
        """All of them, in one paragraph; None if there are none."""
        notes = (f"{letter}\u00a0{sentence(text)}" for text, letter in self._letters.items())
        return " ".join(notes) or None


def remarks(value: PublishedValue) -> Iterator[str]:
    """What a reader must know of a value before comparing."""
    if value.spread_kind == "sd_over_runs":
        runs = f"{value.runs} runs" if value.runs else "runs"
        yield f"±: standard deviation over {runs}"
    if value.spread_kind == "two_sd_over_test_points":
        yield "±: two standard deviations of the mean over test points"
    if value.flipped:
        yield "published with the other sign"
    if value.mark in _MARKS:
        yield _MARKS[value.mark]
    yield from value.notes


def sentence(text: str) -> str:
    """A text as a sentence: with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
