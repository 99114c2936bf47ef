"""A suite's report: from records to one HTML file, one Markdown file and a folder of figures."""

from __future__ import annotations

import collections
import datetime
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.planning.gates import GateResult
from harness.planning.plan import Plan
from harness.records.files import replace, scrub
from harness_reports.page.drawings import draw
from harness_reports.page.elements import Block, Facts, Page, Pictures, Section
from harness_reports.page.html import render_html
from harness_reports.page.markdown import render_markdown
from harness_reports.sections.comparison import comparison_blocks
from harness_reports.sections.cost import cost_blocks
from harness_reports.sections.curves import curve_blocks
from harness_reports.sections.details import environment, method, trials
from harness_reports.sections.efficiency import efficiency_charts
from harness_reports.sections.estimates import estimates
from harness_reports.sections.failures import failures
from harness_reports.sections.forest import forest_charts
from harness_reports.sections.gates import gate_results, gates
from harness_reports.sections.pictures import picture_blocks
from harness_reports.sections.published_verdicts import published_blocks, strip_blocks
from harness_reports.sections.reach import reach
from harness_reports.sections.results import results_blocks
from harness_reports.sections.side_by_side import side_by_side
from harness_reports.sections.speed import speed_blocks
from harness_reports.sections.verification import verification
from harness_reports.sections.work_precision import work_precision_blocks
from harness_reports.summary import Summary, summarize
from harness_reports.trials.entries import Entry
from harness_reports.trials.speed import speed_sentences, timings_of

__all__ = ["page_of", "write_page", "write_report"]


_VERSIONS = ("harness", "python", "torch", "torchdiffeq", "jax", "diffrax", "equinox")


def write_report(
    plan: Plan,
    frame: pd.DataFrame,
    out: Path,
    *,
    root: Path | None,
    history: pd.DataFrame,
    command: str | None = None,
    made_by: str | None = None,
) -> Path:
    """Writes `index.html`, `report.md`, `summary.json` and `figures/` into a folder.

    Arguments:
        plan: The trials to report.
        frame: Their records, as `harness.load` gives them; others are left out.
        out: The folder; it is made if it does not exist.
        root: Run root that holds the samples for pictures; None if the records come from MLflow.
        history: Training curves, as `harness.records.frame.history` gives them.
        command: The command that runs the suite, for readers to repeat; the home folder in it
            becomes `~`.
        made_by: The command that made the report, if that is another one.

    Returns:
        Path of `index.html`.
    """
    page = page_of(plan, frame, root=root, history=history, command=command, made_by=made_by)
    return write_page(page, out)


def write_page(page: Page, out: Path) -> Path:
    """Writes a report into a folder: `index.html`, `report.md`, `summary.json` and `figures/`.

    Arguments:
        page: What `page_of` made.
        out: The folder; it is made if it does not exist.

    Returns:
        Path of `index.html`.
    """
    drawings = draw(page)
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for chart, svg in drawings.items():
        (figures / f"{chart}.svg").write_text(svg.file, encoding="utf-8")
        (figures / f"{chart}.vl.json").write_text(svg.source, encoding="utf-8")
    for block in (block for section in page.sections for block in section.blocks):
        if isinstance(block, Pictures):
            for panel in block.panels:
                (figures / f"{panel.id}.png").write_bytes(panel.png)
    replace(out / "report.md", render_markdown(page).encode())
    replace(out / "summary.json", _summary(page).encode())
    index = out / "index.html"
    replace(index, render_html(page, drawings).encode())
    return index


def page_of(
    plan: Plan,
    frame: pd.DataFrame,
    *,
    root: Path | None,
    history: pd.DataFrame,
    command: str | None = None,
    made_by: str | None = None,
    written: datetime.datetime | None = None,
) -> Page:
    """Builds the report as values, before any of it is rendered; arguments as of `write_report`.

    `written` is the time that the report gives as its own; None: now.
    """
    command = str(scrub(command or f"harness run {plan.source or plan.suite}"))
    timings = timings_of(plan, root)
    summary = summarize(plan, frame, command, speed_sentences(timings))
    entries, kept = summary.entries, gate_results(plan, summary.entries)
    sections = (
        Section(
            "verdicts-strip", "Against the published tables", tuple(strip_blocks(summary.verdicts))
        ),
        Section("forest", "Results at a glance", tuple(forest_charts(entries))),
        Section("results", "Results", tuple(results_blocks(entries, summary.comparisons))),
        Section(
            "published", "Beside the published tables", tuple(published_blocks(summary.verdicts))
        ),
        Section("backends", "Backends compared", tuple(_backends(summary))),
        Section("efficiency", "Evaluations against likelihood", tuple(efficiency_charts(entries))),
        Section("work-precision", "Work and precision", tuple(work_precision_blocks(entries))),
        side_by_side(entries, timings, planned=plan.timing is not None),
        reach(entries, history),
        Section("curves", "Learning curves", tuple(curve_blocks(entries, history))),
        Section("pictures", "Pictures", tuple(picture_blocks(entries, root))),
        failures(entries, command),
        gates(kept),
        verification(entries, root),
        estimates(entries, plan.suite, root),
        environment(entries),
        method(entries),
        trials(entries, None if root is None else str(scrub(str(root)))),
    )
    return Page(
        title=plan.suite,
        lead=plan.description,
        answers=summary.answers,
        facts=_facts(
            entries,
            kept,
            str(scrub(made_by or command)),
            written or datetime.datetime.now(datetime.UTC),
        ),
        sections=tuple(section for section in sections if section.blocks),
    )


def _backends(summary: Summary) -> list[Block]:
    quality = comparison_blocks(summary.comparisons)
    return [*quality, *speed_blocks(summary.entries), *cost_blocks(summary.entries)]


def _summary(page: Page) -> str:
    """What the index of all suites says of this one."""
    answers = [{"question": a.question, "sentences": a.sentences} for a in page.answers]
    parts = {"suite": page.title, "description": page.lead, "answers": answers}
    return json.dumps(parts, indent=1, ensure_ascii=False)


def _facts(
    entries: Sequence[Entry],
    kept: Sequence[GateResult],
    made_by: str,
    written: datetime.datetime,
) -> Facts:
    bounds = collections.Counter(result.verdict for result in kept)
    return Facts(
        (
            ("Gates", ", ".join(f"{n} {word}" for word, n in bounds.items()) or "none stated"),
            ("Hardware", _hardware(entries)),
            ("Versions", _versions(entries)),
            ("Made by", made_by),
            ("Written", written.strftime("%Y-%m-%d %H:%M UTC")),
        )
    )


def _hardware(entries: Sequence[Entry]) -> str:
    def describe(entry: Entry) -> str | None:
        model, device = entry.text("environment.cpu_model"), entry.text("environment.device_kind")
        if model is None:
            return None
        cores = f"{entry.text('environment.cores')} of {entry.text('environment.cores_total')}"
        text = f"{model}, {cores} cores a trial"
        return text if device in (None, "cpu") else f"{device}; {text}"

    machines = dict.fromkeys(text for entry in entries if (text := describe(entry)))
    return "; ".join(machines) or "not recorded"


def _versions(entries: Sequence[Entry]) -> str:
    versions = [
        f"{name} {version}"
        for name in _VERSIONS
        for version in dict.fromkeys(entry.text(f"environment.{name}") for entry in entries)
        if version is not None
    ]
    return ", ".join(versions) or "not recorded"
