"""A trial: one fully resolved point of the grid, and its identity.

Plain frozen dataclasses, so that a worker needs neither pydantic nor YAML. The annotations carry
the bounds; `harness.suite` lets pydantic enforce them on what a user wrote.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS

__all__ = [
    "SEMANTICS_VERSION",
    "AdaptiveSolver",
    "Bound",
    "DatasetRef",
    "EndTime",
    "Evaluation",
    "FixedSolver",
    "ModelSpec",
    "Optimizer",
    "SolverSpec",
    "Training",
    "Trial",
    "canonical",
    "canonical_json",
    "decode",
    "encode",
    "identity_of",
]

SEMANTICS_VERSION = 1
"""Raised when the same spec begins to mean another computation; part of every identity."""


@dataclass(frozen=True)
class Bound:
    """Limits of a number, as an annotation: `Annotated[float, Bound(above=0)]`."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.above is not None:
            parts.append(f"greater than {self.above:g}")
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        return " and ".join(parts)

    def check(self, value: float) -> float:
        """Returns `value`, or raises ValueError naming the accepted range."""
        if (
            not math.isfinite(value)
            or (self.above is not None and not value > self.above)
            or (self.at_least is not None and not value >= self.at_least)
            or (self.at_most is not None and not value <= self.at_most)
        ):
            raise ValueError(f"must be {self}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:  # noqa: ANN401
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:  # noqa: ANN401
        limits = {
            "exclusiveMinimum": self.above,
            "minimum": self.at_least,
            "maximum": self.at_most,
        }
        return handler(core) | {key: value for key, value in limits.items() if value is not None}


Positive = Annotated[float, Bound(above=0)]
NonNegative = Annotated[float, Bound(at_least=0)]
Count = Annotated[int, Bound(at_least=1)]

# Strict: a string is never a number and an unknown key never passes. A dict is all that pydantic
# needs, so no import of it here.
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}

LayerName = Literal["concat", "concatsquash"]
NonlinearityName = Literal["elu", "identity", "relu", "softplus", "square", "tanh"]
RegularizerName = Literal["rnode.jacobian", "rnode.kinetic"]
TraceName = Literal["exact", "hutchinson"]
GradientName = Literal["adjoint", "direct"]
PrecisionName = Literal["float32", "float64"]


@dataclass(frozen=True)
class DatasetRef:
    """A dataset by name, pinned to the digest of its raw bytes and loader version."""

    name: str
    digest: str


@dataclass(frozen=True)
class EndTime:
    """The end of the integration interval [0, T] of each block.

    `fixed`: T is a constant. `inert`: T is stored and counted as a parameter but receives no
    gradient, as in the released FFJORD code. `trained`: its square root is trained.
    """

    __pydantic_config__ = _STRICT

    value: Positive = 1.0
    mode: Literal["fixed", "inert", "trained"] = "fixed"


@dataclass(frozen=True)
class ModelSpec:
    """The flow: `blocks` stacked ODE blocks, each with an MLP for its dynamics.

    Arguments:
        layer: How a layer sees the time.
        hidden: Widths of the hidden layers; the outer widths are the data's.
        nonlinearity: Between the layers, never after the last.
        blocks: Number of stacked blocks ("flow steps" in the paper).
        end_time: End of each block's integration interval.
    """

    __pydantic_config__ = _STRICT

    layer: LayerName = "concatsquash"
    hidden: tuple[Count, ...] = (64, 64, 64)
    nonlinearity: NonlinearityName = "tanh"
    blocks: Count = 1
    end_time: EndTime = field(default_factory=EndTime)


@dataclass(frozen=True)
class AdaptiveSolver:
    """An embedded Runge-Kutta pair under the shared step-size control (docs/numerics.md)."""

    __pydantic_config__ = _STRICT

    name: Literal[ADAPTIVE_SOLVERS]  # type: ignore[valid-type]
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    first_step: Literal["heuristic", "whole"] | Annotated[float, Bound(above=0, at_most=1)] = (
        "heuristic"
    )
    norm: Literal["mixed", "rms_all"] = "mixed"
    max_steps: Count = 1000


@dataclass(frozen=True)
class FixedSolver:
    """A Runge-Kutta method with `steps` equal steps of s in [0, 1]."""

    __pydantic_config__ = _STRICT

    name: Literal[FIXED_SOLVERS]  # type: ignore[valid-type]
    steps: Count


SolverSpec = AdaptiveSolver | FixedSolver


@dataclass(frozen=True)
class Optimizer:
    """The optimiser and its learning rate."""

    __pydantic_config__ = _STRICT

    name: Literal["adam"] = "adam"
    lr: Positive = 1e-3


