"""The trials on which torch and jax are compared; imported by the tests and by the worker."""

from __future__ import annotations

from dataclasses import replace

from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    Evaluation,
    FixedSolver,
    ModelSpec,
    PrecisionName,
    RegularizerName,
    Training,
    Trial,
)

DIM = 4
STEPS = 20

_DOPRI5 = AdaptiveSolver("dopri5", rtol=1e-5, atol=1e-5)
_BASE = Trial(
    dataset=DatasetRef("parity", "none"),
    backend="none",
    solver=_DOPRI5,
    model=ModelSpec(hidden=(16, 16)),
    seed=3,
)
_RNODE: dict[RegularizerName, float] = {"rnode.jacobian": 0.01, "rnode.kinetic": 0.01}
_TRAINED = ModelSpec(
    layer="concatsquash",
    hidden=(12, 10),
    nonlinearity="softplus",
    blocks=2,
    end_time=EndTime(0.8, "trained"),
)

CASES: dict[str, Trial] = {
    "dopri5-adjoint": _BASE,
    "dopri5-direct-rnode": replace(_BASE, gradient="direct", regularizer=_RNODE),
    "tsit5-adjoint-rnode-trained-T": replace(
        _BASE, solver=replace(_DOPRI5, name="tsit5"), model=_TRAINED, regularizer=_RNODE
    ),
    "bosh3-direct-exact-trained-T": replace(
        _BASE,
        solver=replace(_DOPRI5, name="bosh3", rtol=1e-3, atol=1e-3),
        model=replace(_TRAINED, nonlinearity="elu"),
        gradient="direct",
        training=Training(trace="exact"),
    ),
    "dopri5-adjoint-whole-rms_all": replace(
        _BASE, solver=replace(_DOPRI5, first_step="whole", norm="rms_all")
    ),
    "rk4_38-direct-concat": replace(
        _BASE,
        solver=FixedSolver("rk4_38", 4),
        model=ModelSpec("concat", (16, 16)),
        gradient="direct",
    ),
    "rk4_classic-adjoint": replace(_BASE, solver=FixedSolver("rk4_classic", 4)),
    "euler-direct-exact-rademacher": replace(
        _BASE,
        solver=FixedSolver("euler", 10),
        gradient="direct",
        regularizer={"rnode.jacobian": 0.05},
        training=Training(trace="exact", probe="rademacher"),
    ),
    "midpoint-direct-relu": replace(
        _BASE,
        solver=FixedSolver("midpoint", 5),
        model=ModelSpec("concat", (16, 16), "relu"),
        gradient="direct",
    ),
    "heun2-adjoint-square": replace(
        _BASE, solver=FixedSolver("heun2", 5), model=ModelSpec(hidden=(8,), nonlinearity="square")
    ),
}

FLOAT32_CASES = ("dopri5-adjoint", "dopri5-direct-rnode", "rk4_38-direct-concat")


def trials(backend: str, precision: PrecisionName) -> dict[str, Trial]:
    """Returns the trials of one backend and precision by name."""
    names = CASES if precision == "float64" else FLOAT32_CASES
    return {
        name: replace(
            CASES[name],
            backend=backend,
            precision=precision,
            evaluation=Evaluation(trace=CASES[name].training.trace),
        )
        for name in names
    }
