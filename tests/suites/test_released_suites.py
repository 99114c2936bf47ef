"""The suites of the released code, against a table of its hyperparameters."""

from __future__ import annotations

import pytest

from harness.datasets.base import Batching
from harness.suites.builtin import suite_files
from harness.suites.grid import expand
from harness.suites.suite import load_suite
from harness.trial import AdaptiveSolver, Trial

# rtqichen/ffjord 994864a: README.md, and the defaults of its four scripts.
ROWS = {
    "mnist": 60_000,
    "cifar10": 50_000,
    "mnist-static": 50_000,
    "omniglot": 23_000,
    "freyfaces": 1_565,
    "caltech-silhouettes": 4_100,
}
"""Training rows."""
EPOCHS = {"mnist": 1000, "cifar10": 1000}
KL_EPOCHS = 100


def _trials(suite: str) -> list[Trial]:
    return [entry.trial for entry in expand(load_suite(suite_files()[suite]))]


def _solver(rtol: float, atol: float) -> AdaptiveSolver:
    return AdaptiveSolver(
        "dopri5",
        rtol,
        atol,
        end="interpolate",
        backward_first_step="heuristic",
        regularizers_in_norm=True,
    )


@pytest.mark.parametrize(
    "trial", _trials("released-toy"), ids=lambda t: f"{t.dataset.name}-{t.seed}"
)
def test_toys(trial: Trial) -> None:
    model, training = trial.model, trial.training
    assert (model.layer, model.hidden, model.nonlinearity) == ("concatsquash", (64,) * 3, "tanh")
    assert (model.blocks, model.end_time.value, model.end_time.mode) == (1, 0.5, "inert")
    assert trial.solver == _solver(1e-5, 1e-5)
    assert (training.iterations, training.batch, training.validate_every) == (10_000, 100, 100)
    assert (training.optimizer.lr, training.optimizer.weight_decay) == (1e-3, 1e-5)
    assert (training.trace, trial.evaluation.trace, trial.gradient) == (
        "exact",
        "exact",
        "adjoint",
    )
    assert training.stratified


def test_tables() -> None:
    for trial in _trials("released-tabular"):
        model, training = trial.model, trial.training
        assert (model.layer, model.end_time.mode) == ("concatsquash", "inert")
        assert trial.solver == _solver(1e-6, 1e-8)
        assert (training.optimizer.name, training.optimizer.lr) == ("adam_eps_hat", 1e-3)
        assert (training.patience.drops, training.patience.stop) == ((10, 20), 30)
        assert (training.trace, training.validation_trace) == ("hutchinson", None)
        assert (trial.evaluation.trace, training.last_batch) == ("exact", "keep")
        assert training.validate_every == 200


def test_the_readmes_command_for_miniboone() -> None:
    found = [t for t in _trials("released-tabular") if t.dataset.name == "miniboone"]
    assert len(found) == 3
    for trial in found:
        assert trial.model.hidden == (20 * 43,) * 2
        assert (trial.model.blocks, trial.model.nonlinearity) == (1, "softplus")
        assert trial.training.batch == 1000


def test_images() -> None:
    found = _trials("released-images")
    assert {t.dataset.name for t in found} == {"mnist", "cifar10"}
    for trial in found:
        model, training, name = trial.model, trial.training, trial.dataset.name
        assert (model.layer, model.hidden, model.strides) == ("concat", (64,) * 3, (1,) * 4)
        assert (model.blocks, model.scales) == (2, 3 if name == "mnist" else 4)
        assert (training.batch, training.probe) == (200, "rademacher")
        assert (training.schedule.warmup, training.schedule.drops) == (1000, ())
        epoch = Batching.of(training).steps(ROWS[name])
        assert training.validate_every == epoch
        assert training.iterations == EPOCHS[name] * epoch
        assert (trial.evaluation.trace, training.last_batch) == ("hutchinson", "drop")


@pytest.mark.parametrize("suite", ["vae", "released-vae"])
def test_epochs_of_autoencoders(suite: str) -> None:
    """In both the short batch is kept, as released."""
    for trial in _trials(suite):
        training = trial.training
        name = trial.dataset.name.removesuffix("-231").removesuffix("-321")
        epoch = Batching.of(training).steps(ROWS[name])
        assert training.last_batch == "keep"
        assert (training.validate_every, training.iterations) == (epoch, 2000 * epoch)
        assert training.schedule.kl_warmup == training.patience.after == KL_EPOCHS * epoch


def test_autoencoders() -> None:
    for trial in _trials("released-vae"):
        training = trial.training
        assert (training.optimizer.name, training.optimizer.lr) == ("adamax", 5e-4)
        assert (training.optimizer.eps, training.patience.stop, training.batch) == (1e-7, 35, 100)
        assert trial.solver == _solver(1e-5, 1e-5)
        assert (trial.model.end_time.value, trial.model.layer) == (0.5, "concat")


def test_epochs_of_images_in_the_paper() -> None:
    for trial in _trials("images"):
        training = trial.training
        epoch = Batching.of(training).steps(ROWS[trial.dataset.name])
        assert (training.validate_every, training.iterations) == (epoch, 500 * epoch)
        assert training.schedule.drops == (250 * epoch,)
