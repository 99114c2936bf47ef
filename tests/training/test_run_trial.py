from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, timeless, write_spec
from safetensors.numpy import load_file

from harness.datasets.encodings import Levels
from harness.datasets.images import ImageDataset
from harness.datasets.registry import Split, load
from harness.interface import Likelihood
from harness.process.watch import Progress
from harness.records.folder import TrialFolder
from harness.records.merge import merge
from harness.records.readers import read_lines
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.streams.stream import Stream
from harness.training.checkpoint import Checkpoint
from harness.training.lines import Cadence
from harness.training.run_trial import RunOptions, run_trial
from harness.trial import DatasetRef, ModelSpec, Optimizer, Posterior, Schedule, Trial

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


def _failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fail: str, at: int = 12) -> None:
    behaviour = {"fail": fail, "at": at, "marks": str(tmp_path), "times": 1}
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(behaviour))


def test_divergence_is_a_result_with_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "diverge")
    trial = fake_trial()
    assert run_fake(tmp_path, trial) is Status.DIVERGED
    result = result_of(tmp_path, trial)
    assert result["message"] == "training failed at step 13: non-finite"
    assert result["metrics"] == {}
    assert result["nfe"]["train"]["forward"]["n"] == 13
    assert run_fake(tmp_path, trial) is Status.DIVERGED
    assert len(TrialFolder(tmp_path, trial.id).attempts()) == 1


def test_an_exception_becomes_an_error_without_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "raise")
    trial = fake_trial()
    assert run_fake(tmp_path, trial, capture=True) is Status.ERROR
    result = result_of(tmp_path, trial)
    assert result["message"].startswith("RuntimeError: no such file ~/secret (log: trials/")
    log = (_attempt(tmp_path, trial) / "log.txt").read_text()
    assert "Traceback" in log
    assert result["timing"]["first_step_s"] > 0.0
    assert result["timing"]["build_s"] >= 0.0
    assert result["environment"]["gradient"] == "adjoint"
    assert result["memory"]["peak_host_bytes"] > 1e7
    home = str(Path.home())
    assert home == "/" or home not in log


def test_memory_that_ran_out_is_committed_only_when_it_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "memory")
    trial = fake_trial()
    assert run_fake(tmp_path, trial, may_retry=True) is Status.OUT_OF_MEMORY
    folder = TrialFolder(tmp_path, trial.id)
    assert folder.read_result() is None
    assert run_fake(tmp_path, trial) is Status.OK
    assert result_of(tmp_path, trial)["attempts"] == 2


def test_a_time_limit_leaves_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = fake_trial(iterations=100_000)
    status = run_trial(
        trial, tmp_path, Resources(timeout_minutes=0.01), RunOptions(backend=FakeBackend())
    )
    assert status is Status.TIMEOUT
    assert result_of(tmp_path, trial)["message"] == "stopped after 0.01 minutes"
    found = Checkpoint.read(_attempt(tmp_path, trial))
    assert found is not None
    assert found.totals.step > 0


def test_resume_under_another_fingerprint_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, tmp_path, "memory")
    trial = fake_trial()
    run_fake(tmp_path, trial, may_retry=True, cadence=Cadence(checkpoint_s=0.0))
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert run_fake(tmp_path, trial) is Status.OK
    assert result_of(tmp_path, trial)["environment"]["resumed"] == "not bitwise"


def test_a_root_that_was_moved_to_another_machine_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy elsewhere, under another fingerprint: it goes on from the checkpoint and says so."""
    here, there = tmp_path / "here", tmp_path / "there" / "runs"
    _failing(monkeypatch, tmp_path, "memory")
    trial = fake_trial()
    write_spec(here, trial)
    run_fake(here, trial, may_retry=True, cadence=Cadence(checkpoint_s=0.0))
    merge([here], there)
    shutil.rmtree(here)
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert run_fake(there, trial) is Status.OK
    result = result_of(there, trial)
    assert result["environment"]["resumed"] == "not bitwise"
    assert result["attempts"] == 2
    assert result["metrics"]["steps"]["value"] == trial.training.iterations
    assert not here.exists()


def test_digest_of_other_data_is_an_error(tmp_path: Path) -> None:
    trial = fake_trial()
    other = replace(trial, dataset=replace(trial.dataset, digest="sha256:0"))
    assert run_fake(tmp_path, other) is Status.ERROR
    result = result_of(tmp_path, other)
    assert "no longer the one" in result["message"]
    # What was known by then is recorded.
    assert result["environment"]["cores"] == 1
    assert result["timing"]["import_s"] >= 0.0
    assert result["timing"]["data_s"] is None
    assert result["timing"]["mode"] == "shared"
    assert result["nfe"] == {"test": None, "sample": None}
