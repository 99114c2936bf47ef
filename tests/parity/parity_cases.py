"""The trials on which torch and jax are compared; imported by the tests and by the worker.

Together they have every layer in both forms, every shared solver, regularizer, optimiser, gradient
mode, first step, trace, number of probes, posterior, path and coupling, norms, scales and spectral
norm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from harness.interface import DataInfo
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    DatasetRef,
    EndTime,
    FixedSolver,
    FlowMatching,
    ModelSpec,
    Optimizer,
    Posterior,
    PrecisionName,
    RegularizerName,
    Training,
    Trial,
)

STEPS = 20
BATCH = 16

TABLE = DataInfo("parity", (4,))
IMAGE = DataInfo("parity", (1, 4, 4))
BINARY = DataInfo("parity", (1, 4, 4), "bernoulli")
LEVELS = DataInfo("parity", (1, 4, 4), "categorical")
TRAINED = EndTime(0.8, "trained")


class Case(NamedTuple):
    """A trial, and the shape of an example."""

    trial: Trial
    data: DataInfo


def _adaptive(name: str = "dopri5", tolerance: float = 1e-5, **fields: Any) -> AdaptiveSolver:  # noqa: ANN401
    return AdaptiveSolver(name, tolerance, tolerance, **fields)


def _table(layer: Any, nonlinearity: Any, **fields: Any) -> ModelSpec:  # noqa: ANN401
    return ModelSpec(layer, (12, 10), nonlinearity, **fields)


def _image(layer: Any, nonlinearity: Any, **fields: Any) -> ModelSpec:  # noqa: ANN401
    fields = {"strides": (1, 2, -2), "hidden": (4, 3), **fields}
    return ModelSpec(layer, nonlinearity=nonlinearity, **fields)


def _posterior(amortization: Any, layer: Any = "concatsquash", **fields: Any) -> ModelSpec:  # noqa: ANN401
    posterior = Posterior(3, amortization, rank=2)
    return _table(layer, "tanh", posterior=posterior, **fields)


def _trial(model: ModelSpec, solver: Any, gradient: Any, **fields: Any) -> Trial:  # noqa: ANN401
    training = {
        name: fields.pop(name)
        for name in ("trace", "probe", "probes", "draws", "optimizer")
        if name in fields
    }
    return Trial(
        dataset=DatasetRef("parity", "none"),
        backend="none",
        solver=solver,
        model=model,
        training=Training(batch=BATCH, **training),
        gradient=gradient,
        seed=3,
        **fields,
    )


_RNODE: dict[RegularizerName, float] = {
    "rnode.directional": 0.02,
    "rnode.jacobian": 0.01,
    "rnode.kinetic": 0.01,
    "rnode.total": 0.03,
}
_SUMS: dict[RegularizerName, float] = {
    "directional_jvp": 0.01,
    "jacobian_sum": 0.02,
    "kinetic_sum": 0.03,
}
_FFJORD: dict[RegularizerName, float] = {
    "ffjord.dl2": 0.01,
    "ffjord.jdiag": 0.02,
    "ffjord.jfrob": 0.03,
    "ffjord.joffdiag": 0.04,
    "ffjord.l1": 0.05,
    "ffjord.l2": 0.06,
    "released.jdiag": 0.07,
    "released.joffdiag": 0.08,
}
_TAYLOR: dict[RegularizerName, float] = {"taylor_2": 0.01, "taylor_3": 0.02, "taylor_4": 0.03}

TRIALS: dict[str, Trial] = {
    "tabular": _trial(_table("concatsquash", "tanh"), _adaptive(), "adjoint"),
    "tabular-rnode": _trial(
        _table("concatsquash", "softplus", blocks=2, end_time=TRAINED),
        _adaptive("tsit5", regularizers_in_norm=True),
        "direct",
        regularizer=_RNODE,
    ),
    "concat-whole-rms_all": _trial(
        _table("concat", "tanh"),
        _adaptive(first_step="whole", norm="rms_all", end="interpolate"),
        "adjoint",
    ),
    "concat_v2-exact-sums": _trial(
        _table("concat_v2", "elu", end_time=TRAINED),
        _adaptive("bosh3", 1e-3, end="interpolate"),
        "direct",
        trace="exact",
        regularizer=_SUMS,
    ),
    "concatcoord-adamax": _trial(
        _table("concatcoord", "relu"),
        FixedSolver("midpoint", 5),
        "direct",
        optimizer=Optimizer("adamax"),
    ),
    "squash-swish-adamw-clipped": _trial(
        _table("squash", "swish", blocks=2),
        _adaptive("dopri8", end="interpolate"),
        "checkpoint",
        optimizer=Optimizer("adamw", weight_decay=0.1, clip_norm=0.5),
    ),
    "hyper-adam_eps_hat": _trial(
        _table("hyper", "tanh"),
        FixedSolver("rk4_38", 4),
        "adjoint",
        optimizer=Optimizer("adam_eps_hat", weight_decay=0.1),
    ),
    "blend-warm-tpr-steer": _trial(
        _table("blend", "softplus"),
        _adaptive(first_step="warm"),
        "direct",
        regularizer={"steer": 0.2, "tpr": 0.1},
    ),
    "ignore-square-rademacher": _trial(
        _table("ignore", "square"),
        FixedSolver("heun2", 5),
        "adjoint",
        probe="rademacher",
        probes=3,
        optimizer=Optimizer("adam", weight_decay=0.1),
    ),
    "residual-bottleneck-norms": _trial(
        _table("concat", "tanh", residual=True, blocks=2, batch_norm=BatchNorm(lag=0.5)),
        _adaptive(first_step="warm"),
        "adjoint",
        trace="bottleneck",
    ),
    "hutch++-draws": _trial(
        _table("concatsquash", "tanh", residual=True, end_time=TRAINED),
        FixedSolver("rk4_38", 3),
        "direct",
        trace="hutch++",
        probes=6,
        draws=10,
    ),
    "symplectic": _trial(
        _table("concatsquash", "softplus", blocks=2, end_time=TRAINED),
        _adaptive(first_step="warm"),
        "symplectic",
    ),
    "reversible": _trial(
        _table("concatsquash", "tanh", end_time=TRAINED),
        FixedSolver("rk4_38", 4),
        "reversible",
        regularizer={"rnode.kinetic": 0.01},
    ),
    "seminorm": _trial(
        _table("concatsquash", "tanh", end_time=TRAINED),
        _adaptive(adjoint_norm="seminorm"),
        "adjoint",
    ),
    "ffjord": _trial(
        _table("concatsquash", "tanh"),
        FixedSolver("rk4_classic", 3),
        "direct",
        regularizer=_FFJORD,
    ),
    "taylor": _trial(
        _table("concatsquash", "tanh"),
        FixedSolver("midpoint", 3),
        "checkpoint",
        regularizer=_TAYLOR,
    ),
    "image-two-scales": _trial(
        _image("concat", "softplus", scales=2, batch_norm=BatchNorm(), end_time=TRAINED),
        _adaptive(first_step="warm", log_volume_in_state=True),
        "checkpoint",
        regularizer={"rnode.jacobian": 0.01, "rnode.kinetic": 0.01},
    ),
    "image-concatsquash-spectral": _trial(
        _image("concatsquash", "tanh", spectral_norm=True, end_time=TRAINED),
        FixedSolver("rk4_classic", 3),
        "direct",
    ),
    "image-concat_v2": _trial(
        _image("concat_v2", "softplus"),
        _adaptive("bosh3", 1e-3, backward_first_step="heuristic"),
        "adjoint",
    ),
    "image-concatcoord": _trial(_image("concatcoord", "tanh"), FixedSolver("euler", 5), "direct"),
    "image-squash-residual": _trial(
        _image("squash", "elu", residual=True, zero_last=True), _adaptive("tsit5"), "direct"
    ),
    "image-hyper": _trial(_image("hyper", "identity"), FixedSolver("heun2", 3), "direct"),
    "image-blend-bottleneck": _trial(
        _image("blend", "swish"),
        FixedSolver("rk4_38", 2),
        "checkpoint",
        trace="bottleneck",
        probes=2,
    ),
    "image-ignore": _trial(_image("ignore", "relu"), FixedSolver("midpoint", 3), "adjoint"),
    "posterior-plain": _trial(
        _posterior("plain", blocks=2), _adaptive(first_step="warm"), "direct", trace="exact"
    ),
    "posterior-bias": _trial(_posterior("bias"), _adaptive("bosh3", 1e-3), "adjoint"),
    "posterior-low_rank-adamax": _trial(
        _posterior("low_rank", blocks=2, end_time=TRAINED),
        _adaptive(end="interpolate"),
        "checkpoint",
        optimizer=Optimizer("adamax"),
    ),
    "posterior-hyper-levels": _trial(
        _posterior("hyper", "concat"), FixedSolver("rk4_38", 3), "direct"
    ),
    "matching-linear": _trial(
        _table("concatsquash", "tanh", blocks=2, end_time=TRAINED),
        _adaptive(),
        "adjoint",
        objective=FlowMatching("linear", "minibatch_ot", 0.01),
    ),
    "matching-trigonometric-hyper": _trial(
        _table("hyper", "swish"),
        FixedSolver("rk4_38", 4),
        "direct",
        objective=FlowMatching("trigonometric"),
    ),
    "matching-vp-image": _trial(
        _image("blend", "softplus", spectral_norm=True),
        FixedSolver("rk4_38", 2),
        "checkpoint",
        objective=FlowMatching("vp", "minibatch_ot"),
    ),
}

FLOAT32 = (
    "tabular",
    "tabular-rnode",
    "image-two-scales",
    "image-concatsquash-spectral",
    "posterior-low_rank-adamax",
    "matching-linear",
)


def _data(name: str, trial: Trial) -> DataInfo:
    if trial.model.posterior is not None:
        return LEVELS if name.endswith("-levels") else BINARY
    return TABLE if trial.model.strides is None else IMAGE


def cases(backend: str, precision: PrecisionName) -> dict[str, Case]:
    """Returns the cases of one backend and precision by name."""
    return {
        name: Case(replace(trial, backend=backend, precision=precision), _data(name, trial))
        for name, trial in TRIALS.items()
        if precision == "float64" or name in FLOAT32
    }
