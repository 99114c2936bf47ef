from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_backend
import numpy as np
import pytest
from fakes import fake_trial, result_of, run_fake, timeless
from safetensors.numpy import load_file

from harness.datasets.base import Batching
from harness.datasets.encodings import Levels
from harness.datasets.images import ImageDataset
from harness.datasets.registry import Split, load
from harness.interface import (
    Batch,
    Control,
    EvaluationReport,
    Likelihood,
    Pending,
    Quantity,
)
from harness.process.watch import Progress
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines
from harness.records.status import Status
from harness.streams.stream import Stream
from harness.training.checkpoint import Checkpoint
from harness.training.lines import Cadence
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    FlowMatching,
    ModelSpec,
    Optimizer,
    Posterior,
    Schedule,
    Trial,
)

pytestmark = pytest.mark.usefixtures("process_unchanged")


def _attempt(root: Path, trial: Trial) -> Path:
    return TrialFolder(root, trial.id).attempt(result_of(root, trial)["attempt_id"])


def test_a_trial_leaves_a_whole_record(tmp_path: Path) -> None:
    trial = fake_trial()
    seen: list[Progress] = []
    assert run_fake(tmp_path, trial, progress=seen.append) is Status.OK
    result = result_of(tmp_path, trial)
    assert list(result) == [
        *("schema_version", "trial_id", "status", "message", "attempts", "attempt_id"),
        *("finished_ms", "metrics", "timing", "nfe", "memory", "environment"),
    ]
    assert (result["status"], result["attempts"]) == ("ok", 1)
    metrics = result["metrics"]
    assert set(metrics) == {
        *("test_nll", "train_nll", "val_nll", "gaussian_nll", "parameters", "steps")
    }
    assert {name: metrics[name]["n"] for name in metrics} == {
        "test_nll": 100,
        "train_nll": 100,
        "gaussian_nll": 100,
        "val_nll": 64,
        "parameters": 1,
        "steps": 1,
    }
    assert metrics["steps"]["value"] == trial.training.iterations
    assert result["message"] is None
    assert metrics["test_nll"]["unit"] == "nats"
    timing = result["timing"]
    assert timing["step_s"]["n"] == trial.training.iterations - 1
    assert timing["step_s"]["q25"] <= timing["step_s"]["median"] <= timing["step_s"]["q75"]
    assert timing["train_s"] >= timing["first_step_s"] > 0
    assert timing["lost_s"] == 0.0
    assert result["memory"]["peak_host_bytes"] > 1e7
    attempt = _attempt(tmp_path, trial)
    names = {path.name for path in attempt.iterdir()} - {"log.txt"}
    assert names == {
        *("metrics.jsonl", "environment.json", "progress.json", "checkpoint"),
        *("model.safetensors", "samples.safetensors"),
    }
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    order = "importing", "loading data", "compiling", "training", "testing", "sampling"
    assert phases == list(order)


def test_flow_matching_is_trained_on_points_and_validated_by_likelihood(tmp_path: Path) -> None:
    """Its lines have a loss, which is no likelihood: no log-volume belongs to it. The step of the
    fake backend is too small to move anything, and its loss that of a likelihood.
    """
    trial = fake_trial("digits", optimizer=Optimizer(lr=1e-30), validation_rows=16)
    first = {}
    for objective in (trial.objective, FlowMatching("linear", "minibatch_ot")):
        own = replace(trial, objective=objective)
        assert run_fake(tmp_path, own) is Status.OK
        lines = list(read_lines(_attempt(tmp_path, own) / "metrics.jsonl"))
        first[objective.name] = next(line for line in lines if "loss" in line)
        assert any("val_nll" in line for line in lines)
        assert "test_nll" in result_of(tmp_path, own)["metrics"]
    assert first["likelihood"]["nll"] == first["likelihood"]["loss"]
    assert "nll" not in first["flow_matching"]
    log_volume = first["flow_matching"]["loss"] - first["likelihood"]["loss"]
    step = first["likelihood"]["step"] - 1
    rows = load("digits").training_batch(0, step, Batching(trial.training.batch))
    assert log_volume == pytest.approx(float(np.mean(rows.log_volume)), rel=1e-6)


def test_counts_follow_from_the_steps_whenever_they_are_fetched(tmp_path: Path) -> None:
    trial = fake_trial(iterations=25)
    records = []
    for number, log_s in enumerate((1e9, 0.0)):
        root = tmp_path / str(number)
        assert run_fake(root, trial, cadence=Cadence(log_s=log_s, checkpoint_s=log_s)) is Status.OK
        records.append(result_of(root, trial))
    assert timeless(records[0]) == timeless(records[1])
    forward = [7 + step % 3 for step in range(25)]
    train = records[0]["nfe"]["train"]
    assert train["forward"] == {"mean": sum(forward) / 25, "max": 9, "n": 25}
    assert train["backward"] == {"mean": 6.0, "max": 6, "n": 25}
    assert train["vjp"] == {"mean": 5.0, "max": 5, "n": 25}
    assert train["recompute"] == {"mean": 4.0, "max": 4, "n": 25}
    assert records[0]["nfe"]["train_rejected"] == 12
    assert records[0]["nfe"]["test"] == {"forward": {"mean": 8.0, "max": 8, "n": 2}}
    assert records[0]["nfe"]["sample"] == {"forward": {"mean": 9.0, "max": 9, "n": 1}}


