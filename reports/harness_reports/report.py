"""A suite's report: from records to one HTML file, one Markdown file and a folder of figures."""

from __future__ import annotations

import collections
import datetime
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import vl_convert

from harness.planning.gates import GateResult
from harness.planning.plan import Plan
from harness.records.files import replace, scrub
from harness.text import counted
from harness_reports.page.elements import Chart, Facts, Page, Pictures
from harness_reports.page.html import VEGA_LITE, render_html
from harness_reports.page.markdown import render_markdown
from harness_reports.sections.comparison import comparison
from harness_reports.sections.curves import curves
from harness_reports.sections.details import environment, method, trials
from harness_reports.sections.estimates import estimates
from harness_reports.sections.failures import failures
from harness_reports.sections.gates import gate_results, gates
from harness_reports.sections.pictures import pictures
from harness_reports.sections.published_verdicts import (
    PublishedVerdicts,
    published_section,
    published_verdicts,
    verdict_counts,
)
from harness_reports.sections.reach import reach
from harness_reports.sections.results_chart import results_section
from harness_reports.sections.side_by_side import side_by_side
from harness_reports.sections.verification import verification
from harness_reports.trials.entries import Entry, entries_of
from harness_reports.trials.speed import timings_of

__all__ = ["page_of", "write_report"]


_VERSIONS = ("harness", "python", "torch", "torchdiffeq", "jax", "diffrax", "equinox")


def write_report(
    plan: Plan,
    frame: pd.DataFrame,
    out: Path,
    *,
    root: Path | None,
    history: pd.DataFrame,
    command: str | None = None,
) -> Path:
    """Writes `index.html`, `report.md` and `figures/` into a folder.

    Arguments:
        plan: The trials to report.
        frame: Their records, as `harness.load` gives them; others are left out.
        out: The folder; it is made if it does not exist.
        root: Run root that holds the samples for pictures; None if the records come from MLflow.
        history: Training curves, as `harness.records.frame.history` gives them.
        command: The command line that made the report; the home folder in it becomes `~`.

    Returns:
        Path of `index.html`.
    """
    page = page_of(plan, frame, root=root, history=history, command=command)
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for block in (block for section in page.sections for block in section.blocks):
        if isinstance(block, Chart):
            svg = vl_convert.vegalite_to_svg(dict(block.spec), vl_version=VEGA_LITE)
            (figures / f"{block.id}.svg").write_text(svg, encoding="utf-8")
            source = json.dumps(block.spec, ensure_ascii=False)
            (figures / f"{block.id}.vl.json").write_text(source, encoding="utf-8")
            png = vl_convert.svg_to_png(svg, scale=2)
            (figures / f"{block.id}.png").write_bytes(png)
        if isinstance(block, Pictures):
            for panel in block.panels:
                (figures / f"{panel.id}.png").write_bytes(panel.png)
    replace(out / "report.md", render_markdown(page).encode())
    index = out / "index.html"
    replace(index, render_html(page).encode())
    return index


def page_of(
    plan: Plan,
    frame: pd.DataFrame,
    *,
    root: Path | None,
    history: pd.DataFrame,
    command: str | None = None,
) -> Page:
    """Builds the report as values, before any of it is rendered."""
    entries = entries_of(plan, frame)
    suite = str(scrub(plan.source or plan.suite))
    verdicts = published_verdicts(entries)
    kept = gate_results(plan, entries)
    return Page(
        title=plan.suite,
        lead=plan.description,
        facts=_facts(entries, verdicts, kept, str(scrub(command or f"harness report {suite}"))),
        sections=(
            results_section(entries),
            published_section(verdicts),
            comparison(entries),
            side_by_side(entries, timings_of(plan, root), planned=plan.timing is not None),
            reach(entries, history),
            curves(entries, history),
            pictures(entries, root),
            failures(entries, suite),
            gates(kept),
            verification(entries, root),
            estimates(entries, plan.suite, root),
            environment(entries),
            method(),
            trials(entries),
        ),
    )


def _facts(
    entries: Sequence[Entry],
    verdicts: PublishedVerdicts,
    kept: Sequence[GateResult],
    command: str,
) -> Facts:
    states = collections.Counter(entry.state for entry in entries)
    counts = ", ".join(f"{number} {state}" for state, number in states.most_common())
    bounds = collections.Counter(result.verdict for result in kept)
    now = datetime.datetime.now(datetime.UTC)
    return Facts(
        (
            ("Trials", f"{counted(len(entries), 'trial')}: {counts}"),
            ("Published tables", verdict_counts(verdicts) or "none covers these datasets"),
            ("Gates", ", ".join(f"{n} {word}" for word, n in bounds.items()) or "none stated"),
            ("Hardware", _hardware(entries)),
            ("Versions", _versions(entries)),
            ("Made by", command),
            ("Written", now.strftime("%Y-%m-%d %H:%M UTC")),
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
