"""The phases after the test: samples, reconstructions, draws of the posterior, in a record."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, timeless
from safetensors.numpy import load_file

from harness.backends import get_backend
from harness.datasets.arrays import ArrayDataset
from harness.datasets.encodings import Levels
from harness.datasets.images import ImageDataset
from harness.datasets.registry import Split, load
from harness.interface import Batch, Control, DataInfo
from harness.measuring.evaluator import Evaluator, NoiseKey
from harness.measuring.measurements import Measurements
from harness.metrics.chamfer import cd
from harness.metrics.coverage import cov_l2, mmd_l2
from harness.metrics.floor import floor_rows, reference_rows
from harness.process.watch import Interrupted, Progress, TimedOut
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.streams.stream import Stream
from harness.trial import DatasetRef, FixedSolver, ModelSpec, Posterior, SampleMetrics, Trial

pytestmark = pytest.mark.usefixtures("process_unchanged")


def _evaluated(trial: Trial, **fields: Any) -> Trial:  # noqa: ANN401
    return replace(trial, evaluation=replace(trial.evaluation, **fields))


def _moons(rows: int = 50, samplings: int = 3, exact: int = 20) -> Trial:
    return _evaluated(
        fake_trial(iterations=5), sample_metrics=SampleMetrics(rows, samplings, exact)
    )


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A trial on a table of five columns with 60 test rows."""
    rows = Stream(0, "test/table").normal((400, 5)) * 2 + 1
    splits: dict[Split, Any] = {"train": rows[:300], "val": rows[300:340], "test": rows[340:]}
    dataset = ArrayDataset("table", splits)
    monkeypatch.setattr("harness.datasets.registry.load", lambda *_: dataset)
    trial = replace(fake_trial(iterations=5), dataset=DatasetRef("table", "0"))
    return _evaluated(trial, sample_metrics=SampleMetrics(samplings=3, exact_emd_rows=20))


def test_the_record_has_means_minima_floors_and_their_rows(tmp_path: Path, table: Trial) -> None:
    seen: list[Progress] = []
    assert run_fake(tmp_path, table, progress=seen.append) is Status.OK
    result = result_of(tmp_path, table)
    metrics = result["metrics"]
    for name, rows in {
        **dict.fromkeys(("cd", "mmd_kernel", "emd_3d_reading_approximate"), 60),
        **dict.fromkeys(("emd", "emd_3d_reading"), 20),
    }.items():
        assert (metrics[name]["n"], metrics[name]["rows"]) == (3, rows)
        floor = metrics[f"{name}_floor"]
        assert (floor["n"], floor["rows"], floor["unit"]) == (1, rows, metrics[name]["unit"])
        if name != "mmd_kernel":
            least = metrics[f"min_{name}"]
            assert least["value"] < metrics[name]["value"]
            assert (least["n"], least["rows"]) == (3, rows)
    assert result["nfe"]["samplings"] == {"forward": {"mean": 9.0, "max": 9, "n": 3}}
    assert result["timing"]["sampling_s"]["n"] == result["timing"]["sample_metrics_s"]["n"] == 3
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases[-4:] == ["floors", "sampling 1/3", "sampling 2/3", "sampling 3/3"]


def test_samples_are_those_of_seed_and_number_against_the_fixed_references(
    tmp_path: Path,
) -> None:
    trial = _moons()
    assert run_fake(tmp_path, trial) is Status.OK
    result = result_of(tmp_path, trial)
    attempt = TrialFolder(tmp_path, trial.id).attempt(result["attempt_id"])
    arrays = load_file(attempt / "model.safetensors")
    dataset = load("moons")
    references = reference_rows(dataset.rows("test").x, 50)
    values = []
    for index in range(3):
        base = Stream(trial.seed, "samplings/base", index).normal((50, 2)).astype("float32")
        samples = base * np.exp(arrays["s"]) + arrays["m"]
        values.append(cd(samples, references))
    metrics = result["metrics"]
    assert metrics["cd"]["value"] == pytest.approx(np.mean(values), rel=1e-12)
    assert metrics["min_cd"]["value"] == pytest.approx(min(values), rel=1e-12)
    expected = cd(floor_rows(dataset.rows("train").x, 50), references)
    assert metrics["cd_floor"]["value"] == pytest.approx(expected, rel=1e-12)
    # A plane has no triples.
    assert not any("3d" in name for name in metrics)


