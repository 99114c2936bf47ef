"""`harness.trained`: the model of a trial as something to use.

log p is that of the data space (`Trained.space`): log p(data) = log p(model's row) + log-volume of
the preprocessing, so that dequantised pixels have their densities per level, not those of logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from harness.architecture.noise import draw, noise_slots
from harness.datasets.base import Dataset, Rows
from harness.interface import Array, Batch, Control, EvaluationReport, Quantity
from harness.measuring.evaluator import Evaluator, NoiseKey, SolveFailed
from harness.models.opening import Opened, open_model
from harness.models.rows import checked, refuse
from harness.process.cores import usable_cores
from harness.trial import Evaluation, Trial

__all__ = ["Samples", "Trained", "trained"]

Float = npt.NDArray[np.float64]


class Samples(NamedTuple):
    """Samples of a model.

    Arguments:
        x: [n, *event_shape] in data space.
        log_prob: [n] nats, carried along from the base; None of an autoencoder, whose samples are
            means of pixels and have no density.
    """

    x: Float
    log_prob: Float | None


def trained(
    root: str | Path,
    trial: str,
    *,
    backend: str | None = None,
    evaluation: Evaluation | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
    cores: int | None = None,
) -> Trained:
    """Opens the trained model of a recorded trial.

    Arguments:
        root: The run root, as `harness run --root` has it.
        trial: Id of the trial, or its beginning.
        backend: Who computes, whoever trained; None: the one that trained.
        evaluation: Solver, trace and rows of a solve; None: as the trial was tested.
        device: `cpu` or `gpu`.
        cores: Processor cores that it may use; None: all that the process may.

    Raises:
        InputError: There is no such trial or backend, or the trial has no trained model.
        DataError: It was trained on a file of somebody's own that is not here, or is another now.
        RecordError: A record is damaged.
        BackendError: The backend is not installed, or the device is not there.
    """
    cores = cores or len(usable_cores())
    opened = open_model(
        Path(root), trial, backend=backend, evaluation=evaluation, device=device, cores=cores
    )
    return Trained(opened)


class Trained:
    """A trained model. Rows are solved `evaluation.batch` at a time, so memory is bounded; those
    of one solve share its steps, as in the test of the trial.

    Arguments:
        opened: The model.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._evaluator = Evaluator(opened.trial, opened.model, opened.dataset, lambda: None)
        self._forward: list[int] = []

    @property
    def spec(self) -> Trial:
        """The trial, as it is recorded."""
        return self._opened.spec

    @property
    def arrays(self) -> Mapping[str, Array]:
        """Its arrays by portable name (`harness.architecture.arrays`); copies."""
        return {name: array.copy() for name, array in self._opened.arrays.items()}

    @property
    def space(self) -> str:
        """What the numbers of a row are."""
        return self._dataset.space.text

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self._dataset.info.event_shape

    @property
    def nfe(self) -> tuple[int, ...]:
        """Evaluations of the dynamics that the last call took: one entry a solve of rows, summed
        over the blocks.
        """
        return tuple(self._forward)

    def log_prob(self, x: object) -> Float:
        """Log p of rows.

        Arguments:
            x: [n, *event_shape], or flat, in data space. Pixels of an integer type are
                dequantised, by noise that is the same in every call.

        Returns:
            [n] nats; with an estimated trace an estimate, by probes that are the same in every
            call.

        Raises:
            AnswerError: The rows are no data of this model, a solve did not finish, or the model
                is an autoencoder, of which `bound` has a bound.
        """
        if self._is_autoencoder:
            refuse("log_prob", "an autoencoder has no log p in closed form", "ask for bound(x)")
        parts = [np.empty(0)]
        for chunk, rows in self._chunks(x):
            log_p, evaluations = self._solved(
                chunk, rows, NoiseKey("points", row=self._first(chunk))
            )
            self._forward.append(evaluations)
            parts.append(log_p + rows.log_volume)
        return np.concatenate(parts)

    def bound(self, x: object, draws: int = 1) -> Float:
        """A lower bound on log p of rows, of an autoencoder: the importance-weighted ELBO.

        Arguments:
            x: As in `log_prob`.
            draws: Draws of the posterior a row; one gives the ELBO.

        Returns:
            [n] nats: logmeanexp over draws of log p(x | z) + log p(z) - log q(z | x).

        Raises:
            AnswerError: The rows are no data of this model, a solve did not finish, or the model
                has a density.
        """
        if not self._is_autoencoder:
            refuse("bound", "this model has a density and needs no bound", "ask for log_prob(x)")
        if draws < 1:
            refuse("draws", f"is {draws}; at least one draw is needed")
        parts = [np.empty(0)]
        for chunk, rows in self._chunks(x):
            total = np.full(len(rows.x), -np.inf)
            for index in range(draws):
                key = NoiseKey("importance", chunk, index)
                log_weights, evaluations = self._solved(chunk, rows, key)
                self._forward.append(evaluations)
                total = np.logaddexp(total, log_weights)
            parts.append(total - np.log(draws))
        return np.concatenate(parts)

    def sample(self, n: int, seed: int = 0) -> Samples:
        """Draws from the model, and the log p of what is drawn.

        Arguments:
            n: How many.
            seed: Equal seeds give equal base samples, in every backend.

        Raises:
            AnswerError: A solve did not finish.
        """
        if n < 0:
            refuse("n", f"is {n}; samples are counted from 0")
        slots = noise_slots(self._opened.trial, self.event_shape, "sample", n)
        base = draw(slots, seed, 0, self._opened.trial.dtype, "trained/")["base"]
        return self._from_base(base)

    def encode(self, x: object) -> Float:
        """The base variables of rows, [n, *event_shape], N(0, I) where the model is perfect.

        Raises:
            AnswerError: The rows are no data of this model, a solve did not finish, or the model
                is an autoencoder, whose encoder gives a distribution.
        """
        if self._is_autoencoder:
            refuse("encode", "an autoencoder gives every row a distribution of codes, not one")
        parts = [np.empty((0, *self.event_shape))]
        for chunk, rows in self._chunks(x):
            z = self._evaluated(chunk, rows, "encode").values["encode"]
            parts.append(np.asarray(z, np.float64))
        return np.concatenate(parts)

    def decode(self, z: object) -> Float:
        """The rows of base variables [n, *event_shape], or of an autoencoder [n, latent].

        Raises:
            AnswerError: They have another shape, are not finite, or a solve did not finish.
        """
        base = np.asarray(z)
        posterior = self.spec.model.posterior
        shape = self.event_shape if posterior is None else (posterior.latent,)
        if base.dtype.kind not in "biuf" or base.shape[1:] != shape or not base.ndim:
            wanted = ", ".join(map(str, shape))
            refuse("z", f"has shape {list(base.shape)} of {base.dtype}, not numbers [n, {wanted}]")
        if not np.isfinite(base).all():
            refuse("z", "holds NaN or infinite values")
        return self._from_base(base.astype(self._opened.trial.dtype), density=False).x

    @property
    def _dataset(self) -> Dataset:
        return self._opened.dataset

    @property
    def _is_autoencoder(self) -> bool:
        return self.spec.model.posterior is not None

    def _chunks(self, x: object) -> Iterator[tuple[int, Rows]]:
        """Rows of the model, those of one solve at a time."""
        trial = self._opened.trial
        rows = self._dataset.space.rows(checked(x, self._dataset, trial.dtype))
        self._begin()
        size = trial.evaluation.batch
        for chunk, start in enumerate(range(0, len(rows.x), size)):
            part = slice(start, start + size)
            yield chunk, Rows(rows.x[part], rows.log_volume[part])

    def _begin(self) -> None:
        self._forward = []
        # Precision is a setting of the process, which another model may have changed.
        self._opened.backend.prepare(self._opened.trial, self._opened.cores)

    def _solved(self, chunk: int, rows: Rows, key: NoiseKey) -> tuple[Float, int]:
        try:
            return self._evaluator.log_likelihood(rows.x, key, log_volume=rows.log_volume)
        except SolveFailed as error:
            self._fail(chunk, str(error))

    def _evaluated(self, chunk: int, rows: Rows, quantity: Quantity) -> EvaluationReport:
        trial = self._opened.trial
        control = self._control()
        batch = Batch(rows.x.astype(trial.dtype))
        report = self._opened.model.evaluate(batch, control, (quantity,))
        if report.failure:
            self._fail(chunk, f"the solve did not finish: {report.failure}")
        self._forward.append(sum(report.nfe.forward))
        return report

    def _control(self) -> Control:
        trial, said = self._opened.trial, self._opened.trial.evaluation
        return Control(trial.evaluation_solver, said.trace, probes=said.probes, draws=said.draws)

    def _from_base(self, base: Array, density: bool = True) -> Samples:
        trial, model = self._opened.trial, self._opened.model
        density = density and not self._is_autoencoder
        control = self._control()
        x = [np.empty((0, *self.event_shape))]
        log_prob = [np.empty(0)]
        self._begin()
        for chunk, start in enumerate(range(0, len(base), trial.evaluation.batch)):
            own = base[start : start + trial.evaluation.batch]
            noise = self._probes(len(own), start) if density else {}
            nothing = np.empty((0, *self.event_shape), trial.dtype)
            report = model.sample(Batch(nothing, {**noise, "base": own}), control, density=density)
            if report.failure:
                self._fail(chunk, f"the solve did not finish: {report.failure}")
            self._forward.append(sum(report.nfe.forward))
            data = self._dataset.space.data(np.asarray(report.values["sample"], np.float64))
            x.append(data)
            if density:
                volume = self._dataset.space.rows(data).log_volume
                log_prob.append(np.asarray(report.values["log_prob"], np.float64) + volume)
        return Samples(np.concatenate(x), np.concatenate(log_prob) if density else None)

    def _first(self, chunk: int) -> int:
        """Number of the first row of a batch: the noise of a row does not depend on its batch."""
        return chunk * self._opened.trial.evaluation.batch

    def _probes(self, count: int, first_row: int) -> Mapping[str, Any]:
        trial = self._opened.trial
        slots = noise_slots(trial, self.event_shape, "evaluate", count)
        return draw(slots, trial.seed, 0, trial.dtype, "points/", first_row)

    def _fail(self, chunk: int, message: str) -> NoReturn:
        size, first = self._opened.trial.evaluation.batch, self._first(chunk)
        refuse(
            f"rows {first} to {first + size - 1}",
            message,
            "look for rows far from the data; or give evaluation= another tolerance or max_steps",
        )
