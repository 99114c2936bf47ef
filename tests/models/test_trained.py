"""A trained model in use, by the fake backend: what is asked of it, and what it refuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, write_spec

import harness
from harness.datasets.registry import load, outline
from harness.errors import AnswerError, DataError, InputError
from harness.interface import EvaluationReport, Nfe
from harness.models.trained import Trained
from harness.records.folder import TrialFolder
from harness.records.trained import TrainedFolder
from harness.trial import EndTime, Evaluation, ModelSpec, Posterior, Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")

Open = Callable[..., Trained]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Trains a trial and opens its model."""
    monkeypatch.setattr("harness.models.opening.get_backend", lambda name: FakeBackend())

    def open_trial(trial: Trial, **options: Any) -> Trained:  # noqa: ANN401
        write_spec(tmp_path, trial)
        run_fake(tmp_path, trial)
        return harness.trained(tmp_path, trial.id[:8], **options)

    return open_trial


def test_log_prob_of_the_test_rows_is_what_the_record_says(opened: Open, tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    model = opened(trial)
    x = load("moons").rows("test", 100).x
    metrics = result_of(tmp_path, trial)["metrics"]
    assert -np.mean(model.log_prob(x)) == metrics["test_nll"]["value"]
    assert model.nfe == (8, 8)  # 64 rows and 36
    assert model.spec == trial
    assert model.event_shape == (2,)


def test_pixels_have_the_density_of_levels(opened: Open, tmp_path: Path) -> None:
    """Dequantisation and logit are undone: bits/dim of the pixels are those of the record."""
    trial = fake_trial("digits", iterations=20)
    model = opened(trial)
    dataset = load("digits")
    pixels = dataset.to_data(dataset.rows("test", 100).x)
    assert "0 to 17" in model.space
    nll = result_of(tmp_path, trial)["metrics"]["test_nll"]["value"]
    assert -np.mean(model.log_prob(pixels)) == pytest.approx(nll, rel=1e-6)
    flat = pixels.reshape(len(pixels), 64)
    np.testing.assert_array_equal(model.log_prob(flat), model.log_prob(pixels))
    levels = np.floor(pixels).astype(np.uint8)
    found = model.log_prob(levels)
    np.testing.assert_array_equal(found, model.log_prob(levels))
    # Other noise within the same levels: not the same numbers, but those of the same images.
    assert -np.mean(found) == pytest.approx(nll, rel=0.02)
    assert not np.array_equal(found, model.log_prob(levels.astype(float)))


@pytest.mark.parametrize("dataset", ["moons", "digits"])
def test_samples_have_the_log_prob_of_their_rows(dataset: str, opened: Open) -> None:
    model = opened(fake_trial(dataset, iterations=20))
    x, log_prob = model.sample(70, seed=3)
    assert log_prob is not None
    assert (x.shape, log_prob.shape) == ((70, *model.event_shape), (70,))
    np.testing.assert_allclose(log_prob, model.log_prob(x), rtol=1e-4, atol=1e-4)
    again, other = model.sample(70, seed=3), model.sample(70, seed=4)
    np.testing.assert_array_equal(again.x, x)
    assert not np.array_equal(other.x, x)
    # Fewer of a seed are the first of more, as far as the solves share rows.
    np.testing.assert_allclose(model.sample(10, seed=3).x, x[:10], rtol=1e-6)
    assert model.sample(0).x.shape == (0, *model.event_shape)


def test_codes_are_decoded_to_their_rows(opened: Open) -> None:
    model = opened(fake_trial(iterations=20))
    x = load("moons").rows("test", 70).x
    z = model.encode(x)
    assert z.shape == x.shape
    np.testing.assert_allclose(model.decode(z), x, rtol=1e-4, atol=1e-5)
    assert model.log_prob(x[:0]).shape == (0,)


def test_an_evaluation_of_ones_own(opened: Open) -> None:
    model = opened(fake_trial(iterations=20), evaluation=Evaluation(batch=30))
    model.log_prob(load("moons").rows("test", 70).x)
    assert model.nfe == (8, 8, 8)


def test_arrays_are_copies(opened: Open) -> None:
    model = opened(fake_trial(iterations=20))
    x = load("moons").rows("test", 5).x
    before = model.log_prob(x)
    for array in model.arrays.values():
        array[...] = 7
    np.testing.assert_array_equal(model.log_prob(x), before)


def test_a_root_of_before_trained_models(opened: Open, tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    before = opened(trial).arrays
    shutil.rmtree(tmp_path / "trained")
    after = harness.trained(tmp_path, trial.id).arrays
    assert {k: v.tobytes() for k, v in before.items()} == {
        k: v.tobytes() for k, v in after.items()
    }


def _autoencoder(**evaluation: object) -> Trial:
    trial = fake_trial("standin-binary28", iterations=5)
    model = ModelSpec(hidden=(4,), end_time=EndTime(0.5), posterior=Posterior(2, "plain"))
    settings: dict[str, Any] = {"rows": 40, "batch": 30, "samples": 4, **evaluation}
    return replace(trial, model=model, evaluation=Evaluation(**settings))


def test_an_autoencoder_has_a_bound(opened: Open, tmp_path: Path) -> None:
    trial = _autoencoder(importance_samples=3)
    model = opened(trial)
    x = load("standin-binary28").rows("test", 40).x
    metrics = result_of(tmp_path, trial)["metrics"]
    found = -np.mean(model.bound(x, draws=3))
    assert found == pytest.approx(metrics["test_iw_nll"]["value"], rel=1e-12)
    samples = model.sample(3)
    assert samples.x.shape == (3, 1, 28, 28)
    assert samples.log_prob is None
    for refused in (model.log_prob, model.encode):
        with pytest.raises(AnswerError, match="autoencoder"):
            refused(x)
    with pytest.raises(AnswerError, match="no value of 'standin-binary28'"):
        model.bound(x + 0.5)


ROWS = np.zeros((3, 2))
WRONG: dict[str, tuple[object, str]] = {
    "one row": (np.zeros(2), "a single row is x[None]"),
    "columns": (np.zeros((3, 5)), "has shape [3, 5]; 'moons' needs [n, 2]"),
    "a number": (1.0, "has shape []"),
    "text": (np.array([["a", "b"]]), "not numbers"),
    "not finite": (np.array([[0, 0], [0, np.nan]]), "x, row 1: holds NaN"),
    "too large": (np.array([[0, 1e39]]), "beyond the range of float32"),
}


@pytest.mark.parametrize("case", WRONG)
def test_rows_that_are_no_data_are_refused(case: str, opened: Open) -> None:
    rows, message = WRONG[case]
    with pytest.raises(AnswerError, match=re.escape(message)):
        opened(fake_trial(iterations=5)).log_prob(rows)


def test_other_mistakes(opened: Open, tmp_path: Path) -> None:
    trial = fake_trial(iterations=5)
    model = opened(trial)
    with pytest.raises(AnswerError, match="needs no bound"):
        model.bound(ROWS)
    with pytest.raises(AnswerError, match=r"numbers \[n, 2\]"):
        model.decode(np.zeros((3, 3)))
    with pytest.raises(AnswerError, match="counted from 0"):
        model.sample(-1)
    with pytest.raises(InputError, match="no record of this trial"):
        harness.trained(tmp_path, "ffff")
    other = replace(trial, seed=9)
    write_spec(tmp_path, other)
    with pytest.raises(AnswerError, match="has no trained model yet"):
        harness.trained(tmp_path, other.id)
    pixels = opened(fake_trial("digits", iterations=5))
    with pytest.raises(AnswerError, match="row 0: holds 200, which is no value of 'digits'"):
        pixels.log_prob(np.full((1, 1, 8, 8), 200.0))


def test_a_solve_that_fails_is_said(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(fake_trial(iterations=5))
    failed = EvaluationReport({}, Nfe((3,)), "max_steps")
    inner = model._opened.model
    monkeypatch.setattr(type(inner), "evaluate", lambda *_: failed)
    for ask in (model.log_prob, model.encode):
        with pytest.raises(AnswerError, match=r"rows 0 to 63: .*max_steps"):
            ask(ROWS)


def test_the_data_of_a_publisher_need_not_be_there(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rows of POWER and pixels of CIFAR10 are does not depend on a file."""
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "empty"))
    for name, shape, digest in (("power", (6,), "sha256:0"), ("cifar10", (3, 32, 32), "x")):
        known = outline(name, digest)
        assert known.info.event_shape == shape
        assert known.sizes() == {"train": 0, "val": 0, "test": 0}
    assert outline("cifar10", "x").space.high > 256
    with pytest.raises(DataError):
        load("power")
    with pytest.raises(DataError, match="no longer the one"):
        outline("moons", "sha256:0")


def test_the_trained_model_is_the_one_that_was_committed(opened: Open, tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    model = opened(trial)
    folder = TrainedFolder(tmp_path, trial.training_id)
    record = folder.read()
    assert record is not None
    assert folder.model(record.attempt_id).is_file()
    assert TrialFolder(tmp_path, trial.id).read_result() is not None
    assert set(model.arrays) == {"m", "s"}