def _cut(patch: pytest.MonkeyPatch, method: str, at: int, error: BaseException) -> None:
    """What is raised when the evaluator is to do number `at` of something repeated."""
    whole = getattr(Evaluator, method)

    def cut(self: Evaluator, *arguments: Any) -> Any:  # noqa: ANN401
        if at in arguments:
            raise error
        return whole(self, *arguments)

    patch.setattr(Evaluator, method, cut)


def _cut_then_finished(
    root: Path, trial: Trial, patch: pytest.MonkeyPatch, method: str, at: int, seen: list[Progress]
) -> Measurements:
    """Runs a trial that is cut and then goes on; returns what the first attempt left."""
    with patch.context() as context:
        _cut(context, method, at, MemoryError("out of memory"))
        stopped = run_fake(root, trial, may_retry=True)
    assert stopped is Status.OUT_OF_MEMORY
    (attempt,) = TrialFolder(root, trial.id).attempts()
    state = Measurements.read(attempt)
    assert state is not None
    assert run_fake(root, trial, progress=seen.append) is Status.OK
    return state


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_phase_that_was_cut_goes_on_with_the_same_numbers(
    tmp_path: Path, table: Trial, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    assert run_fake(tmp_path / "calm", table) is Status.OK
    root, seen = tmp_path / "cut", list[Progress]()
    state = _cut_then_finished(root, table, monkeypatch, "sampling", at, seen)
    assert state.samplings.count == at
    assert "test_nll" in state.metrics
    assert timeless(result_of(root, table)) == timeless(result_of(tmp_path / "calm", table))
    phases = {progress.phase for progress in seen}
    assert not phases & {"testing", "floors", *(f"sampling {k + 1}/3" for k in range(at))}
    assert result_of(root, table)["environment"]["resumed"] == "bitwise"


def test_measurements_of_other_arrays_are_not_taken_over(tmp_path: Path) -> None:
    attempt = tmp_path / "attempt-a"
    attempt.mkdir()
    one = Measurements("digest", {"test_nll": {"value": 0.1, "unit": "nats", "n": 3}}, draws=2)
    one.log_weights = np.array([1 / 3, -2.0])
    one.samplings.add({"cd": 1 / 3})
    one.write(attempt)
    back = Measurements.newest([attempt, tmp_path / "attempt-b"], "digest")
    assert (back.metrics, back.draws) == (one.metrics, 2)
    assert list(back.samplings.values("cd")) == [1 / 3]
    np.testing.assert_array_equal(back.log_weights, one.log_weights)
    assert not Measurements.newest([attempt], "other").metrics
    (attempt / "checkpoint" / "measured.safetensors").write_bytes(b"torn")
    assert not Measurements.newest([attempt], "digest").metrics


def test_a_time_limit_and_a_request_to_stop_keep_what_was_measured(
    tmp_path: Path, table: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TrialFolder(tmp_path, table.id)
    with monkeypatch.context() as patch:
        _cut(patch, "sampling", 1, Interrupted())
        with pytest.raises(KeyboardInterrupt):
            run_fake(tmp_path, table)
    assert folder.read_result() is None
    with monkeypatch.context() as patch:
        _cut(patch, "sampling", 2, TimedOut("stopped after 1 minutes"))
        assert run_fake(tmp_path, table) is Status.TIMEOUT
    states = [Measurements.read(attempt) for attempt in folder.attempts()]
    assert sorted(state.samplings.count for state in states if state) == [1, 2]
    # `harness run` makes room for a result and leaves the attempts.
    folder.set_aside(attempts=False)
    assert run_fake(tmp_path, table) is Status.OK
    assert run_fake(tmp_path / "calm", table) is Status.OK
    assert timeless(result_of(tmp_path, table)) == timeless(result_of(tmp_path / "calm", table))


def test_samples_that_are_not_finite_are_said_and_the_test_stays(
    tmp_path: Path, table: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", '{"nan_in_sampling_of": 60}')
    assert run_fake(tmp_path, table) is Status.OK
    result = result_of(tmp_path, table)
    assert result["message"] == (
        "no sample metrics: sampling 1 of 3: 3 of 60 samples are not finite"
    )
    assert "test_nll" in result["metrics"]
    assert "cd" not in result["metrics"]


def test_no_floor_with_fewer_training_rows_than_references(
    tmp_path: Path, table: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Stream(0, "test/table").normal((90, 5))
    splits: dict[Split, Any] = {"train": rows[:30], "val": rows[:30], "test": rows[30:]}
    monkeypatch.setattr("harness.datasets.registry.load", lambda *_: ArrayDataset("table", splits))
    assert run_fake(tmp_path, table) is Status.OK
    result = result_of(tmp_path, table)
    assert result["message"].startswith("no floors: a floor needs as many training rows")
    assert "cd" in result["metrics"]
    assert "cd_floor" not in result["metrics"]


def test_what_cannot_be_measured_ends_a_trial_before_it_trains(
    tmp_path: Path, table: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(trial: Trial, root: str) -> str:
        assert run_fake(tmp_path / root, trial) is Status.ERROR
        result = result_of(tmp_path / root, trial)
        assert result["timing"].get("step_s") is None
        return str(result["message"])

    with monkeypatch.context() as patch:
        patch.setattr("harness.training.attempt.memory_at_hand", lambda *_: 1000)
        assert "GB of host memory" in refused(table, "memory")
    distribution = metadata.distribution

    def without_pot(name: str) -> metadata.Distribution:
        if name == "POT":
            raise metadata.PackageNotFoundError(name)
        return distribution(name)

    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.distribution", without_pot)
        assert "'sample_metrics' needs POT, which is not installed" in refused(table, "library")
    images: dict[Split, Any] = dict.fromkeys(("train", "val", "test"), np.zeros((40, 1, 4, 4)))
    monkeypatch.setattr("harness.datasets.registry.load", lambda *_: ArrayDataset("table", images))
    assert "has the shape [1, 4, 4]" in refused(table, "shape")


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Trial:
    """An autoencoder on binary images, of which 20 are tested."""
    pixels = Stream(0, "images").integers(2, (90, 1, 8, 8)).astype(np.uint8)
    splits: dict[Split, Any] = {"train": pixels, "val": pixels[:30], "test": pixels[:20]}
    found = ImageDataset("pixels", splits, Levels(2, "bernoulli"))
    monkeypatch.setattr("harness.datasets.registry.load", lambda *_: found)
    trial = replace(
        fake_trial(iterations=5),
        dataset=DatasetRef("pixels", "0"),
        model=ModelSpec(posterior=Posterior(latent=4, amortization="plain")),
    )
    return _evaluated(trial, batch=8, image_metrics=True, importance_samples=4)


def test_reconstructions_and_prior_samples_are_apart(tmp_path: Path, images: Trial) -> None:
    assert run_fake(tmp_path, images) is Status.OK
    metrics = result_of(tmp_path, images)["metrics"]
    pixels = Stream(0, "images").integers(2, (90, 1, 8, 8))[:20].astype(np.float64)
    shifts = [
        Stream(0, f"reconstruct/{index}/posterior").normal((size, 4)).astype("float32").mean(-1)
        for index, size in enumerate((8, 8, 4))
    ]
    decoded = pixels + 0.01 * np.concatenate(shifts).reshape(-1, 1, 1, 1)
    assert metrics["mmd_l2_recon"]["value"] == pytest.approx(mmd_l2(decoded, pixels), rel=1e-5)
    assert metrics["cov_l2_recon"]["value"] == cov_l2(decoded, pixels) == 100.0
    # Every draw of the fake prior decodes to one image.
    assert metrics["cov_l2_prior"]["value"] == 5.0
    assert metrics["mmd_l2_prior"]["value"] > 1.0
    assert metrics["mmd_l2_floor"]["value"] > 1.0
    assert metrics["mmd_l2_prior"] | {"value": 0} == {"value": 0, "unit": "intensity²", "n": 20}


def test_importance_weights_by_hand(tmp_path: Path, images: Trial) -> None:
    assert run_fake(tmp_path, images) is Status.OK
    result = result_of(tmp_path, images)
    metrics = result["metrics"]
    model = FakeBackend().open(images, DataInfo("pixels", (1, 8, 8), "bernoulli"), "cpu")
    attempt = TrialFolder(tmp_path, images.id).attempt(result["attempt_id"])
    model.load_arrays(load_file(attempt / "model.safetensors"))
    control = Control(images.solver, "exact")
    pixels = Stream(0, "images").integers(2, (90, 1, 8, 8))[:20]
    bounds, elbos = [], []
    for number, start in enumerate((0, 8, 16)):
        x = pixels[start : start + 8].astype("float32")
        noise = [
            Stream(0, f"importance/{number}/posterior", draw).normal((len(x), 4))
            for draw in range(4)
        ]
        terms = [
            model.evaluate(
                Batch(x, {"posterior": each.astype("float32")}), control, ("elbo_terms",)
            ).values
            for each in noise
        ]
        weights = [-v["elbo_terms/reconstruction"] - v["elbo_terms/kl"] for v in terms]
        elbos += weights
        bounds += [
            -math.log(sum(math.exp(w - float(row.max())) for w in row) / 4) - float(row.max())
            for row in np.array(weights, np.float64).T
        ]
    found = metrics["test_iw_nll"]
    assert found["value"] == pytest.approx(np.mean(bounds), rel=1e-6)
    assert (found["n"], found["draws"]) == (20, 4)
    # It bounds the likelihood more tightly than the ELBO of the same draws.
    assert found["value"] < -np.concatenate(elbos).mean()


def test_draws_that_were_cut_go_on(
    tmp_path: Path, images: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_fake(tmp_path / "calm", images) is Status.OK
    root, seen = tmp_path / "cut", list[Progress]()
    state = _cut_then_finished(root, images, monkeypatch, "log_weights", 2, seen)
    assert state.draws == 2
    assert timeless(result_of(root, images)) == timeless(result_of(tmp_path / "calm", images))
    assert not {progress.phase for progress in seen} & {"draw 1/4", "draw 2/4", "reconstructing"}


def _hutchinson(batch: int) -> tuple[Evaluator, list[Any]]:
    """A score of 100 rows of moons by Hutchinson's trace of a torch model that is not trained."""
    pytest.importorskip("torch")
    trial = replace(
        fake_trial(),
        backend="torch",
        gradient="direct",
        precision="float64",
        model=ModelSpec("concatsquash", (16, 16), "tanh"),
        solver=FixedSolver("rk4_38", 4),
    )
    trial = _evaluated(trial, trace="hutchinson", rows=100, batch=batch)
    dataset = load("moons")
    backend = get_backend("torch")
    backend.prepare(trial, 1)
    model = backend.open(trial, dataset.info, "cpu")
    arrays = model.arrays()
    model.load_arrays({name: 3 * array for name, array in arrays.items()})
    evaluator = Evaluator(trial, model, dataset, lambda: None)
    return evaluator, evaluator.chunks("test", 100)


def test_an_estimate_does_not_depend_on_the_batches_and_says_what_its_probes_leave_open() -> None:
    evaluator, whole = _hutchinson(100)
    score = evaluator.score("test", whole)
    for batch in (7, 50):
        other, chunks = _hutchinson(batch)
        assert other.score("test", chunks).nll == pytest.approx(score.nll, rel=1e-12)
    # Validation is a part of the training, and keeps the noise that it had.
    assert other.score("val", chunks).nll != evaluator.score("val", whole).nll
    variance = evaluator.probe_variance("test", whole[0])
    assert variance is not None
    sem = np.sqrt(variance / 100)
    draws = [
        -float(np.mean(evaluator.log_likelihood(whole[0].x, NoiseKey("test", draw=k))[0]))
        for k in range(60)
    ]
    # The relative error of a standard deviation of 60 is 9 %, of one of 100 differences 7 %.
    assert sem == pytest.approx(np.std(draws, ddof=1), rel=0.5)
    assert sem > 0


def test_an_exact_trace_has_no_probes(tmp_path: Path) -> None:
    trial = _evaluated(fake_trial(iterations=5), trace="exact")
    assert run_fake(tmp_path, trial) is Status.OK
    exact = result_of(tmp_path, trial)["metrics"]
    assert "probe_sem" not in exact["test_nll"]
    assert "probe_variance" not in exact
    estimated = _evaluated(trial, trace="hutchinson")
    assert run_fake(tmp_path, estimated) is Status.OK
    # The fake has no trace: both draws are the same.
    metrics = result_of(tmp_path, estimated)["metrics"]
    assert metrics["test_nll"]["probe_sem"] == metrics["probe_variance"]["value"] == 0.0
