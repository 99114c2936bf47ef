"""Suites: which trials a file means."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.reading.validation import Problems, validate
from harness.reading.yaml import parse_yaml
from harness.suites.grid import Point, expand
from harness.suites.presets import KINDS, PROTOCOLS, DataKind, preset
from harness.suites.suite import load_suite
from harness.trial import (
    AdaptiveSolver,
    EndTime,
    FixedSolver,
    FlowMatching,
    LibrarySolver,
    MaximumLikelihood,
    Optimizer,
    Patience,
    Posterior,
    Trial,
    canonical,
    identity_of,
)

BLOCK = "{dataset: moons, backend: torch, solver: dopri5}"


class Folder:
    """Writes suite files and expands them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str, name: str = "s.yaml") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def points(self, text: str) -> list[Point]:
        return list(expand(load_suite(self.write(text))))

    def trials(self, text: str) -> list[Trial]:
        return [point.trial for point in self.points(text)]

    def error(self, text: str) -> str:
        with pytest.raises(InputError) as caught:
            self.points(text)
        return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(Path())


def test_lists_multiply_on_axes_and_are_values_elsewhere(folder: Folder) -> None:
    trials = folder.trials(
        "name: x\ntrials:\n"
        "  - dataset: [moons, rings]\n"
        "    backend: [torch, jax]\n"
        "    solver: [dopri5, {name: rk4_38, steps: 8}]\n"
        "    regularizer: [none, {rnode.kinetic: 0.01, rnode.jacobian: 0.02}]\n"
        "    model: {hidden: [32, 16]}\n"
        "    gradient: [direct, adjoint]\n"
        "    precision: [float32, float64]\n"
        "    seed: [0, 1, 2]\n"
    )
    assert len(trials) == 2**6 * 3
    assert len({trial.id for trial in trials}) == len(trials)
    assert {trial.model.hidden for trial in trials} == {(32, 16)}
    assert [trial.seed for trial in trials[:4]] == [0, 1, 2, 0]
    assert trials[0].solver == AdaptiveSolver("dopri5")
    assert trials[-1].solver == FixedSolver("rk4_38", 8)
    assert trials[0].regularizer == {}
    assert trials[-1].regularizer == {"rnode.jacobian": 0.02, "rnode.kinetic": 0.01}


def test_the_grid_gives_the_identity_that_trials_give_themselves(folder: Folder) -> None:
    trials = folder.trials(
        "name: x\ntrials:\n"
        "  - dataset: digits\n    backend: [torch, jax]\n"
        "    solver: [{name: tsit5, rtol: 1, first_step: 0.1}, {name: euler, steps: 3}]\n"
        "    regularizer: [none, {rnode.kinetic: 1}]\n"
        "    evaluation: {solver: {name: dopri5, rtol: 1e-6, atol: 1e-8}, rows: 100}\n"
        "    training: {protocol: released-code, validation_rows: 50}\n"
        "    seed: [0, 12345678901234567890]\n"
    )
    for trial in trials:
        fresh = Trial(**{name: getattr(trial, name) for name in Trial.__dataclass_fields__})
        assert trial.id == fresh.id


def test_a_block_is_laid_over_the_defaults(folder: Folder) -> None:
    (trial,) = folder.trials(
        "name: x\n"
        "defaults:\n"
        "  backend: torch\n  seed: [0, 1]\n"
        "  model: {hidden: [8], end_time: {value: 0.5, mode: trained}}\n"
        "  training: {iterations: 7, optimizer: {lr: 0.5}}\n"
        "  evaluation: {rows: 10, solver: {name: dopri5, rtol: 1e-3}}\n"
        "trials:\n"
        "  - dataset: moons\n    solver: dopri5\n    seed: 3\n"
        "    model: {end_time: {value: 2}}\n"
        "    training: {batch: 9}\n"
        "    evaluation: {solver: {name: euler, steps: 4}}\n"
    )
    assert trial.seed == 3
    assert trial.model.hidden == (8,)
    assert (trial.model.end_time.value, trial.model.end_time.mode) == (2.0, "trained")
    assert (trial.training.iterations, trial.training.batch) == (7, 9)
    assert trial.training.optimizer.lr == 0.5
    assert trial.evaluation.rows == 10
    assert trial.evaluation.solver == FixedSolver("euler", 4)


