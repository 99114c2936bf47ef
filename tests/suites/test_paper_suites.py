"""The built-in suites: every row of the paper with its hyperparameters, in both backends."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.planning.plan import plan
from harness.suites.builtin import suite_files
from harness.suites.grid import expand
from harness.suites.suite import load_suite
from harness.trial import AdaptiveSolver, Posterior, SampleMetrics, Trial


def _trials(suite: str) -> list[Trial]:
    return [entry.trial for entry in expand(load_suite(suite_files()[suite]))]


@pytest.mark.parametrize("name", sorted(suite_files()))
def test_every_suite_is_valid_and_has_its_files_name(name: str) -> None:
    suite = load_suite(suite_files()[name])
    assert suite.name == name
    assert expand(suite)


def test_the_paper_is_its_parts() -> None:
    parts = [trial.id for suite in ("tabular", "vae", "images") for trial in _trials(suite)]
    assert [trial.id for trial in _trials("paper")] == parts


# FFJORD (arXiv:1810.01367), table 4: nonlinearity, hidden layers x width, flow steps, batch.
TABULAR = {
    "power": ("tanh", (60,) * 3, 5, 10_000),
    "gas": ("tanh", (160,) * 3, 5, 1000),
    "hepmass": ("softplus", (210,) * 2, 10, 10_000),
    "miniboone": ("softplus", (860,) * 2, 1, 1000),
    "bsds300": ("softplus", (1260,) * 3, 2, 10_000),
}
# Table 5: nonlinearity, hidden layers x width, flow steps, rank; Frey Faces by split.
VAE = {
    "mnist-static": ("softplus", (1024,) * 2, 2, 64),
    "omniglot": ("softplus", (512,) * 2, 5, 20),
    "freyfaces": ("softplus", (512,) * 2, 2, 20),
    "freyfaces-231": ("softplus", (512,) * 2, 2, 20),
    "freyfaces-321": ("softplus", (512,) * 2, 2, 20),
    "caltech-silhouettes": ("tanh", (2048,), 1, 20),
}


@pytest.mark.parametrize("dataset", TABULAR)
def test_tabular_rows(dataset: str) -> None:
    found = [trial for trial in _trials("paper") if trial.dataset.name == dataset]
    assert {(t.backend, t.seed) for t in found} == {
        (backend, seed) for backend in ("torch", "jax") for seed in (0, 1, 2)
    }
    for trial in found:
        model, training = trial.model, trial.training
        assert (model.nonlinearity, model.hidden, model.blocks, training.batch) == TABULAR[dataset]
        assert (model.layer, model.end_time.value, model.end_time.mode) == ("concat", 1, "fixed")
        assert isinstance(trial.solver, AdaptiveSolver)
        assert (trial.solver.name, trial.solver.rtol, trial.solver.atol) == ("dopri5", 1e-6, 1e-8)
        assert (training.optimizer.name, training.optimizer.lr) == ("adam", 1e-3)
        assert (training.patience.drops, training.patience.stop) == ((10, 20), 30)
        assert (training.validate_every, training.trace, training.probe, training.keep) == (
            *(200, "hutchinson", "gaussian"),
            "best",
        )
        assert (trial.evaluation.trace, trial.gradient) == ("exact", "adjoint")
        # PaddingFlow (arXiv 2403.08216): 100 samplings of min(20,000, test rows).
        assert trial.evaluation.sample_metrics == SampleMetrics(20_000, 100, 2_000)


@pytest.mark.parametrize("dataset", VAE)
def test_autoencoder_rows(dataset: str) -> None:
    found = [trial for trial in _trials("paper") if trial.dataset.name == dataset]
    assert {trial.backend for trial in found} == {"torch", "jax"}
    assert len(found) == (2 if dataset.startswith("freyfaces") else 6)
    for trial in found:
        nonlinearity, hidden, blocks, rank = VAE[dataset]
        model, training = trial.model, trial.training
        assert (model.nonlinearity, model.hidden, model.blocks) == (nonlinearity, hidden, blocks)
        assert model.posterior == Posterior(64, "low_rank", rank)
        assert (model.layer, model.end_time.value, model.end_time.mode) == ("concat", 0.5, "fixed")
        assert (training.batch, training.optimizer.name, training.optimizer.lr) == (
            *(100, "adam"),
            1e-3,
        )
        epochs = training.schedule.kl_warmup / training.validate_every
        assert (epochs, training.patience.after) == (100, training.schedule.kl_warmup)
        assert training.iterations == 2000 * training.validate_every
        assert training.patience.stop == 100
        assert trial.evaluation.trace == "exact"
        assert trial.evaluation.image_metrics
        assert trial.evaluation.rows is None


@pytest.mark.parametrize(
    ("dataset", "scales", "images"), [("mnist", 3, 60_000), ("cifar10", 4, 50_000)]
)
def test_multiscale_rows(dataset: str, scales: int, images: int) -> None:
    found = [t for t in _trials("images") if t.dataset.name == dataset and t.model.scales > 1]
    assert len(found) == 6
    for trial in found:
        model, training = trial.model, trial.training
        assert (model.scales, model.blocks, model.hidden) == (scales, 2, (64, 64, 64))
        assert (model.strides, model.nonlinearity) == ((1, 1, 1, 1), "softplus")
        epoch = images // training.batch
        assert training.batch == 900
        assert training.validate_every == epoch
        assert (training.iterations, training.schedule.drops) == (500 * epoch, (250 * epoch,))
        assert isinstance(trial.solver, AdaptiveSolver)
        assert (trial.solver.rtol, trial.solver.atol) == (1e-5, 1e-5)
        assert (training.probe, trial.evaluation.trace) == ("rademacher", "hutchinson")


def test_the_single_scale_model_mirrors_itself() -> None:
    found = [t for t in _trials("images") if t.dataset.name == "mnist" and t.model.scales == 1]
    assert len(found) == 6
    for trial in found:
        assert trial.model.hidden == (64, 64, 128, 128, 128, 64, 64)
        assert trial.model.strides == (1, 2, 1, 2, -2, 1, -2, 1)


# What stands for each row of tables 2 and 3 at toy size.
SMOKE = {
    "power": "power-partial",
    "gas": "standin-8d",
    "hepmass": "standin-21d",
    "miniboone": "miniboone-partial",
    "bsds300": "bsds300-rederived",
    "mnist": "mnist-partial",
    "cifar10": "cifar10-partial",
    "mnist-static": "standin-binary28",
    "omniglot": "omniglot-raw-partial",
    "freyfaces": "freyfaces-partial",
    "caltech-silhouettes": "caltech-silhouettes-resplit",
}


def _kinds(trial: Trial) -> tuple[object, ...]:
    """What of a trial stays the same at toy size."""
    model, evaluation = trial.model, trial.evaluation
    posterior = model.posterior
    return (
        *(model.layer, model.nonlinearity, len(model.hidden), model.strides, model.scales > 1),
        *(model.blocks > 1 or model.scales > 1, model.end_time),
        posterior and posterior.amortization,
        *(trial.training.trace, trial.training.probe, trial.training.optimizer.name),
        *(trial.gradient, trial.solver.name, evaluation.trace, evaluation.image_metrics),
        evaluation.sample_metrics is not None,
    )


@pytest.mark.parametrize("row", SMOKE)
def test_every_row_has_its_like_at_toy_size(row: str) -> None:
    whole = {_kinds(trial) for trial in _trials("paper") if trial.dataset.name == row}
    small = [trial for trial in _trials("paper-smoke") if trial.dataset.name == SMOKE[row]]
    assert {_kinds(trial) for trial in small} == whole
    assert {trial.backend for trial in small} == {"torch", "jax"}
    for trial in small:
        assert trial.training.iterations <= 20
        wanted = trial.evaluation.sample_metrics
        assert wanted is None or (wanted.rows, wanted.samplings) == (200, 2)
        assert (trial.evaluation.importance_samples > 0) == (trial.model.posterior is not None)


def test_without_data_the_paper_at_toy_size_has_all_three_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    made = plan("paper-smoke", tmp_path, check_backends=False)
    run = {p.trial.dataset.name for p in made.trials if p.state == "to_run"}
    assert run == {"standin-8d", "standin-21d", "digits", "standin-binary28"}
    # Nothing is fetched behind the back of whoever runs it.
    assert all("HARNESS_DATA_DIR" in (p.reason or "") for p in made.trials if p.state == "skipped")


def test_suites_are_found_beside_the_checkout() -> None:
    assert {"paper", "tabular", "vae", "images", "toy", "regularizers", "solvers"} <= set(
        suite_files()
    )
    assert all(isinstance(path, Path) for path in suite_files().values())
