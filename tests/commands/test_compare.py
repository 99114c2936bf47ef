"""`harness compare`: two roots of hand-made records with known answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import result_json

from harness.commands.compare import compare as compare_roots
from harness.commands.compare import comparison_json, comparison_text
from harness.comparison.margin import margin_of
from harness.comparison.settings import pair_settings
from harness.comparison.sides import Comparison, Margins, compare_settings
from harness.errors import InputError
from harness.records.folder import Record, TrialFolder
from harness.specs.resources import Resources
from harness.trial import AdaptiveSolver, DatasetRef, Trial

SEEDS = range(8)
NLL = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.0]


def trial(seed: int, backend: str = "torch", dataset: str = "moons", digest: str = "d") -> Trial:
    return Trial(DatasetRef(dataset, digest), backend, AdaptiveSolver("dopri5"), seed=seed)


def result(
    one: Trial, nll: float | None, step_s: float = 0.02, mode: str = "exclusive", on: str = "here"
) -> dict[str, Any]:
    return result_json(
        one.id,
        status="ok" if nll is not None else "diverged",
        metrics={} if nll is None else {"test_nll": {"value": nll, "unit": "nats", "n": 100}},
        timing={"step_s": {"median": step_s, "q25": step_s, "q75": step_s, "n": 9}, "mode": mode},
        environment={"hardware_fingerprint": on},
    )


def write(root: Path, one: Trial, content: Mapping[str, Any]) -> None:
    folder = TrialFolder(root, one.id)
    folder.write_spec(one, Resources())
    folder.result.write_text(json.dumps(content))


def in_memory(one: Trial, content: Mapping[str, Any]) -> Record:
    return Record(TrialFolder(Path("nowhere"), one.id), one, content)


@pytest.fixture
def roots(tmp_path: Path) -> Callable[..., Comparison]:
    """Compares two roots of one setting; `change` makes the result of a seed on the second."""

    def call(
        change: Callable[[Trial], dict[str, Any]], margins: Margins | None = None
    ) -> Comparison:
        for seed in SEEDS:
            one = trial(seed)
            write(tmp_path / "a", one, result(one, NLL[seed]))
            write(tmp_path / "b", one, change(one))
        return compare_roots(tmp_path / "a", tmp_path / "b", margins or Margins())

    return call


def test_equal_roots_are_the_same(roots: Callable[..., Comparison]) -> None:
    found = roots(lambda one: result(one, NLL[one.seed]))
    (setting,) = found.settings
    assert setting.quality is not None
    assert setting.speed is not None
    assert found.quality is not None
    assert found.speed is not None
    assert setting.quality.outcome == setting.speed.outcome == "same"
    assert found.quality.outcome == found.speed.outcome == "same"
    assert found.regressions() == []
    # That of the report: a tenth of the standard deviation over the seeds of the first side.
    assert setting.quality.margin == margin_of(NLL, float(np.std(NLL, ddof=1)))


def test_worse_quality_and_speed_are_regressions(roots: Callable[..., Comparison]) -> None:
    jitter = [0.0, 0.002, -0.002, 0.001, -0.001, 0.0, 0.001, -0.001]
    found = roots(lambda one: result(one, NLL[one.seed] + 0.1 + jitter[one.seed], 0.021))
    (setting,) = found.settings
    assert setting.quality is not None
    assert setting.quality.outcome == "worse"
    assert setting.quality.estimate == pytest.approx(0.1)
    assert setting.ratio == pytest.approx(1.05)
    assert len(found.regressions()) == 4  # quality and speed, in the setting and in sum
    text = comparison_text(found)
    assert "x1.0500" in text
    assert text.count("regression: ") == 4


def test_better_is_no_regression(roots: Callable[..., Comparison]) -> None:
    found = roots(lambda one: result(one, NLL[one.seed] - 0.1, 0.018))
    assert found.quality is not None
    assert found.speed is not None
    assert (found.quality.outcome, found.speed.outcome) == ("better", "better")
    assert found.regressions() == []


def test_a_trial_that_fails_now_is_a_regression(roots: Callable[..., Comparison]) -> None:
    found = roots(lambda one: result(one, None if one.seed == 3 else NLL[one.seed]))
    assert found.regressions() == [
        "moons torch dopri5 rtol=1e-05 atol=1e-05 none: 1 of 8 failed, before 0"
    ]
    quality = found.settings[0].quality
    assert quality is not None
    assert quality.n == 7


@pytest.mark.parametrize(
    ("mode", "on", "reason"),
    [("shared", "here", "shared the machine"), ("exclusive", "there", "hardware differs")],
)
def test_unfair_timings_give_a_ratio_and_no_verdict(
    roots: Callable[..., Comparison], mode: str, on: str, reason: str
) -> None:
    found = roots(lambda one: result(one, NLL[one.seed], 0.04, mode, on))
    (setting,) = found.settings
    assert setting.speed is None
    assert setting.unfair is not None
    assert reason in setting.unfair
    assert setting.ratio == pytest.approx(2.0)
    assert found.speed is None
    assert found.regressions() == []
    assert "speed in sum: not judged" in comparison_text(found)


def test_one_seed_has_no_verdict_unless_the_bits_are_equal() -> None:
    one = trial(0)
    for shift, outcome in ((0.0, "same"), (0.01, "one pair")):
        sides = [in_memory(one, result(one, 1.0))], [in_memory(one, result(one, 1.0 + shift))]
        (setting,) = compare_settings(pair_settings(*sides), Margins()).settings
        assert setting.quality is not None
        assert setting.quality.outcome == outcome


def test_unequal_seeds_missing_settings_and_other_data_are_not_paired() -> None:
    first = [*(trial(seed) for seed in range(4)), trial(0, dataset="pinwheel"), trial(0, "jax")]
    second = [*(trial(seed) for seed in range(2, 6)), trial(0, dataset="circles")]
    second.append(trial(0, "jax", digest="other"))
    a, b = ([in_memory(each, result(each, 1.0)) for each in side] for side in (first, second))
    found = compare_settings(pair_settings(a, b), Margins())
    assert [each.setting.seeds for each in found.settings] == [(2, 3)]
    names = [
        [each.name.split()[:2] for each in side] for side in (found.only_first, found.only_second)
    ]
    assert names == [[["moons", "jax"], ["pinwheel", "torch"]], [["circles", "torch"]]]


def test_backends_of_one_root_compare_across_the_axis(tmp_path: Path) -> None:
    for seed in SEEDS:
        for backend, step_s in (("torch", 0.02), ("jax", 0.01)):
            one = trial(seed, backend)
            write(tmp_path, one, result(one, NLL[seed], step_s))
    found = compare_roots(tmp_path, tmp_path, Margins(), across="backend=torch,jax")
    (setting,) = found.settings
    assert setting.ratio == pytest.approx(0.5)
    assert setting.speed is not None
    assert setting.speed.outcome == "better"
    assert "backend" not in setting.setting.labels
    plain = json.loads(json.dumps(comparison_json(found)))
    assert plain["log_step_time"]["estimate"] == pytest.approx(math.log(0.5))


@pytest.mark.parametrize(
    ("across", "message"),
    [
        ("bakend=torch,jax", "did you mean 'backend'"),
        ("backend=torch", "does not name two values"),
        ("backend=torch,torch", "does not name two values"),
        ("backend=torch,mlx", "no setting with a common seed"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, across: str, message: str) -> None:
    write(tmp_path, trial(0), result(trial(0), 1.0))
    with pytest.raises(InputError, match=message):
        compare_roots(tmp_path, tmp_path, Margins(), across=across)
    with pytest.raises(InputError, match="no run root"):
        compare_roots(tmp_path / "absent", tmp_path, Margins())


def test_a_planted_slowdown_is_seen_and_equal_commits_are_not_slower() -> None:
    """Twenty repetitions each: two settings, eight seeds, steps that vary by one per cent."""
    rng = np.random.default_rng(3)
    trials = [trial(seed, dataset=name) for name in ("moons", "circles") for seed in SEEDS]

    def alarms(slowdown: float) -> int:
        def side(factor: float) -> list[Record]:
            noise = np.exp(0.01 * rng.standard_normal(len(trials)))
            times = (0.02 * factor * noise).tolist()
            return [
                in_memory(each, result(each, NLL[each.seed], step_s))
                for each, step_s in zip(trials, times, strict=True)
            ]

        found = compare_settings(pair_settings(side(1.0), side(slowdown)), Margins())
        return bool(found.regressions())

    assert sum(alarms(1.0) for _ in range(20)) == 0
    assert sum(alarms(1.03) for _ in range(20)) >= 19
    # Exactly at the margin the family of tests keeps its level: at most 5 % of 400.
    assert sum(alarms(1.01) for _ in range(400)) <= 20 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_the_gate_is_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli import main

    for seed in SEEDS:
        one = trial(seed)
        write(tmp_path / "a", one, result(one, NLL[seed]))
        write(tmp_path / "b", one, result(one, NLL[seed], 0.0206))

    def call(*options: str) -> int:
        argv = ["harness", "compare", str(tmp_path / "a"), str(tmp_path / "b"), *options]
        monkeypatch.setattr("sys.argv", argv)
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    assert call() == 0
    assert call("--gate") == 3
    assert call("--gate", "--speed-margin", "0.05") == 0
    capsys.readouterr()
    assert call("--gate", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["settings"][0]["step_time_ratio"] == pytest.approx(1.03)
    assert len(found["regressions"]) == 2


def test_records_of_one_trial_that_repeat_count_once() -> None:
    old, new = trial(0), replace(trial(0), identity="f" * 16)
    first = [
        in_memory(old, {**result(old, 1.0), "finished_ms": 1}),
        in_memory(new, {**result(new, 2.0), "finished_ms": 2}),
    ]
    (setting,) = pair_settings(first, first)
    assert setting.quality() == [(2.0, 2.0)]
