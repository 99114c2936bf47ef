"""Set-ups behind published values: what a trial must be, and how it departs from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from harness_reports.published.library import published
from harness_reports.published.paper_files import read_papers
from harness_reports.published.setups import (
    METRIC_N,
    Condition,
    Departure,
    departures,
    in_words,
    known_names,
    values_of,
)
from harness_reports.published.values import VARIANTS
from published_records import BSDS300, GAS, HEPMASS, MINIBOONE, MNIST, POWER, reduced, target

from harness.errors import InputError
from harness.planning.plan import plan
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    EndTime,
    Evaluation,
    FixedSolver,
    FlowMatching,
    Patience,
    Trial,
)

PAPER = {
    "power": POWER,
    "gas": GAS,
    "hepmass": HEPMASS,
    "miniboone": MINIBOONE,
    "bsds300": BSDS300,
}


def reason(trial: Trial, dataset: str = "power", metric: str = "test_nll") -> str:
    found = target(dataset, metric)
    assert found is not None
    assert found.setup is not None
    return in_words(departures(found.setup, values_of(trial)))


@pytest.mark.parametrize("dataset", PAPER)
def test_the_papers_own_set_up_departs_in_nothing(dataset: str) -> None:
    assert reason(PAPER[dataset], dataset) == ""
    squash = replace(PAPER[dataset].model, layer="concatsquash", end_time=EndTime(1.0, "inert"))
    assert reason(replace(PAPER[dataset], model=squash), dataset) == ""


def test_the_paper_s_image_model_departs_in_nothing() -> None:
    assert reason(MNIST, "mnist", "test_bits_per_dim") == ""


@pytest.mark.parametrize("dataset", PAPER)
def test_other_datasets_need_other_models(dataset: str) -> None:
    others = [trial for name, trial in PAPER.items() if name != dataset]
    assert all("other model" in reason(trial, dataset) for trial in others)


MODEL, TRAINING, EVALUATION = POWER.model, POWER.training, POWER.evaluation


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (
            replace(POWER, model=replace(MODEL, hidden=(64, 64), blocks=1)),
            "other model (hidden 64-64 instead of 60-60-60, blocks 1 instead of 5)",
        ),
        (
            replace(POWER, model=replace(MODEL, layer="ignore")),
            "other model (layer ignore instead of concat or concatsquash)",
        ),
        (
            replace(POWER, model=replace(MODEL, end_time=EndTime(0.5))),
            "other end time (value 0.5 instead of 1)",
        ),
        # Kinds of model that the set-up does not name are other models, too.
        (
            replace(POWER, model=replace(MODEL, residual=True)),
            "other model (residual yes instead of no)",
        ),
        (
            replace(POWER, model=replace(MODEL, batch_norm=BatchNorm())),
            "other model (batch norm)",
        ),
        (
            replace(POWER, training=replace(TRAINING, iterations=1000)),
            "short training (iterations 1,000 instead of at least 6,200)",
        ),
        (
            replace(POWER, training=replace(TRAINING, patience=Patience(stop=5))),
            "short training (stop 5 instead of at least 30)",
        ),
        (
            replace(POWER, training=replace(TRAINING, batch=100)),
            "other training (batch 100 instead of 10,000)",
        ),
        (
            replace(POWER, solver=FixedSolver("rk4_38", 8)),
            "other solver (name rk4_38 instead of dopri5)",
        ),
        (
            replace(POWER, evaluation=Evaluation(solver=AdaptiveSolver("dopri5", rtol=1e-3))),
            "other solver (rtol 0.001 instead of at most 1e-06, atol 1e-05 instead of at most "
            "1e-08)",
        ),
        (
            replace(POWER, evaluation=replace(EVALUATION, rows=2000)),
            "a part of the test rows (rows 2,000)",
        ),
        (
            replace(POWER, regularizer={"rnode.kinetic": 0.01}),
            "other regularizer (rnode.kinetic=0.01 instead of none)",
        ),
        (
            replace(POWER, objective=FlowMatching()),
            "other objective (name flow_matching instead of likelihood)",
        ),
    ],
)
def test_departures_are_said_in_words(trial: Trial, words: str) -> None:
    assert reason(trial) == words


def test_training_without_early_stop_is_not_short() -> None:
    assert reason(replace(POWER, training=replace(TRAINING, patience=Patience()))) == ""


def test_departures_come_model_first() -> None:
    trial = replace(reduced(POWER), solver=FixedSolver("rk4_38", 8))
    assert reason(trial).startswith("other model (")


def test_paddingflow_s_ffjord_is_another_than_the_paper_s() -> None:
    setup = getattr(target("power", "min_cd"), "setup", None)
    assert setup is not None
    values = values_of(reduced(POWER))
    assert departures(setup, values | {METRIC_N: 100}) == ()
    few = departures(setup, values | {METRIC_N: 10})
    assert few == (Departure("other samplings", "n 10 instead of 100"),)
    assert "other model" in in_words(departures(setup, values_of(POWER) | {METRIC_N: 100}))


def test_a_condition_holds_if_any_part_does() -> None:
    condition = Condition("training.patience.stop", (None,), at_least=30)
    assert condition.holds(None)
    assert condition.holds(30)
    assert not condition.holds(29)
    assert not condition.holds("30")
    assert not Condition("model.residual", at_least=0).holds(True)
    assert Condition("solver.rtol", at_most=1e-6).holds(1e-8)


def test_values_tell_the_solver_that_evaluates_and_the_examples_seen() -> None:
    values = values_of(POWER)
    assert values["evaluation.solver.rtol"] == 1e-6
    assert values["training.examples"] == 1_000_000_000
    assert values["regularizer"] == "none"
    assert values["model.hidden"] == (60, 60, 60)
    assert set(values) <= known_names()


def test_every_value_with_a_set_up_says_what_the_model_is() -> None:
    trained = [v for v in published() if v.setup is not None and v.metric != "gaussian_nll"]
    assert trained
    for value in trained:
        assert {"model.hidden", "model.layer"} <= {c.name for c in value.setup or ()}


HEAD = "source: a\ntitle: t\nauthors: b\nseen: s\n"
TABLE = """tables:
  - table: T
    metric: test_nll
    published_as: NLL
    unit: nats
    direction: lower
    mark: V
    rows:
      - {model: A, setup: s, values: {power: "1.0"}}