def test_lines_of_training_and_validation(tmp_path: Path) -> None:
    trial = fake_trial(iterations=25, validate_every=10)
    run_fake(tmp_path, trial, cadence=Cadence(log_s=1e9))
    lines = read_lines(_attempt(tmp_path, trial) / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [10, 20, 25]
    assert [line["step"] for line in lines if "val_nll" in line] == [10, 20, 25]
    assert lines[0].keys() == {
        *("step", "timestamp_ms", "train_s", "loss", "nll", "lr"),
        *("nfe_forward", "nfe_backward", "nfe_vjp", "nfe_recompute"),
    }
    # The mean of 7 + step % 3 over steps 0 to 9, then over 10 to 19, then over 20 to 24.
    assert [line["nfe_forward"] for line in lines if "loss" in line] == [7.9, 8.0, 8.0]
    assert all(
        line.keys() == {"step", "timestamp_ms", "train_s", "val_nll"} for line in lines[1::2]
    )


def test_test_nll_is_that_of_the_kept_arrays(tmp_path: Path) -> None:
    trial = fake_trial(iterations=30)
    run_fake(tmp_path, trial)
    arrays = load_file(_attempt(tmp_path, trial) / "model.safetensors")
    x = load("moons").rows("test", 100).x.astype("float32")
    z = (x - arrays["m"]) * np.exp(-arrays["s"])
    log_prob = (-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - arrays["s"]).sum(-1).astype("float64")
    found = result_of(tmp_path, trial)["metrics"]["test_nll"]
    assert found["value"] == pytest.approx(-log_prob.mean(), rel=1e-6)
    assert found["sem"] == pytest.approx(log_prob.std(ddof=1) / 10, rel=1e-5)


def test_best_arrays_are_kept_or_the_last(tmp_path: Path) -> None:
    # Such a learning rate makes the last validation worse than an earlier one.
    best, last = (
        fake_trial(iterations=60, validate_every=5, optimizer=Optimizer(lr=0.3), keep=keep)
        for keep in ("best", "last")
    )
    for trial in (best, last):
        assert run_fake(tmp_path, trial) is Status.OK
    values = [
        line["val_nll"]
        for line in read_lines(_attempt(tmp_path, best) / "metrics.jsonl")
        if "val_nll" in line
    ]
    assert min(values) < values[-1]
    assert result_of(tmp_path, best)["metrics"]["val_nll"]["value"] == min(values)
    assert result_of(tmp_path, last)["metrics"]["val_nll"]["value"] == values[-1]
    found = Checkpoint.read(_attempt(tmp_path, last))
    assert found is not None
    assert not found.best


def test_density_grid_and_samples_are_in_data_space(tmp_path: Path) -> None:
    trial = fake_trial(iterations=60)
    run_fake(tmp_path, trial)
    found = load_file(_attempt(tmp_path, trial) / "samples.safetensors")
    assert found["samples"].shape == (10, 2)
    assert found["grid_log_prob"].shape == (100, 100)
    x, y = (found[f"grid_axis_{axis}"].astype("float64") for axis in "xy")
    arrays = load_file(_attempt(tmp_path, trial) / "model.safetensors")
    point = np.array([x[70], y[20]])
    z = (point - arrays["m"]) * np.exp(-arrays["s"].astype("float64"))
    expected = float((-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - arrays["s"]).sum())
    assert found["grid_log_prob"][20, 70] == pytest.approx(expected, abs=1e-4)


def test_image_shape_and_bits_of_images(tmp_path: Path) -> None:
    from safetensors import safe_open

    trial = fake_trial("digits", iterations=10)
    assert run_fake(tmp_path, trial) is Status.OK
    metrics = result_of(tmp_path, trial)["metrics"]
    bits = metrics["test_bits_per_dim"]
    assert bits["unit"] == "bits/dim"
    assert bits["value"] == pytest.approx(metrics["test_nll"]["value"] / (64 * math.log(2)))
    assert metrics["gaussian_bits_per_dim"]["n"] == 100
    line = read_lines(_attempt(tmp_path, trial) / "metrics.jsonl")[-1]
    assert line["val_bits_per_dim"] == pytest.approx(line["val_nll"] / (64 * math.log(2)))
    with safe_open(_attempt(tmp_path, trial) / "samples.safetensors", "np") as file:
        assert json.loads(file.metadata()["image_shape"]) == [8, 8]
        assert set(file.keys()) == {"samples"}
        pixels = file.get_tensor("samples")
    assert pixels.min() >= 0
    assert pixels.max() <= 17


@pytest.mark.parametrize("carried", [False, True])
def test_batches_have_the_log_volume_that_a_solver_asks_for(
    carried: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training, validation and test, that of their very rows."""
    seen: list[Batch] = []

    class Noting(fake_backend._FakeModel):
        def train_step(self, batch: Batch, control: Control) -> Pending:
            seen.append(batch)
            return super().train_step(batch, control)

        def evaluate(
            self, batch: Batch, control: Control, quantities: Sequence[Quantity]
        ) -> EvaluationReport:
            seen.append(batch)
            return super().evaluate(batch, control, quantities)

    monkeypatch.setattr(fake_backend, "_FakeModel", Noting)
    trial = fake_trial("digits", iterations=3)
    solver = AdaptiveSolver("dopri5", log_volume_in_state=carried)
    assert run_fake(tmp_path, replace(trial, solver=solver)) is Status.OK
    assert len(seen) > 3
    if not carried:
        assert all(batch.log_volume is None for batch in seen)
        return
    volumes = [np.zeros(0) if b.log_volume is None else b.log_volume for b in seen]
    assert [len(volume) for volume in volumes] == [batch.size for batch in seen]
    (test,) = load(trial.dataset.name).chunks("test", 1000, None)
    x = test.x.astype(trial.dtype)
    expected = {row.tobytes(): v for row, v in zip(x, test.log_volume, strict=True)}
    found = [
        value == expected[row.tobytes()]
        for batch, volume in zip(seen, volumes, strict=True)
        for row, value in zip(batch.x, volume, strict=True)
        if row.tobytes() in expected and value != 0  # a warm-up has zeros
    ]
    assert trial.evaluation.rows is not None
    assert len(found) >= trial.evaluation.rows
    assert all(found)


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_an_autoencoder_is_scored_by_its_elbo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, likelihood: Likelihood
) -> None:
    levels = 2 if likelihood == "bernoulli" else 256
    images = Stream(0, "images").integers(levels, (90, 1, 8, 8)).astype(np.uint8)
    splits: dict[Split, Any] = {"train": images, "val": images[:30], "test": images[:20]}
    found = ImageDataset("pixels", splits, Levels(levels, likelihood))
    monkeypatch.setattr("harness.datasets.registry.load", lambda *_: found)
    trial = fake_trial(iterations=20, validate_every=5, schedule=Schedule(kl_warmup=10))
    trial = replace(
        trial,
        dataset=DatasetRef("pixels", "0"),
        model=ModelSpec(posterior=Posterior(latent=4, amortization="plain")),
    )
    assert run_fake(tmp_path, trial, cadence=Cadence(log_s=0.0)) is Status.OK
    metrics = result_of(tmp_path, trial)["metrics"]
    names = {"test_neg_elbo", "val_neg_elbo", "train_neg_elbo", "parameters", "steps"}
    bits = {"test_neg_elbo_bits_per_dim"} if likelihood == "categorical" else set()
    assert set(metrics) == names | bits
    if bits:
        elbo = metrics["test_neg_elbo"]["value"]
        expected = pytest.approx(elbo / (64 * math.log(2)))
        assert metrics["test_neg_elbo_bits_per_dim"]["value"] == expected
    lines = read_lines(_attempt(tmp_path, trial) / "metrics.jsonl")
    weights = {line["step"]: line["kl_weight"] for line in lines if "kl_weight" in line}
    assert (weights[1], weights[5], weights[6], weights[20]) == (0.5, 0.5, 1.0, 1.0)
    assert all("neg_elbo" in line for line in lines if "lr" in line)
    assert "val_neg_elbo" in lines[-1]


def test_a_model_that_does_not_fit_the_data_is_a_record(tmp_path: Path) -> None:
    trial = replace(fake_trial(), model=ModelSpec(hidden=(8,), strides=(1, 1)), gradient="auto")
    assert run_fake(tmp_path, trial) is Status.ERROR
    message = result_of(tmp_path, trial)["message"]
    assert message.startswith(
        "a convolutional model needs data of shape (channels, height, width)"
    )
    # The next attempt decides anew.
    assert not TrialFolder(tmp_path, trial.id).choices.exists()


def test_tf32_is_a_matter_of_products_not_of_arrays(tmp_path: Path) -> None:
    trial = replace(fake_trial(iterations=3), precision="tf32")
    assert run_fake(tmp_path, trial) is Status.OK
    arrays = load_file(_attempt(tmp_path, trial) / "model.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