def test_every_form_of_a_solver_and_of_an_engine(folder: Folder) -> None:
    trials = folder.trials(
        "name: x\ntrials:\n"
        "  - dataset: moons\n    backend: torch\n    engine: [native, library]\n"
        "    solver:\n"
        "      - dopri8\n"
        "      - {name: dopri5, first_step: warm, end: interpolate}\n"
        "      - {library: 'torchdiffeq:adaptive_heun', rtol: 1e-3}\n"
        "      - {library: 'diffrax:Ralston', steps: 4}\n"
        "    evaluation: {solver: {library: 'torchdiffeq:fehlberg2'}}\n"
    )
    assert [trial.solver for trial in trials[::2]] == [
        AdaptiveSolver("dopri8"),
        AdaptiveSolver("dopri5", first_step="warm", end="interpolate"),
        LibrarySolver("torchdiffeq:adaptive_heun", rtol=1e-3),
        LibrarySolver("diffrax:Ralston", steps=4),
    ]
    assert {trial.engine for trial in trials} == {"native", "library"}
    assert trials[0].evaluation.solver == LibrarySolver("torchdiffeq:fehlberg2")


def test_null_takes_a_default_back(folder: Folder) -> None:
    (trial,) = folder.trials(
        "name: x\ndefaults: {evaluation: {rows: 10, solver: dopri5}}\n"
        f"trials: [{BLOCK[:-1]}, evaluation: {{rows: null, solver: null}}}}]\n"
    )
    assert trial.evaluation.rows is None
    assert trial.evaluation.solver is None
    assert trial.evaluation_solver == trial.solver


def test_a_merged_axis_multiplies_over_the_defaults(folder: Folder) -> None:
    trials = folder.trials(
        "name: x\ndefaults: {model: [{hidden: [4]}, {hidden: [5]}]}\n"
        f"trials: [{BLOCK[:-1]}, model: [{{blocks: 1}}, {{blocks: 2}}]}}]\n"
    )
    assert [(t.model.hidden, t.model.blocks) for t in trials] == [
        ((4,), 1),
        ((4,), 2),
        ((5,), 1),
        ((5,), 2),
    ]


def test_a_protocol_supplies_what_the_suite_leaves_out(folder: Folder) -> None:
    trials = folder.trials(
        "name: x\ntrials:\n"
        "  - {dataset: power, backend: torch, solver: dopri5, model: {end_time: {value: 0.5}},\n"
        "     training: [{protocol: paper, trace: exact}, {protocol: released-code}, {}]}\n"
    )
    paper, released, bare = trials
    assert (paper.model.layer, paper.model.end_time.mode) == ("concat", "fixed")
    assert (released.model.layer, released.model.end_time.mode) == ("concatsquash", "inert")
    assert (bare.model.layer, bare.model.end_time.mode) == ("concatsquash", "fixed")
    assert [t.model.end_time.value for t in trials] == [0.5, 0.5, 0.5]
    assert [t.training.trace for t in trials] == ["exact", "hutchinson", "hutchinson"]
    assert [t.training.protocol for t in trials] == ["paper", "released-code", None]


def test_a_protocol_follows_the_kind_of_the_data(folder: Folder) -> None:
    trials = folder.trials(
        "name: x\ntrials:\n"
        "  - {dataset: [power, miniboone, moons, mnist], backend: torch, solver: dopri5,\n"
        "     training: [{protocol: paper}, {protocol: released-code}]}\n"
        "  - {dataset: omniglot, backend: torch, solver: [dopri5, {name: euler, steps: 9}],\n"
        "     training: {protocol: released-code}}\n"
    )
    names = [trial.dataset.name for trial in trials]
    assert names == ["power", "miniboone"] * 2 + ["moons"] * 2 + ["mnist"] * 2 + ["omniglot"] * 2
    found = {(t.dataset.name, t.training.protocol): t for t in reversed(trials)}
    table, released = found["power", "paper"], found["miniboone", "released-code"]
    assert table.training.patience == Patience((10, 20), 30)
    assert table.training.optimizer == Optimizer("adam", weight_decay=1e-6)
    assert table.solver == AdaptiveSolver("dopri5", 1e-6, 1e-8)
    assert released.training.optimizer == Optimizer("adam_eps_hat", weight_decay=1e-6)
    its_own = AdaptiveSolver(
        "dopri5",
        1e-6,
        1e-8,
        end="interpolate",
        backward_first_step="heuristic",
        regularizers_in_norm=True,
    )
    assert released.solver == its_own
    assert released.model.end_time == EndTime(1.0, "inert")
    toy = found["moons", "released-code"]
    assert (toy.training.trace, toy.training.patience) == ("exact", Patience())
    assert (toy.model.layer, toy.model.end_time) == ("concatsquash", EndTime(0.5, "inert"))
    image = found["mnist", "released-code"]
    assert (image.model.layer, image.evaluation.trace) == ("concat", "hutchinson")
    assert image.solver == replace(its_own, rtol=1e-5, atol=1e-5, log_volume_in_state=True)
    assert (image.training.probe, image.training.schedule.warmup) == ("rademacher", 1000)
    assert found["mnist", "paper"].training.schedule.warmup == 0
    vae = found["omniglot", "released-code"]
    assert vae.model.posterior == Posterior(64)
    assert vae.training.optimizer == Optimizer("adamax", 5e-4, 1e-7)
    assert trials[-1].solver == FixedSolver("euler", 9)


