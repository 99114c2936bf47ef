"""The section Speed from invented timings whose ratios are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from finished_run import DATASETS
from harness_reports.page.elements import Paragraph, Section, Table
from harness_reports.report import page_of
from harness_reports.sections.side_by_side import side_by_side
from harness_reports.trials.entries import entries_of
from harness_reports.trials.speed import speed_sentences, timings_of
from timing_records import HARDWARE, backend_timing, timing_record

from harness.planning.plan import Plan, Timing
from harness.planning.settings import Setting, settings_of
from harness.records.timings import POINTS, TimingFolder, TimingRecord
from harness.trial import Trial

FACTORS = (0.5, 0.7, 0.6, 0.62, 0.64, 0.58, 0.61)
SLOWER = tuple(2 * factor for factor in FACTORS)
HARDWARE_WORDS = "1 core of Invented CPU @ 2.00 GHz"


def contenders(setting: Setting) -> tuple[Trial, ...]:
    """A trial of each backend with one seed."""
    trials = [planned.trial for planned in setting.members]
    return tuple(trial for trial in trials if trial.seed == trials[0].seed)


def settings(plan: Plan, dataset: str) -> list[Setting]:
    return [each for each in settings_of(plan) if each.trial.dataset.name == dataset]


def commit(
    root: Path, setting: Setting, factors: Sequence[float], **changes: object
) -> TimingRecord:
    record = timing_record(setting.id, contenders(setting), factors, **changes)  # type: ignore[arg-type]
    assert TimingFolder(root, setting.id, HARDWARE).commit(record)
    return record


def section(plan: Plan, frame: pd.DataFrame, root: Path) -> Section:
    entries = entries_of(plan, frame)
    return side_by_side(entries, timings_of(plan, root), planned=plan.timing is not None)


def table(found: Section, name: str) -> list[dict[str, str]]:
    """The rows of a table, cells by the name of their column."""
    (block,) = [b for b in found.blocks if isinstance(b, Table) and b.id == name]
    return [
        {column.name: cell.text for column, cell in zip(block.columns, row.cells, strict=True)}
        for row in block.rows
    ]


def test_ratios_rounds_and_verdicts(plan: Plan, frame: pd.DataFrame, tmp_path: Path) -> None:
    first, second, *_ = settings(plan, "8gaussians")
    commit(tmp_path, first, FACTORS, disturbed=[0])
    commit(tmp_path, second, SLOWER)
    trained, initial, *others = table(section(plan, frame, tmp_path), "ratios-8gaussians")
    assert trained["first / second"] == "jax / torch"
    assert trained["training step"] == "0.61 [0.58, 0.70]"
    assert (trained["rounds"], trained["disturbed"]) == ("6", "1 of 7")
    assert trained["verdict"] == "jax faster"
    assert trained["gradient"] == "direct"
    assert trained["hardware"] == HARDWARE_WORDS
    assert (trained["arrays"], initial["arrays"]) == POINTS
    assert [row["training step"] for row in others] == ["1.22 [1.00, 1.40]"] * 2
    assert [row["verdict"] for row in others] == ["no difference detected"] * 2


def test_disturbed_rounds_carry_no_verdict(
    plan: Plan, frame: pd.DataFrame, tmp_path: Path
) -> None:
    commit(tmp_path, settings(plan, "digits")[0], FACTORS, disturbed=[0, 1, 2])
    row = table(section(plan, frame, tmp_path), "ratios-digits")[0]
    assert (row["rounds"], row["disturbed"]) == ("7", "3 of 7")
    assert row["verdict"] == "no verdict: disturbed"


def test_cold_and_warm_starts_memory_error_and_evaluations(
    plan: Plan, frame: pd.DataFrame, tmp_path: Path
) -> None:
    setting = settings(plan, "digits")[0]
    torch, jax = contenders(setting)
    needs = {
        "torch": backend_timing(torch, gradient="direct", warm_s=0.125),
        "jax": backend_timing(
            jax,
            gradient="checkpoint",
            error_nats={"trained": 1.24e-4, "initial": None},
            nfe={
                "trained": {"train_step": {"forward": 26.0, "vjp": 24.5, "recompute": 24.0}},
            },
        ),
    }
    commit(tmp_path, setting, FACTORS, backends=needs)
    found = section(plan, frame, tmp_path)
    assert table(found, "ratios-digits")[0]["gradient"] == "torch direct, jax checkpoint"
    rows = table(found, "needs-digits")
    assert [(row["arrays"], row["backend"]) for row in rows] == [
        ("trained", "torch"),
        ("trained", "jax"),
        ("initial", "torch"),
        ("initial", "jax"),
    ]
    assert (rows[0]["first step, cold"], rows[0]["first step, warm"]) == ("3.25", "0.125")
    assert (rows[1]["first step, cold"], rows[1]["first step, warm"]) == ("3.25", "0.750")
    assert (rows[0]["step memory"], rows[0]["host memory"]) == ("5", "300")
    assert rows[0]["NFE, training step"] == "20.0"
    assert rows[1]["NFE, training step"] == "26.0 + 48.5"
    assert (rows[1]["error"], rows[3]["error"]) == ("1.2e−04", "no reference")


def test_a_failed_timing_is_a_sentence(plan: Plan, frame: pd.DataFrame, tmp_path: Path) -> None:
    setting = settings(plan, "digits")[0]
    message = "jax: its process ended with exit code -9"
    commit(tmp_path, setting, (), status="error", message=message, backends={})
    found = section(plan, frame, tmp_path)
    text = [block.text for block in found.blocks if isinstance(block, Paragraph)]
    assert any(line.endswith(f"no timing. {message}") for line in text)
    assert speed_sentences(timings_of(plan, tmp_path)) == []


def test_a_report_has_the_section_and_says_why_it_is_empty(
    plan: Plan, frame: pd.DataFrame, tmp_path: Path, curves: pd.DataFrame
) -> None:
    def said(plan: Plan) -> str:
        page = page_of(plan, frame, root=tmp_path, history=curves)
        (found,) = [each for each in page.sections if each.id == "speed"]
        (block,) = found.blocks
        assert isinstance(block, Paragraph)
        return block.text

    assert "no key `timing`" in said(plan)
    assert "No setting is timed yet" in said(replace(plan, timing=Timing()))


def test_a_sentence_of_one_setting_has_its_interval(plan: Plan, tmp_path: Path) -> None:
    commit(tmp_path, settings(plan, "8gaussians")[0], FACTORS)
    found = speed_sentences(timings_of(plan, tmp_path))
    assert found == [
        "On 8gaussians jax takes 0.61x [0.50, 0.70] of torch's time for a training step, 0.61x "
        "[0.50, 0.70] for an evaluation, 0.61x [0.50, 0.70] for a sampling (7 rounds, dopri5 "
        f"rtol=1e-05 atol=1e-05, gradient direct; {HARDWARE_WORDS})."
    ]


def test_a_sentence_of_several_settings_has_the_lowest_and_the_highest(
    plan: Plan, tmp_path: Path
) -> None:
    first, second, *_ = settings(plan, "8gaussians")
    commit(tmp_path, first, FACTORS, disturbed=[0, 1])
    commit(tmp_path, second, SLOWER[:6])
    commit(tmp_path, settings(plan, "digits")[0], FACTORS)
    found = speed_sentences(timings_of(plan, tmp_path))
    assert len(found) == len(DATASETS)
    assert found[0] == (
        "On 8gaussians jax takes 0.61x to 1.22x of torch's time for a training step, 0.61x to "
        "1.22x for an evaluation, 0.61x to 1.22x for a sampling (2 settings, 6 to 7 rounds each, "
        f"gradient direct, 1 disturbed; {HARDWARE_WORDS})."
    )
    assert found[1].startswith("On digits jax takes 0.61x [0.50, 0.70] of torch's time")


@pytest.mark.parametrize("root", [None])
def test_records_of_a_mirror_have_no_timings(plan: Plan, root: Path | None) -> None:
    assert timings_of(plan, root) == ()
