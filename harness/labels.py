"""Short human names for the axes of a trial; progress, filters, tables and MLflow share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.trial import (
    AXES,
    Accuracy,
    AdaptiveSolver,
    BatchNorm,
    EndTime,
    Evaluation,
    FixedSolver,
    FlowMatching,
    LibrarySolver,
    ModelSpec,
    ObjectiveSpec,
    Optimizer,
    Patience,
    Posterior,
    RegularizerName,
    SampleMetrics,
    Schedule,
    SolverSpec,
    Training,
    Trial,
)

__all__ = ["MAIN_AXES", "label", "regularizer_label", "short_name", "solver_label", "trial_name"]

MAIN_AXES = ("dataset", "backend", "solver", "regularizer", "seed")
"""What suites usually vary: these axes name a trial in one line."""


def label(trial: Trial) -> dict[str, str]:
    """Returns one short text for each axis, in the order of `AXES`.

    Trials of one harness version with the same labels differ at most in the dataset's digest.

    Example:
        `{"dataset": "moons", "backend": "jax", "solver": "dopri5 rtol=1e-05 atol=1e-05",
        "regularizer": "none", "model": "concatsquash 64-64-64 tanh x1", ...}`
    """
    return {axis: _SHORT.get(axis, str)(getattr(trial, axis)) for axis in AXES}


def trial_name(trial: Trial) -> str:
    """Returns the main axes in one line: `moons jax dopri5 rtol=1e-05 atol=1e-05 none seed 0`."""
    labels = label(trial)
    *axes, seed = MAIN_AXES
    return " ".join([*(labels[axis] for axis in axes), f"{seed} {labels[seed]}"])


def short_name(trial: Trial) -> str:
    """The same as short as lists need it: `moons jax dopri5 none s0`."""
    axes = label(trial)
    solver = axes["solver"].split()[0]
    return f"{axes['dataset']} {axes['backend']} {solver} {axes['regularizer']} s{axes['seed']}"


def solver_label(solver: SolverSpec) -> str:
    """`dopri5 rtol=1e-05 atol=1e-05` or `rk4_38 steps=8`, then what is not at its default."""
    if isinstance(solver, FixedSolver):
        return f"{solver.name} steps={solver.steps}"
    tolerances = [f"rtol={_number(solver.rtol)}", f"atol={_number(solver.atol)}"]
    if isinstance(solver, LibrarySolver):
        default = LibrarySolver(solver.library)
        parts = [solver.name, *tolerances, *_changed(solver, default, "steps", "max_steps")]
    else:
        pair = AdaptiveSolver(solver.name)
        names = ("first_step", "backward_first_step", "norm", "max_steps", "end")
        more = ("regularizers_in_norm", "log_volume_in_state", "adjoint_norm")
        changed = _changed(solver, pair, *names, *more)
        parts = [solver.name, *tolerances, *changed]
    return " ".join(parts)


def regularizer_label(regularizer: Mapping[RegularizerName, float]) -> str:
    """`none`, or `name=weight` joined by `+`, sorted by name."""
    parts = [f"{name}={_number(weight)}" for name, weight in sorted(regularizer.items())]
    return "+".join(parts) or "none"


def _objective(objective: ObjectiveSpec) -> str:
    if not isinstance(objective, FlowMatching):
        return objective.name
    parts = [objective.name, objective.path, objective.coupling]
    return " ".join([*parts, *_changed(objective, FlowMatching(), "sigma_min")])


def _model(model: ModelSpec) -> str:
    parts = [model.layer, _list(model.hidden, "-") or "linear"]
    if model.strides is not None:
        parts.append(f"strides={_list(model.strides)}")
    parts += [model.nonlinearity, f"x{model.blocks}"]
    parts += _changed(model, ModelSpec(), "scales")
    end_time, default = model.end_time, EndTime()
    if end_time.value != default.value:
        parts.append(f"T={_number(end_time.value)}")
    if end_time.mode != default.mode:
        parts.append(end_time.mode)
    parts += _changed(model, ModelSpec(), "residual", "spectral_norm", "zero_last")
    if model.batch_norm is not None:
        parts += ["batch_norm", *_changed(model.batch_norm, BatchNorm(), "lag", "decay")]
    if model.posterior is not None:
        parts.append(f"vae={model.posterior.latent} {model.posterior.amortization}")
        parts += _changed(model.posterior, Posterior(), "rank", "nonlinear_output")
    return " ".join(parts)


def _training(training: Training) -> str:
    optimizer = training.optimizer
    parts = [
        f"{training.iterations}x{training.batch}",
        f"{optimizer.name} lr={_number(optimizer.lr)}",
        *_changed(optimizer, Optimizer(), "eps", "weight_decay", "clip_norm"),
        *_changed(training.schedule, Schedule(), "warmup", "drops", "factor", "kl_warmup"),
    ]
    patience = _changed(training.patience, Patience(), "drops", "stop", "after")
    # A schedule has drops too.
    parts += [f"patience_{part}" for part in patience]
    parts.append(training.trace)
    names = ("probe", "validate_every", "validation_rows", "validation_trace", "keep")
    more = ("validation_batch", "last_batch", "stratified", "protocol", "probes", "draws")
    parts += _changed(training, Training(), *names, *more)
    return " ".join(parts)


def _evaluation(evaluation: Evaluation) -> str:
    parts = [evaluation.trace, f"batch={evaluation.batch}"]
    names = ("probes", "draws", "rows", "samples", "image_metrics", "importance_samples", "engine")
    parts += _changed(evaluation, Evaluation(), *names)
    if evaluation.sample_metrics is not None:
        wanted = evaluation.sample_metrics
        parts.append(f"metrics={wanted.samplings}x{wanted.rows}")
        parts += _changed(wanted, SampleMetrics(), "exact_emd_rows")
    if evaluation.accuracy is not None:
        parts += ["accuracy", *_changed(evaluation.accuracy, Accuracy(), "gradient", "repeats")]
    if evaluation.solver is not None:
        parts.append(f"by {solver_label(evaluation.solver)}")
    return " ".join(parts)


_SHORT: Mapping[str, Callable[[Any], str]] = {
    "dataset": lambda dataset: str(dataset.name),
    "solver": solver_label,
    "regularizer": regularizer_label,
    "model": _model,
    "training": _training,
    "evaluation": _evaluation,
    "objective": _objective,
}
"""How an axis is shortened; the values of the others are words and numbers already."""


def _changed(spec: object, default: object, *names: str) -> list[str]:
    """`name=value` of the fields that differ from their defaults; the name alone of a switch."""
    values = {name: getattr(spec, name) for name in names}
    return [
        name if value is True else f"{name}={_text(value)}"
        for name, value in values.items()
        if value != getattr(default, name)
    ]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return _list(value)
    return _number(value) if isinstance(value, float) else str(value)


def _list(values: Sequence[int], separator: str = ",") -> str:
    return separator.join(map(str, values))


def _number(value: float) -> str:
    return f"{value:.12g}"
