"""What the kit expects of a flow: densities, losses and gradients computed in plain numpy.

`run` computes a call of a model from its arrays. A gradient is the difference of two runs that
take the very steps of the undisturbed one: the derivative of the discrete solution, which is what
the gradient modes `direct` and `checkpoint` compute.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from harness.architecture.arrays import SPECTRAL
from harness.architecture.transforms import (
    Block,
    FactorOut,
    Norm,
    Squeeze,
    blocks_of,
    transforms,
)
from harness.conformance.oracle.autoencoder import Nets, log_normal
from harness.conformance.oracle.field import Change, Field, Float
from harness.conformance.oracle.matching import matching_loss
from harness.conformance.oracle.regularizers import integrand
from harness.conformance.oracle.solve import Solution, State, solve, solve_pairs
from harness.interface import Array, Batch, Control, DataInfo
from harness.trial import FixedSolver, FlowMatching, Trial

__all__ = ["Oracle", "Run", "log_standard_normal"]


def log_standard_normal(z: Float) -> Float:
    """Log-density of N(0, I); [batch, ...] to [batch]."""
    return np.asarray(-0.5 * (z**2 + np.log(2 * np.pi)).reshape(len(z), -1).sum(axis=1))


@dataclass
class Run:
    """A call of a model, computed.

    Arguments:
        log_prob: [batch].
        z: Base variable, [batch, D].
        regularizers: Unweighted, per example, by name.
        loss: Negative mean log-likelihood, or what an autoencoder lowers, plus weighted
            regularizers; or that of flow matching, and then nothing but the buffers beside it.
        elbo_terms: Of an autoencoder, by the name that an evaluation gives them.
        picture: Of an autoencoder, what it makes of its z.
        solves: In the order of the blocks, three a block for `tpr`.
        buffers: Buffers after a training step.
        bases: Of the trace `hutch++`, a basis for each evaluation.
    """

    log_prob: Float = field(default_factory=lambda: np.zeros(0))
    z: Float = field(default_factory=lambda: np.zeros(0))
    regularizers: dict[str, Float] = field(default_factory=dict)
    loss: float = 0.0
    elbo_terms: dict[str, Float] = field(default_factory=dict)
    picture: Float = field(default_factory=lambda: np.zeros(0))
    solves: list[Solution] = field(default_factory=list)
    buffers: dict[str, Array] = field(default_factory=dict)
    bases: list[Float] = field(default_factory=list)


class _Start(NamedTuple):
    """What enters the flow.

    Arguments:
        z: The rows or images themselves; of an autoencoder z0.
        log_q: Of an autoencoder the log-density of z0, [batch].
        changes: Of an autoencoder what each example gives to each block's dynamics.
    """

    z: Float
    log_q: Float | float = 0.0
    changes: Mapping[int, Change | None] = {}


@dataclass(frozen=True)
class Oracle:
    """Computes what a model of this trial is to compute.

    Arguments:
        trial: The trial.
        data: What a model knows of its data.
    """

    trial: Trial
    data: DataInfo

    def run(
        self,
        arrays: Mapping[str, Array],
        batch: Batch,
        control: Control,
        *,
        train: bool = False,
        warm: Sequence[float] = (),
        like: Run | None = None,
        fixed: Sequence[Float] = (),
    ) -> Run:
        """Computes a training step's loss, or an evaluation.

        Arguments:
            arrays: Arrays of the model.
            batch: Examples and noise.
            control: Solver and trace.
            train: Whether regularizers, batch statistics and new spectral vectors take part.
            warm: First step of each block's solve; 0 for the heuristic.
            like: A run whose steps and spectral vectors are taken again.
            fixed: Bases of the trace `hutch++` that are taken again, too.
        """
        run = Run(bases=list(fixed))
        # A training solve alone is by pairs of states.
        control = control if train else replace(control, gradient="direct")
        weights: dict[str, float] = dict(self.trial.regularizer.items()) if train else {}
        totals: dict[str, Float] = {
            name: np.zeros(batch.size) for name in weights if name != "steer"
        }
        arrays = self._normalised(arrays, train=train, run=run, like=like)
        start = self._start(arrays, batch)
        if train and isinstance(self.trial.objective, FlowMatching):
            blocks = blocks_of(self.trial.model, self.data.event_shape)
            fields = [self._field(block, arrays, batch, control, None) for block in blocks]
            times = [batch.noise[f"path_time/{block.index}"] for block in blocks]
            base = batch.noise["base"].reshape(start.z.shape)
            run.loss = matching_loss(self.trial.objective, fields, start.z, base, times)
            return run
        volume = np.zeros(batch.size) if batch.log_volume is None else batch.log_volume
        z, a, left = start.z, -volume, []
        for transform in transforms(self.trial.model, self.data.event_shape):
            if isinstance(transform, Block):
                index = transform.index
                first = warm[index] if warm else 0.0
                f = self._field(transform, arrays, batch, control, start.changes.get(index))
                f = replace(f, bases=run.bases, given=bool(fixed))
                z, a = self._block(f, batch, control, (z, a), totals, run, first or None, like)
            elif isinstance(transform, Norm):
                z, gained = self._norm(transform, arrays, z, train=train, run=run)
                a = a - gained
            elif isinstance(transform, Squeeze):
                z = _squeezed(z)
            elif isinstance(transform, FactorOut):
                half = z.shape[1] // 2
                left.append(z[:, half:].reshape(batch.size, -1))
                z = z[:, :half]
        run.z = np.concatenate([*left, z.reshape(batch.size, -1)], axis=1)
        run.log_prob = log_standard_normal(run.z) - (a + volume)
        run.regularizers = totals
        nll = self._nll(arrays, batch, control.kl_weight, start.log_q, run)
        run.loss = float(np.mean(nll)) + sum(
            weights[name] * float(np.mean(value)) for name, value in totals.items()
        )
        return run

    def derivative(
        self,
        arrays: Mapping[str, Array],
        batch: Batch,
        control: Control,
        direction: Mapping[str, Float],
        at: Run,
        h: float = 1e-5,
    ) -> float:
        """Derivative of the training loss along a direction in the arrays, at a run of them."""
        ends = []
        # The gradient holds them fixed.
        bases = self.run(arrays, batch, control, train=True, like=at).bases if at.bases else []
        for sign in (1, -1):
            moved = dict(arrays)
            for name, along in direction.items():
                moved[name] = np.asarray(arrays[name] + sign * h * along)
            ends.append(self.run(moved, batch, control, train=True, like=at, fixed=bases).loss)
        return (ends[0] - ends[1]) / (2 * h)

    @property
    def _nets(self) -> Nets | None:
        posterior = self.trial.model.posterior
        return None if posterior is None else Nets(posterior, self.data)

    def _start(self, arrays: Mapping[str, Float], batch: Batch) -> _Start:
        x = batch.x.astype(np.float64)
        if self._nets is None:
            flat = self.trial.model.strides is None
            return _Start(x.reshape(batch.size, -1) if flat else x)
        blocks = blocks_of(self.trial.model, self.data.event_shape)
        encoding = self._nets.encode(arrays, x, blocks)
        z = encoding.mean + np.sqrt(encoding.variance) * batch.noise["posterior"]
        changes = {
            block.index: self._nets.changes(block, encoding.conditions.get(block.index))
            for block in blocks
        }
        return _Start(z, log_normal(z, encoding.mean, encoding.variance), changes)

    def _nll(
        self,
        arrays: Mapping[str, Float],
        batch: Batch,
        kl_weight: float,
        log_q: Float | float,
        run: Run,
    ) -> Float:
        """What training lowers, regularizers apart, [batch]; of an autoencoder its terms, too."""
        if self._nets is None:
            return -run.log_prob
        kl = log_q - run.log_prob
        reconstruction, run.picture = self._nets.reconstruction(arrays, run.z, batch.x)
        run.elbo_terms = {"elbo_terms/reconstruction": reconstruction, "elbo_terms/kl": kl}
        return reconstruction + kl_weight * kl

    def _field(
        self,
        block: Block,
        arrays: Mapping[str, Float],
        batch: Batch,
        control: Control,
        change: Change | None,
    ) -> Field:
        prefix = f"block{block.index}/"
        own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        if "swish_beta" in arrays:
            own["swish_beta"] = arrays["swish_beta"]
        probe = batch.noise.get(f"probe/{block.index}")
        return Field(self.trial.model, block, own, control.trace, probe, change, control.draws)

    def _block(
        self,
        f: Field,
        batch: Batch,
        control: Control,
        start: tuple[Float, Float],
        totals: dict[str, Float],
        run: Run,
        first: float | None,
        like: Run | None,
    ) -> tuple[Float, Float]:
        """Solves a block, in three pieces if `tpr` looks at its path; adds to `totals`."""
        end_time = float(f.arrays["sqrt_end_time"]) ** 2
        steer = f"end_time/{f.block.index}"
        if steer in batch.noise:
            end_time += self.trial.regularizer["steer"] * (2 * float(batch.noise[steer]) - 1)
        f = replace(f, end=end_time)
        names = [name for name in totals if name != "tpr"]
        times = np.array([0.0, 1.0])
        if "tpr" in totals:
            times = np.array([0.0, *sorted(batch.noise[f"tpr_times/{f.block.index}"]), 1.0])

        z, a = start
        y: State = z, np.stack([a, *(np.zeros_like(a) for _ in names)])
        path = [z]
        for begin, finish in itertools.pairwise(times.tolist()):
            span = finish - begin

            def rate(s: float, at: State, begin: float = begin, span: float = span) -> State:
                t = end_time * (begin + span * s)
                rows = [-f.divergence(t, at[0])] + [integrand(k, f, t, at[0]) for k in names]
                scale = end_time * span
                return scale * f.f(t, at[0]).real, scale * np.stack(rows)

            repeat = like.solves[len(run.solves)] if like else None
            if control.gradient == "reversible" and isinstance(control.solver, FixedSolver):
                solved = solve_pairs(rate, y, control.solver)
            else:
                solved = solve(
                    rate, y, control.solver, first=first, length=end_time * span, repeat=repeat
                )
            run.solves.append(solved)
            y = solved.end
            path.append(y[0])
            if len(times) > 2 and finish < 1:
                following = float(times[len(path)]) - finish
                first = min(1.0, solved.proposed * span / following)
        for name, row in zip(names, y[1][1:], strict=True):
            totals[name] = totals[name] + row
        if "tpr" in totals:
            totals["tpr"] = totals["tpr"] + _distance_from_line(times, path)
        return y[0], y[1][0]

    def _normalised(
        self, arrays: Mapping[str, Array], *, train: bool, run: Run, like: Run | None
    ) -> dict[str, Float]:
        """Float64 arrays, those under spectral norm divided by their largest singular value."""
        out = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
        if not self.trial.model.spectral_norm:
            return out
        for name, value in list(out.items()):
            if name.rpartition("/")[2] not in SPECTRAL:
                continue
            if value.ndim == 1:
                out[name] = value / np.linalg.norm(value)
                continue
            matrix = value.reshape(len(value), -1)
            u, v = out[f"{name}_u"], out[f"{name}_v"]
            if like and train:
                u, v = like.buffers[f"{name}_u"], like.buffers[f"{name}_v"]
            elif train:
                v = matrix.T @ u / np.linalg.norm(matrix.T @ u)
                u = matrix @ v / np.linalg.norm(matrix @ v)
                run.buffers |= {f"{name}_u": u, f"{name}_v": v}
            out[name] = value / (u @ matrix @ v)
        return out

    def _norm(
        self, norm: Norm, arrays: Mapping[str, Float], z: Float, *, train: bool, run: Run
    ) -> tuple[Float, Float | float]:
        """Moving batch norm; returns the log-determinant too."""
        spec = self.trial.model.batch_norm
        assert spec is not None
        prefix = f"norm{norm.index}/"
        scale, shift, mean, var, steps = (
            arrays[prefix + name]
            for name in ("log_scale", "shift", "running_mean", "running_var", "steps")
        )
        axes = (0, *range(2, z.ndim))
        sides = (1, -1, *[1] * (z.ndim - 2))
        if train:
            own = z.mean(axis=axes), z.var(axis=axes, ddof=1)
            for name, running, new in zip(("mean", "var"), (mean, var), own, strict=True):
                run.buffers[f"{prefix}running_{name}"] = running - spec.decay * (running - new)
            run.buffers[f"{prefix}steps"] = steps + 1
            if spec.lag > 0:
                keep = 1 - spec.lag ** (steps + 1)
                mean, var = (
                    (new - (1 - spec.lag) * (new - running)) / keep
                    for running, new in zip((mean, var), own, strict=True)
                )
        factor = np.exp(scale) / np.sqrt(var + 1e-4)
        pixels = int(np.prod(z.shape[2:]))
        gained = pixels * float(np.sum(scale - np.log(var + 1e-4) / 2))
        out = (z - mean.reshape(sides)) * factor.reshape(sides) + shift.reshape(sides)
        return out, gained


def _squeezed(z: Float) -> Float:
    """[batch, C, H, W] -> [batch, 4C, H/2, W/2]; see `harness.architecture.transforms.Squeeze`."""
    n, c, height, width = z.shape
    patches = z.reshape(n, c, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 5, 2, 4)
    return patches.reshape(n, 4 * c, height // 2, width // 2)


def _distance_from_line(times: Float, path: Sequence[Float]) -> Float:
    """Squared distance of a path from its least-squares line in time, over its points; [batch]."""
    points = np.stack([z.reshape(len(z), -1) for z in path])
    line = np.stack([np.ones_like(times), times], axis=1)
    residual = points - np.einsum("ij,jbd->ibd", line @ np.linalg.pinv(line), points)
    return np.asarray((residual**2).sum(axis=(0, 2)) / len(times))