"""
SETUPS = (
    "setups:\n  s:\n    common: {solver.name: dopri5}\n    datasets: {power: {model.blocks: 2}}\n"
)


def test_conditions_of_a_dataset_replace_common_ones(tmp_path: Path) -> None:
    text = SETUPS.replace("{solver.name: dopri5}", "{model.blocks: 1, solver.name: dopri5}")
    (tmp_path / "a.yaml").write_text(HEAD + text + TABLE)
    (value,) = read_papers(tmp_path)[1]
    assert value.setup == (Condition("model.blocks", (2,)), Condition("solver.name", ("dopri5",)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("solver.name", "solver.nam", "no spec has a value 'solver.nam'"),
        ("dopri5", "{any: [dopri5]}", "unknown key 'any'"),
        ("dopri5", "{at_least: many}", "must be a number"),
        ("setup: s", "setup: t", "unknown set-up 't'"),
        ("power: {model", "gas: {model", "does not say what 'power' needs"),
        ("setup: s, ", "", "no row names the set-up 's'"),
    ],
)
def test_mistakes_in_set_ups_are_errors(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = HEAD + SETUPS + TABLE
    assert old in text
    (tmp_path / "a.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=r"a\.yaml") as error:
        read_papers(tmp_path)
    assert message in str(error.value)


def test_the_suite_of_the_paper_meets_every_set_up_of_the_paper(tmp_path: Path) -> None:
    found = plan("paper", tmp_path, check_backends=False)
    trials = [planned.trial for planned in found.trials]
    values = [v for v in published() if v.source == "ffjord" and v.setup is not None]
    assert len({(v.dataset, v.metric, v.model) for v in values}) == 12
    for value in values:
        assert value.setup is not None
        variants = {value.dataset, *(name for name, of in VARIANTS.items() if of == value.dataset)}
        own = [trial for trial in trials if trial.dataset.name in variants]
        met = [trial for trial in own if not departures(value.setup, values_of(trial))]
        assert {trial.backend for trial in met} == {"torch", "jax"}, value
        assert len(met) >= 2 * (value.runs or 1), value
