"""What the runs cost: compilation, first and steady steps, totals and memory."""

from __future__ import annotations

from collections.abc import Sequence

from harness.statistics import Summary, summarize
from harness_reports.page.elements import Block, Cell, Column, Paragraph, Table, absent
from harness_reports.page.numbers import bytes_mib, fixed, seconds, spread
from harness_reports.sections.results import line_rows, trial_links
from harness_reports.sections.speed import STEP
from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import setting_names
from harness_reports.trials.lines import Line, lines_of

__all__ = ["cost_blocks"]

_NOTE = (
    "Mean ± standard deviation over seeds. Compile, with the first evaluations: cold where a "
    "program was not in the compilation cache, warm where all were, over the seeds of each kind; "
    "eager where nothing is compiled or no cache is kept. Step: the median training "
    "step, averaged over seeds, in brackets its quartiles within a trial. "
    "Training memory is the host's, above what the process held before the first step. "
    "Timings of mode shared were taken while other trials used the machine: they say what this "
    "run took, not how fast a backend is."
)


def cost_blocks(entries: Sequence[Entry]) -> list[Block]:
    """Time and memory of all settings that have run, backend by backend."""
    # Without comparisons no backends share a line: the same quality may cost another time.
    lines = [line for members in lines_of(entries, ()).values() for line in members]
    ran = [line for line in lines if any(entry.ok for entry in line.entries)]
    if not ran:
        return []
    names = (*setting_names([group for line in ran for group in line.groups]), "backend")
    columns = (
        Column("dataset", heading=True),
        Column("step", "ms", numeric=True),
        *(Column(name) for name in names),
        Column("compile, cold", "s", numeric=True),
        Column("compile, warm", "s", numeric=True),
        Column("first step", "s", numeric=True),
        Column("training", "s", numeric=True),
        Column("host memory", "MiB, peak", numeric=True),
        Column("training memory", "MiB, above", numeric=True),
        Column("device memory", "MiB, peak", numeric=True),
        Column("timing", narrow=True),
        Column("seeds", narrow=True),
    )

    def numbers(line: Line) -> tuple[Cell, ...]:
        ok = [entry for entry in line.entries if entry.ok]
        modes = {entry.text("timing.mode") or "not run" for entry in ok}
        return (
            _step(line),
            *map(Cell, line.groups[0].settings(names)),
            *_compile(line),
            _time(line, "timing.first_step_s"),
            _time(line, "timing.train_s"),
            _memory(line, "memory.peak_host_bytes", "not run"),
            _memory(line, "memory.above.training", "not measured"),
            _memory(line, "memory.peak_device_bytes", "no device"),
            Cell(modes.pop() if len(modes) == 1 else "mixed"),
            trial_links(line.groups),
        )

    table = Table("cost-table", "Time and memory", columns, line_rows(ran, numbers), sortable=True)
    return [table, Paragraph(_NOTE, "muted")]


def _compile(line: Line) -> tuple[Cell, Cell]:
    """Seconds of the seeds that compiled anew, and of those that found all in the cache."""
    kinds: dict[bool | None, list[float]] = {}
    for entry in line.entries:
        taken, anew = entry.number("timing.compile_s"), entry.number("timing.compiled_anew")
        if entry.ok and taken is not None:
            kinds.setdefault(None if anew is None else anew > 0, []).append(taken)
    cold, warm = (summarize(kinds.get(kind, [])) for kind in (True, False))
    if cold is None and warm is None:
        eager = summarize(kinds.get(None, []))
        if eager is None:
            return absent("none"), absent("none")
        text = spread(eager, seconds(eager.mean))
        return Cell(f"{text} (eager)", value=eager.mean), absent("eager")
    return _mean(cold), _mean(warm)


def _mean(summary: Summary | None) -> Cell:
    if summary is None:
        return absent("no seed")
    return Cell(spread(summary, seconds(summary.mean)), value=summary.mean)


def _time(line: Line, column: str) -> Cell:
    summary = line.summary(column)
    return absent() if summary is None else _mean(summary)


def _step(line: Line) -> Cell:
    columns = (STEP, "timing.step_s.q25", "timing.step_s.q75")
    parts = [line.summary(column) for column in columns]
    median, low, high = [None if part is None else 1000 * part.mean for part in parts]
    if median is None:
        return absent()
    digits = seconds(median)
    text = fixed(median, digits)
    if low is not None and high is not None:
        text += f" ({fixed(low, digits)}–{fixed(high, digits)})"
    return Cell(text, value=median)


def _memory(line: Line, column: str, otherwise: str) -> Cell:
    summary = line.summary(column)
    if summary is None:
        return absent(otherwise)
    text = bytes_mib(summary.mean)
    text = text if summary.sd is None else f"{text} ± {bytes_mib(summary.sd)}"
    return Cell(text, value=summary.mean)