@dataclass(frozen=True)
class Training:
    """How a trial trains.

    Arguments:
        iterations: Number of optimiser steps.
        batch: Examples a step.
        optimizer: The optimiser.
        trace: How the divergence is computed in training.
        probe: Law of the Hutchinson probe.
        validate_every: Steps between validations; 0 validates only at the end.
        validation_rows: At most so many rows of the validation split are used; null means all.
        keep: Evaluate the arrays of the best validation, or the last ones.
        protocol: Name of the preset that supplied the defaults.
    """

    __pydantic_config__ = _STRICT

    iterations: Count = 1000
    batch: Count = 100
    optimizer: Optimizer = field(default_factory=Optimizer)
    trace: TraceName = "hutchinson"
    probe: Literal["gaussian", "rademacher"] = "gaussian"
    validate_every: Annotated[int, Bound(at_least=0)] = 200
    validation_rows: Count | None = None
    keep: Literal["best", "last"] = "best"
    protocol: Literal["paper", "released-code"] | None = None


@dataclass(frozen=True)
class Evaluation:
    """How a trial is evaluated.

    Arguments:
        trace: How the divergence is computed.
        batch: Rows a solve; part of the identity, since all rows of a batch share their steps.
        rows: At most so many test rows are used; null means all.
        solver: Solver of the evaluation; null means the training solver.
        samples: Number of model samples drawn for the report.
    """

    __pydantic_config__ = _STRICT

    trace: TraceName = "exact"
    batch: Count = 1000
    rows: Count | None = None
    solver: SolverSpec | None = None
    samples: Annotated[int, Bound(at_least=0)] = 1000


@dataclass(frozen=True)
class Trial:
    """One point of the grid, fully resolved: it says everything that decides the numbers."""

    dataset: DatasetRef
    backend: str
    solver: SolverSpec
    model: ModelSpec = field(default_factory=ModelSpec)
    regularizer: Mapping[RegularizerName, Positive] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    gradient: GradientName = "adjoint"
    precision: PrecisionName = "float32"
    seed: int = 0
    shards: int = 1
    semantics_version: int = SEMANTICS_VERSION

    @functools.cached_property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of the trial, first 16 hex digits."""
        return identity_of(canonical(self))

    @property
    def evaluation_solver(self) -> SolverSpec:
        """The solver of validation, test and sampling."""
        return self.evaluation.solver or self.solver


def encode(value: Any, kind: Any = None) -> Any:  # noqa: ANN401
    """Turns a spec dataclass into plain JSON values (dict, list, str, float, int, bool, None).

    An int in a float field becomes a float: `lr=1` and `lr=1.0` are one trial.

    Arguments:
        value: The spec, or a part of it.
        kind: Annotation of the field it stands in; None where there is none.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        return {name: encode(getattr(value, name), hint) for name, hint in hints.items()}
    if isinstance(value, Mapping):
        item_kind = (typing.get_args(kind) or (None, None))[1]
        return {str(key): encode(item, item_kind) for key, item in value.items()}
    if isinstance(value, tuple | list):
        item_kind = (typing.get_args(kind) or (None,))[0]
        return [encode(item, item_kind) for item in value]
    return _number(kind, value)


def canonical(trial: Trial) -> str:
    """The canonical JSON of a trial."""
    return canonical_json(encode(trial))


def canonical_json(value: Any) -> str:  # noqa: ANN401
    """JSON with sorted keys, no spaces, shortest float representation and no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity_of(canonical_text: str) -> str:
    """SHA-256 of canonical JSON, first 16 hex digits."""
    return hashlib.sha256(canonical_text.encode()).hexdigest()[:16]


def decode(kind: Any, value: Any) -> Any:  # noqa: ANN401
    """Rebuilds a value of type `kind` from what `encode` returned.

    Input is a record the harness wrote, not a user's file: a mismatch is a corrupt record and
    raises TypeError or KeyError. Unions of dataclasses are told apart by their field names.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return decode(arguments[0], value)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value)
    if origin is tuple:
        return tuple(decode(arguments[0], item) for item in value)
    if origin is not None and issubclass_safe(origin, Mapping):
        return {key: decode(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{key: decode(hints[key], item) for key, item in value.items()})
    return _number(kind, value)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Annotations of a dataclass, in the order of its fields."""
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def _is_real(kind: Any) -> bool:  # noqa: ANN401
    """True if a number in a field annotated with `kind` is a float, also when it is whole."""
    if typing.get_origin(kind) is Annotated:
        return _is_real(typing.get_args(kind)[0])
    return kind is float or any(
        _is_real(part)
        for part in typing.get_args(kind)
        if typing.get_origin(kind) in (typing.Union, types.UnionType)
    )


def _number(kind: Any, value: Any) -> Any:  # noqa: ANN401
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and _is_real(kind) else value


def issubclass_safe(kind: Any, parent: type) -> bool:  # noqa: ANN401
    """True if `kind` is a class derived from `parent`; False for anything that is no class."""
    return isinstance(kind, type) and issubclass(kind, parent)


def _decode_union(kinds: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        for kind in kinds:
            fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
            if value.keys() == {f.name for f in fields}:
                return decode(kind, value)
        raise TypeError(f"no spec has exactly the fields {sorted(value)}")
    real = any(_is_real(kind) for kind in kinds)
    return _number(float if real else None, value)
