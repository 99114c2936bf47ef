"""Trials judged by the published tables: a verdict a cell, and what is never printed."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest
from harness_reports.page.drawings import draw
from harness_reports.page.elements import Block, Paragraph, Table
from harness_reports.page.html import render_html
from harness_reports.page.markdown import render_markdown
from harness_reports.published.judgement import Judgement, dataset_of, published_rows
from harness_reports.published.library import published
from harness_reports.published.values import DATASETS, METRICS, VARIANTS
from harness_reports.report import page_of
from harness_reports.sections.answers import paper_sentences
from harness_reports.sections.footnotes import LETTERS
from harness_reports.sections.published_verdicts import (
    PublishedVerdicts,
    published_blocks,
    published_verdicts,
    strip_blocks,
)
from harness_reports.trials.entries import entries_of
from published_records import CASES, FREY, GAS, MNIST, POWER, Case, frame, plan_of, reduced

from harness.metrics.definitions import DEFINITIONS
from harness.records.frame import HISTORY_COLUMNS
from harness.trial import DatasetRef, FixedSolver, RegularizerName

HISTORY = pd.DataFrame(columns=list(HISTORY_COLUMNS))


def verdicts(*cases: Case) -> PublishedVerdicts:
    return published_verdicts(entries_of(plan_of(cases), frame(cases)))


def section(*cases: Case) -> list[Block]:
    return list(published_blocks(verdicts(*cases)))


def paper(*cases: Case) -> str:
    """The answer to whether the paper is reproduced."""
    return " ".join(paper_sentences(verdicts(*cases)))


def tables(*cases: Case) -> dict[str, list[list[str]]]:
    blocks = [block for block in section(*cases) if isinstance(block, Table)]
    return {
        table.id: [[_without_letters(cell.text) for cell in row.cells] for row in table.rows]
        for table in blocks
    }


def _without_letters(text: str) -> str:
    """The text without the letters of its footnotes and with plain blanks."""
    return re.sub(f"\u00a0[{LETTERS}]+$", "", text).replace("\u00a0", " ")


def texts(*cases: Case) -> str:
    return " ".join(b.text for b in section(*cases) if isinstance(b, Paragraph))


def judgement(metric: str, *cases: Case, dataset: str = "power") -> Judgement:
    (found,) = [x for x in verdicts(*cases).judged[dataset] if x.value.metric == metric]
    return found


def verdict(metric: str, *cases: Case, dataset: str = "power") -> str:
    by_backend = judgement(metric, *cases, dataset=dataset).verdicts
    (text,) = {str(own.verdict) for own in by_backend.values()}
    return text


def test_reproduced() -> None:
    # sd 0.01 over 3 seeds on both sides: t(4) 2.776 * 0.01 * sqrt(2/3) + 0.005.
    assert verdict("test_nll", Case(POWER, {"test_nll": -0.455})) == (
        "reproduced: +0.005, within 0.028"
    )


def test_differs() -> None:
    assert verdict("test_nll", Case(POWER, {"test_nll": -0.36})) == (
        "differs by +0.100 (worse), beyond 0.028"
    )
    assert verdict("test_nll", Case(POWER, {"test_nll": -0.56})) == (
        "differs by −0.100 (better), beyond 0.028"
    )


def test_another_set_up_does_not_compare_however_near() -> None:
    short = replace(POWER, training=replace(POWER.training, iterations=500))
    assert verdict("test_nll", Case(short, {"test_nll": -0.46})) == (
        "not comparable: short training (iterations 500 instead of at least 6,200)"
    )


def test_not_run_whatever_the_reason() -> None:
    assert verdict("test_nll", Case(POWER, None)) == "not run"
    assert verdict("test_nll", Case(POWER, {"gaussian_nll": 7.74})) == "not run"
    assert verdict("test_nll", Case(POWER, {"test_nll": -0.46}, ok=0)) == "not run: diverged"


def test_backends_that_differ_are_named() -> None:
    case = Case(POWER, {"test_nll": -0.455})
    records = frame((case,))
    records.loc[records["backend"] == "jax", "metrics.test_nll"] += 1
    found = published_blocks(published_verdicts(entries_of(plan_of((case,)), records)))
    table = next(block for block in found if isinstance(block, Table))
    cell = table.rows[0].cells[-1]
    assert cell.text == (
        "torch reproduced: +0.005, within 0.028; jax differs by +1.005 (worse), beyond 0.028"
    )
    assert cell.tone == ""


def test_the_configuration_that_meets_the_set_up_is_judged() -> None:
    good, other = Case(POWER, {"test_nll": -0.46}), Case(reduced(POWER), {"test_nll": -0.2})
    for cases in ((good, other), (other, good)):
        assert verdict("test_nll", *cases).startswith("reproduced: 0.000")


def test_if_none_meets_it_the_nearest_one_measured_is() -> None:
    near = replace(POWER, solver=FixedSolver("rk4_38", 8))
    far = replace(reduced(POWER), solver=FixedSolver("rk4_38", 8))
    found = verdict("test_nll", Case(far, {"test_nll": -0.2}), Case(near, {"test_nll": -0.4}))
    assert found == "not comparable: other solver (name rk4_38 instead of dopri5)"
    unmeasured = verdict("test_nll", Case(far, {"test_nll": -0.2}), Case(near, {}))
    assert unmeasured.startswith("not comparable: other model")


def test_several_configurations_that_meet_it_have_a_row_each() -> None:
    squash = replace(POWER, model=replace(POWER.model, layer="concatsquash"))
    found = tables(Case(POWER, {"test_nll": -0.46}), Case(squash, {"test_nll": -0.455}))
    texts = [row[-1] for row in found["verdicts"] if row[1:3] == ["test NLL, nats ↓", "FFJORD"]]
    assert len(texts) == 2
    assert "(dopri5 · none · concat 60-60-60 tanh x5)" in texts[0]
    assert "(dopri5 · none · concatsquash 60-60-60 tanh x5)" in texts[1]


def test_a_gaussian_needs_no_model_and_is_said_once() -> None:
    cases = [Case(t, {"gaussian_nll": 7.74}) for t in (POWER, reduced(POWER))]
    assert verdict("gaussian_nll", *cases) == "reproduced: 0.000, within 0.005"
    part = replace(POWER, evaluation=replace(POWER.evaluation, rows=100))
    assert verdict("gaussian_nll", Case(part, {"gaussian_nll": 7.74})) == (
        "not comparable: a part of the test rows (rows 100)"
    )


def test_sample_metrics_compare_with_paddingflow_s_smaller_model() -> None:
    few = Case(reduced(POWER), {"min_cd": 0.145}, n=10)
    assert verdict("min_cd", Case(reduced(POWER), {"min_cd": 0.145})).startswith("reproduced")
    assert "other samplings (n 10 instead of 100)" in verdict("min_cd", few)
    assert "other model" in verdict("min_cd", Case(POWER, {"min_cd": 0.145}))


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ("emd", "emd is shown; the published figure is a 3-D reading"),
        ("emd_3d_reading", "emd_3d_reading is shown; the published figure comes from an approx"),
    ],
)
def test_published_emds_compare_only_with_the_same_reading(ours: str, words: str) -> None:
    metric = "emd_3d_reading_approximate"
    case = Case(reduced(POWER), {ours: 0.116})
    assert f"not comparable: {words}" in verdict(metric, case)
    both = Case(reduced(POWER), {ours: 0.5, metric: 0.116})
    assert verdict(metric, both).startswith("reproduced: 0.000")


def test_a_kernel_discrepancy_is_never_compared_with_an_mmd_of_the_tables() -> None:
    judged = verdicts(Case(reduced(POWER), {"mmd_kernel": 0.5})).judged["power"]
    kinds = {own.verdict.kind for one in judged for own in one.verdicts.values()}
    assert kinds == {"not run"}


@pytest.mark.parametrize("name", ["power-partial", "power-rederived", "power-resplit"])
def test_derived_datasets_are_never_printed_as_the_published_one(name: str) -> None:
    derived = replace(POWER, dataset=DatasetRef(name, "d"))
    assert tables(Case(derived, {"test_nll": -0.46})) == {}
    assert f"Not comparable with any published table: {name}" in texts(
        Case(derived, {"test_nll": -0.46})
    )
    with_whole = (Case(derived, {"test_nll": -0.46}), Case(POWER, {"test_nll": 9.0}))
    assert "worse" in verdict("test_nll", *with_whole)
    assert {row[0] for row in tables(*with_whole)["verdicts"]} == {"power"}


def test_names_are_matched_whole() -> None:
    assert dataset_of("mnist-static-resplit") == "mnist-static"
    assert dataset_of("mnist-resplit") == "mnist"
    assert dataset_of("powerful") is None
    assert dataset_of("digits") is None
    assert [dataset_of(name) for name in DATASETS] == list(DATASETS)


def test_uncovered_datasets_are_one_line() -> None:
    case = Case(replace(POWER, dataset=DatasetRef("8gaussians", "d")), {"test_nll": 2.9})
    (block,) = section(case)
    assert isinstance(block, Paragraph)
    assert block.text == "No published table covers 8gaussians."
    assert paper(case).startswith("No published table covers 8gaussians, so this suite does not")
    assert list(strip_blocks(verdicts(case))) == []


def test_verdicts_are_counted_a_cell_and_backend() -> None:
    case = Case(POWER, {"test_nll": -0.46, "gaussian_nll": 9.0})
    assert paper(case).startswith(
        "Of 12 published results: 2 reproduced, 2 differ, 0 not comparable, 8 not run. power "
    )


def test_what_is_not_run_is_one_line_and_no_table() -> None:
    found = section(Case(POWER, None), Case(GAS, None))
    assert [type(block) for block in found] == [Paragraph]
    assert texts(Case(POWER, None), Case(GAS, None)) == (
        "Published tables cover these, but they are not run: power and gas."
    )


def test_each_cell_of_the_strip_leads_to_its_row() -> None:
    found = verdicts(Case(POWER, {"test_nll": -0.455}), Case(GAS, None))
    (strip,) = (block for block in strip_blocks(found) if isinstance(block, Table))
    rows = {
        row.id
        for block in published_blocks(found)
        if isinstance(block, Table)
        for row in block.rows
    }
    links = [link for row in strip.rows for cell in row.cells for link in cell.links]
    assert [row.cells[0].text for row in strip.rows] == ["power", "gas"]
    assert "test NLL: reproduced" in [link.text for link in links]
    assert {link.anchor for link in links} <= rows
    assert {cell.text for cell in strip.rows[1].cells[1:]} <= {"not run", "no value"}


def test_all_models_have_one_row_each_the_target_first() -> None:
    found = tables(Case(POWER, {"test_nll": -0.455}))["published-power-test_nll"]
    assert found[0] == [
        "FFJORD",
        "−0.46 ± 0.01",
        "Table 6",
        "−0.455 ± 0.010 (3)",
        "−0.455 ± 0.010 (3)",
        "reproduced: +0.005, within 0.028",
    ]
    assert found[1][:2] == ["FFJORD, run by OT-Flow", "−0.37"]
    assert found[1][-1] == "not comparable: recalled, not seen in a source"
    assert {row[-1] for row in found[2:]} <= {
        "not comparable: another model",
        "not comparable: recalled, not seen in a source",
    }
    keys = [tuple(row[:2]) for row in found]
    assert len(keys) == len(set(keys))
    others = [float(row[1].split()[0].replace("−", "-")) for row in found[2:]]
    assert others == sorted(others)


def test_models_whose_set_up_is_known_are_judged_too() -> None:
    spec = replace(MNIST.model, zero_last=True)
    regularizer: dict[RegularizerName, float] = {"rnode.kinetic": 0.01, "rnode.jacobian": 0.01}
    training = replace(MNIST.training, batch=200)
    rnode = replace(MNIST, model=spec, regularizer=regularizer, training=training)
    assert "RNODE" not in judged(Case(MNIST, {}), Case(rnode, {"test_bits_per_dim": 0.97}))
    rnode = replace(rnode, dataset=DatasetRef("mnist-alpha1e-5", "d"))
    cases = Case(MNIST, {"test_bits_per_dim": 0.99}), Case(rnode, {"test_bits_per_dim": 0.97})
    assert judged(*cases) == {"FFJORD": "0.990 ± 0.010 (3)", "RNODE": "0.970 ± 0.010 (3)"}
    assert [row[0:3:2] for row in tables(*cases)["verdicts"]] == [
        ["mnist", "FFJORD"],
        ["mnist-alpha1e-5", "RNODE"],
    ]


def judged(*cases: Case) -> dict[str, str]:
    """Our results by the models of MNIST that they reproduce."""
    found = tables(*cases)["published-mnist-test_bits_per_dim"]
    return {row[0]: row[3] for row in found if row[-1].startswith("reproduced")}


@pytest.mark.parametrize("name", ["mnist-heldout", "mnist-alpha1e-5"])
def test_variants_of_a_dataset_say_that_they_are_others(name: str) -> None:
    variant = replace(MNIST, dataset=DatasetRef(name, "d"))
    found = tables(Case(variant, {"test_bits_per_dim": 0.99}))["verdicts"]
    assert [row[0] for row in found] == [name]
    assert found[0][-1] == f"not comparable: other dataset (name {name} instead of mnist)"


@pytest.mark.parametrize("name", ["freyfaces", "freyfaces-321", "freyfaces-231"])
def test_every_split_of_frey_faces_compares(name: str) -> None:
    trial = replace(FREY, dataset=DatasetRef(name, "d"))
    metric = "test_neg_elbo_bits_per_dim"
    found = judgement(metric, Case(trial, {metric: 4.39}), dataset="freyfaces")
    assert {own.verdict.kind for own in found.verdicts.values()} == {"reproduced"}


def test_splits_have_a_row_each_under_their_names() -> None:
    metric = "test_neg_elbo_bits_per_dim"
    names = ["freyfaces", "freyfaces-231"]
    trials = [replace(FREY, dataset=DatasetRef(name, "d")) for name in names]
    found = tables(*(Case(trial, {metric: 4.39}) for trial in trials))["verdicts"]
    assert [(row[0], row[-1]) for row in found if row[2] == "FFJORD" and row[4] == "Table 3"] == [
        (name, "reproduced: 0.000, within 0.028") for name in names
    ]


def test_every_set_up_of_a_dataset_with_variants_names_the_dataset() -> None:
    values = [v for v in published() if v.setup and v.dataset in VARIANTS.values()]
    assert {v.dataset for v in values} == set(VARIANTS.values())
    for value in values:
        assert "dataset.name" in {condition.name for condition in value.setup or ()}


def test_seeds_that_failed_are_said() -> None:
    found = tables(Case(POWER, {"test_nll": -0.46}, ok=2))["verdicts"]
    assert found[0][5] == "−0.465 ± 0.007 (2 of 3)"


PRINTED = [
    row for dataset in DATASETS for metric in METRICS for row in published_rows(dataset, metric)
]


def test_what_only_memory_supports_is_in_no_row() -> None:
    marks = {value.mark for row in PRINTED for value in row}
    assert marks == {"V", "V2", "R", "M+"}
    hidden = [v for v in published(unprintable=True) if v.mark == "M"]
    assert {"CP-Flow", "RNODE + STEER"} <= {v.model for v in hidden}
    printed = {(v.source, v.model, v.dataset, v.metric) for row in PRINTED for v in row}
    assert not any((v.source, v.model, v.dataset, v.metric) in printed for v in hidden)


def test_a_page_of_everything_prints_no_value_of_mark_m() -> None:
    page = page_of(plan_of(), frame(), root=None, history=HISTORY)
    for text in (render_html(page, draw(page)), render_markdown(page)):
        assert "Stochastic interpolants" in text  # mark M+, printed with its mark explained
        assert "recalled from memory" in text
        assert "CP-Flow" not in text
        assert "STEER" not in text


def test_marks_and_spreads_are_explained_where_they_are_printed() -> None:
    blocks = section(Case(POWER, {"test_nll": -0.46}))
    found = {block.id: block for block in blocks if isinstance(block, Table)}
    notes = found["published-power-test_nll"].note or ""
    for words in ("Mark M+:", "Mark R:", "over 3 runs", "over test points", "other sign"):
        assert words in notes
    note = found["verdicts"].note or ""
    assert "A smaller model than the FFJORD paper's" in note
    assert "no distance in D dimensions" in note


def test_every_published_value_of_a_record_s_metric_has_a_target_row() -> None:
    for dataset in DATASETS:
        for metric in {v.metric for v in published(dataset)} & set(DEFINITIONS):
            first = published_rows(dataset, metric)[0][0]
            assert first.is_target, (dataset, metric)


def test_every_verdict_is_among_the_invented_records() -> None:
    kinds = {
        own.verdict.kind
        for members in verdicts(*CASES).judged.values()
        for one in members
        for own in one.verdicts.values()
    }
    assert kinds == {"reproduced", "differs", "not comparable", "not run"}


def test_text_of_trials_is_never_markup() -> None:
    case = Case(replace(POWER, dataset=DatasetRef("power-<b>x</b>", "d")), {"test_nll": -0.46})
    page = page_of(plan_of((case,)), frame((case,)), root=None, history=HISTORY)
    text = render_html(page, draw(page))
    assert "<b>x</b>" not in text
    assert "power-&lt;b&gt;x&lt;/b&gt;, another dataset than power" in text
    assert r"power-\<b\>x\</b\>, another dataset" in render_markdown(page)
