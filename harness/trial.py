"""A trial: one fully resolved point of the grid, and its identity.

Its parts are defined in `harness.specs` and can be imported from here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any

from harness.specs.bounds import LATER, Bound, Count, NonNegative, Positive
from harness.specs.evaluation import Accuracy, DatasetRef, Evaluation, SampleMetrics
from harness.specs.model import (
    BatchNorm,
    EndTime,
    LayerName,
    ModelSpec,
    NonlinearityName,
    Posterior,
)
from harness.specs.objective import (
    CouplingName,
    FlowMatching,
    MaximumLikelihood,
    ObjectiveName,
    ObjectiveSpec,
    PathName,
)
from harness.specs.solver import (
    AdaptiveSolver,
    EngineName,
    FixedSolver,
    GradientName,
    LibrarySolver,
    PrecisionName,
    SolverSpec,
)
from harness.specs.training import (
    Optimizer,
    Patience,
    RegularizerName,
    Schedule,
    TraceName,
    Training,
)

__all__ = [
    "AXES",
    "SEMANTICS_VERSION",
    "Accuracy",
    "AdaptiveSolver",
    "BatchNorm",
    "Bound",
    "Count",
    "CouplingName",
    "DatasetRef",
    "EndTime",
    "EngineName",
    "Evaluation",
    "FixedSolver",
    "FlowMatching",
    "GradientName",
    "LayerName",
    "LibrarySolver",
    "MaximumLikelihood",
    "ModelSpec",
    "NonNegative",
    "NonlinearityName",
    "ObjectiveName",
    "ObjectiveSpec",
    "Optimizer",
    "PathName",
    "Patience",
    "Positive",
    "Posterior",
    "PrecisionName",
    "RegularizerName",
    "SampleMetrics",
    "Schedule",
    "SolverSpec",
    "TraceName",
    "Training",
    "Trial",
    "annotations_of",
    "canonical",
    "canonical_json",
    "decode",
    "encode",
    "identity_of",
    "is_unsaid",
]

SEMANTICS_VERSION = 2
"""Raised when the same spec begins to mean another computation; part of every identity."""


AXES = (
    *("dataset", "backend", "solver", "regularizer", "model", "training", "evaluation"),
    *("objective", "gradient", "engine", "precision", "seed"),
)
"""The fields of a trial that a suite chooses, in the order in which a grid is walked (the seed
fastest) and tables have their columns; the other fields describe this version of the harness."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid, fully resolved: it says everything that decides the numbers.

    Its fields are the axes (`AXES`), the number of devices that share the trial, and the version
    of what a spec means. One argument is not a field:

    Arguments:
        identity: The id, for a caller who has computed it already or who resolves a choice of a
            planned trial, which keeps its id. None computes it from the fields.
    """

    dataset: DatasetRef
    backend: str
    solver: SolverSpec
    model: ModelSpec = field(default_factory=ModelSpec)
    regularizer: Mapping[RegularizerName, Positive] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    objective: ObjectiveSpec = field(default_factory=MaximumLikelihood, metadata=LATER)
    gradient: GradientName = "adjoint"
    engine: EngineName = "native"
    precision: PrecisionName = "float32"
    seed: Annotated[int, Bound(at_least=0)] = 0
    shards: int = 1
    semantics_version: int = SEMANTICS_VERSION
    identity: InitVar[str | None] = None

    def __post_init__(self, identity: str | None) -> None:
        if identity is not None:
            object.__setattr__(self, "id", identity)

    @functools.cached_property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of the trial, first 16 hex digits."""
        return identity_of(canonical(self))

    @functools.cached_property
    def training_id(self) -> str:
        """Identity of the trained model: of all fields but `evaluation`, which scores it."""
        value = encode(self)
        del value["evaluation"]
        return identity_of(canonical_json(value))

    @property
    def dtype(self) -> str:
        """Type of all real arrays; `tf32` is a matter of products, not of arrays."""
        return "float64" if self.precision == "float64" else "float32"

    @property
    def evaluation_solver(self) -> SolverSpec:
        """The solver of test and sampling."""
        return self.evaluation.solver or self.solver

    @property
    def evaluation_engine(self) -> EngineName | None:
        """Who takes the steps of test and sampling, where it is not who takes the training's."""
        engine = self.evaluation.engine
        return None if engine == self.engine else engine

    @property
    def differentiated(self) -> tuple[tuple[SolverSpec, EngineName], ...]:
        """Solvers that gradients go through, with who takes their steps: that of the training,
        and that of the evaluation where the error of its gradient is measured.
        """
        training, evaluation = (self.solver, self.engine), self.evaluation
        if evaluation.accuracy is None or not evaluation.accuracy.gradient:
            return (training,)
        return training, (self.evaluation_solver, evaluation.engine or self.engine)


def encode(value: Any, kind: Any = None) -> Any:  # noqa: ANN401
    """Turns a spec dataclass into plain JSON values (dict, list, str, float, int, bool, None).

    An int in a float field becomes a float: `lr=1` and `lr=1.0` are one trial.

    Arguments:
        value: The spec, or a part of it.
        kind: Annotation of the field it stands in; None where there is none.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        said = {
            name: kind
            for name, kind in annotations_of(type(value)).items()
            if not is_unsaid(type(value), name, getattr(value, name))
        }
        return {name: encode(getattr(value, name), kind) for name, kind in said.items()}
    if isinstance(value, Mapping):
        item_kind = (typing.get_args(kind) or (None, None))[1]
        return {str(key): encode(item, item_kind) for key, item in value.items()}
    if isinstance(value, tuple | list):
        item_kind = (typing.get_args(kind) or (None,))[0]
        return [encode(item, item_kind) for item in value]
    return _number(kind, value)


def is_unsaid(kind: type, name: str, value: Any) -> bool:  # noqa: ANN401
    """True of a field of a dataclass that came later and has its default: a spec leaves it out."""
    defaults = _later_defaults(kind)
    return name in defaults and bool(value == defaults[name])


@functools.cache
def _later_defaults(kind: type) -> Mapping[str, Any]:
    """Defaults of the fields marked `LATER`."""
    fields = [each for each in dataclasses.fields(kind) if "later" in each.metadata]
    return {each.name: _default(each) for each in fields}


def _default(field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


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
    raises TypeError, KeyError or AttributeError. Unions of dataclasses are told apart by their
    field names.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return decode(arguments[0], value)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value)
    if origin is tuple:
        return tuple(decode(arguments[0], item) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: decode(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        kinds = annotations_of(kind)
        return kind(**{key: decode(kinds[key], item) for key, item in value.items()})
    return _number(kind, value)


@functools.cache
def annotations_of(kind: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """The annotations of a dataclass by field, in the order of the fields, bounds included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


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


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _decode_union(kinds: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        for kind in kinds:
            if typing.get_origin(kind) is tuple:
                return decode(kind, value)
        raise TypeError("a list where none belongs")
    if isinstance(value, dict):
        for kind in kinds:
            fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
            needed = {f.name for f in fields if _is_required(f)}
            # What a record of an earlier version does not say had the default's meaning.
            if needed <= value.keys() <= {f.name for f in fields} and fields:
                return decode(kind, value)
        raise TypeError(f"no spec has the fields {sorted(value)}")
    real = any(_is_real(kind) for kind in kinds)
    return _number(float if real else None, value)