def test_objectives(folder: Folder) -> None:
    text = f"name: x\ntrials:\n  - {BLOCK[:-1]}, objective: OBJECTIVE}}"
    forms = (
        "[likelihood, {name: likelihood}, flow_matching, {name: flow_matching, path: vp,"
        " coupling: minibatch_ot}, {name: flow_matching, sigma_min: 0.01}]"
    )
    found = [trial.objective for trial in folder.trials(text.replace("OBJECTIVE", forms))]
    assert found == [
        MaximumLikelihood(),
        FlowMatching(),
        FlowMatching("vp", "minibatch_ot"),
        FlowMatching(sigma_min=0.01),
    ]


def test_a_trial_has_the_id_it_had_before_there_were_objectives(folder: Folder) -> None:
    block = f"name: x\ntrials:\n  - {BLOCK[:-1]}"
    (before,) = folder.trials(block + "}")
    (same,) = folder.trials(block + ", objective: likelihood}")
    (other,) = folder.trials(block + ", objective: flow_matching}")
    assert same.id == before.id == identity_of(canonical(before)) != other.id
    assert other.id == identity_of(canonical(other))


def test_a_suite_overrules_its_protocol(folder: Folder) -> None:
    (trial,) = folder.trials(
        "name: x\ntrials:\n"
        "  - {dataset: power, backend: jax, solver: {name: tsit5, end: stop, rtol: 1e-3},\n"
        "     evaluation: {solver: dopri5},\n"
        "     training: {protocol: released-code, patience: {stop: null}}}\n"
    )
    assert trial.solver == AdaptiveSolver(
        "tsit5", 1e-3, 1e-8, backward_first_step="heuristic", regularizers_in_norm=True
    )
    assert trial.evaluation.solver == replace(
        AdaptiveSolver("dopri5", 1e-6, 1e-8, end="interpolate"),
        backward_first_step="heuristic",
        regularizers_in_norm=True,
    )
    assert trial.training.patience == Patience((10, 20), None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocols_hold_only_valid_values(protocol: str, kind: DataKind) -> None:
    from harness.trial import Evaluation, ModelSpec, Training

    kinds: dict[str, Any] = {
        "model": ModelSpec,
        "training": Training,
        "evaluation": Evaluation,
        "solver": AdaptiveSolver,
    }
    found = preset(protocol, kind)
    assert found.keys() == kinds.keys()
    for axis, defaults in found.items():
        problems = Problems()
        node = parse_yaml("{name: dopri5}" if axis == "solver" else "{}", "empty")
        assert validate(kinds[axis], node, axis, problems, defaults=defaults) is not None
        problems.raise_if_any()


def test_a_repeated_trial_appears_once(folder: Folder) -> None:
    trials = folder.trials(f"name: x\ntrials:\n  - {BLOCK[:-1]}, seed: [0, 0, 1]}}\n  - {BLOCK}\n")
    assert [trial.seed for trial in trials] == [0, 1]


def test_excluded_trials_stay_with_their_reason(folder: Folder) -> None:
    points = folder.points(
        f"name: x\ntrials:\n  - {BLOCK[:-1]}, seed: [0, 1, 2]}}\n"
        "exclude:\n  - {when: seed=1, reason: bad}\n  - {when: 'seed=1|seed=2', reason: late}\n"
    )
    assert [point.excluded for point in points] == [None, "bad", "late"]


def test_a_large_grid_is_refused_before_it_is_made(folder: Folder) -> None:
    seeds = ", ".join(map(str, range(1001)))
    text = (
        f"name: x\ntrials:\n  - {BLOCK[:-1]}, seed: [{seeds}],\n"
        f"     model: [{', '.join(f'{{blocks: {i + 1}}}' for i in range(1000))}]}}\n"
    )
    assert "the grid has 1,001,000 trials; at most 1,000,000" in folder.error(text)


def test_includes_bring_their_own_defaults_and_resources(folder: Folder) -> None:
    folder.write(
        f"name: toy\ndefaults: {{seed: 7}}\ntrials: [{BLOCK}]\nresources: {{cpus: 2}}\n",
        "parts/toy.yaml",
    )
    included, own = folder.points(
        "name: x\ninclude: [parts/toy.yaml]\n"
        "trials:\n  - {dataset: rings, backend: jax, solver: tsit5}\n"
        "exclude: [{when: dataset=moons, reason: enough}]\n"
    )
    assert (included.trial.dataset.name, included.trial.seed) == ("moons", 7)
    assert (included.resources.cpus, included.excluded) == (2, "enough")
    assert (own.trial.dataset.name, own.trial.seed, own.resources.cpus) == ("rings", 0, 1)


def test_a_trial_excluded_elsewhere_runs_where_it_is_wanted(folder: Folder) -> None:
    folder.write(
        f"name: toy\ntrials: [{BLOCK}]\nexclude: [{{when: seed=0, reason: no}}]\n",
        "toy.yaml",
    )
    (point,) = folder.points(f"name: x\ninclude: toy.yaml\ntrials: [{BLOCK}]\n")
    assert point.excluded is None


def test_a_cycle_of_includes_is_shown(folder: Folder) -> None:
    folder.write("name: b\ninclude: sub/c.yaml\n", "b.yaml")
    folder.write("name: c\ninclude: ../s.yaml\n", "sub/c.yaml")
    text = folder.error("name: a\ninclude: b.yaml\n")
    assert text.startswith("sub/c.yaml:2:10: the files include each other")
    assert "s.yaml -> b.yaml -> c.yaml -> s.yaml" in text


def test_the_same_file_included_twice_is_no_cycle(folder: Folder) -> None:
    folder.write(f"name: toy\ntrials: [{BLOCK}]\n", "toy.yaml")
    folder.write("name: b\ninclude: toy.yaml\n", "b.yaml")
    assert len(folder.points("name: a\ninclude: [b.yaml, toy.yaml]\n")) == 1


def test_mistakes_of_all_files_come_in_one_pass(folder: Folder) -> None:
    folder.write(f"name: toy\ntrials: [{BLOCK}]\nbuget: {{}}\n", "toy.yaml")
    folder.write("name: [", "bad.yaml")
    text = folder.error("name: x\nseeds: 1\ninclude: [toy.yaml, bad.yaml]\n")
    assert "s.yaml:2:1: unknown key 'seeds'" in text
    assert "toy.yaml:3:1: unknown key 'buget'" in text
    assert "bad.yaml:1:8: YAML syntax error" in text


def test_one_mistake_in_the_defaults_is_reported_once(folder: Folder) -> None:
    text = folder.error(f"name: x\ndefaults: {{precision: f32}}\ntrials: [{BLOCK}, {BLOCK}]\n")
    assert text.count("unknown precision") == 1


def test_a_suite_of_includes_without_trials_is_an_error(folder: Folder) -> None:
    folder.write("name: toy\ninclude: []\n", "toy.yaml")
    assert "the suite 'x' has no trials" in folder.error("name: x\ninclude: toy.yaml\n")


def test_gates_are_gathered_from_includes(folder: Folder) -> None:
    folder.write(
        f"name: toy\ntrials: [{BLOCK}]\n"
        "gates: [{when: dataset=moons, metric: test_nll, below: gaussian_nll, margin: 1}]\n",
        "toy.yaml",
    )
    suite = load_suite(
        folder.write(
            "name: x\ninclude: toy.yaml\ngates: [{when: seed=0, metric: val_nll, below: 3}]\n"
        )
    )
    gates = [placed.gate for placed in suite.all_gates()]
    assert [(g.metric, g.below, g.margin) for g in gates] == [
        ("test_nll", "gaussian_nll", 1.0),
        ("val_nll", 3.0, 0.0),
    ]


def test_the_documented_example_is_a_suite(folder: Folder) -> None:
    page = Path(__file__).parents[2] / "docs" / "suites.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    folder.write(f"name: toy\ntrials: [{BLOCK}]\n", "toy.yaml")
    points = folder.points(text)
    assert len(points) == 1 + 2 * 2 * 2 * 2 * 2
    assert sum(point.excluded is not None for point in points) == 8
