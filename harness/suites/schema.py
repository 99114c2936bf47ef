"""The JSON Schema of suite files, for editors that complete and check YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from harness import backends
from harness.datasets import registry as datasets
from harness.metrics.definitions import RECORDED
from harness.solvers import ADAPTIVE_SOLVERS, LIBRARY_SOLVERS
from harness.specs.own_data import OwnData
from harness.specs.resources import Resources
from harness.suites.axes import VALUES
from harness.suites.limits import Budget, Gate, Timing
from harness.suites.suite import KEYS, NAME, ExcludeEntry
from harness.trial import AXES, AdaptiveSolver, FixedSolver, LibrarySolver

__all__ = ["schema"]

Schema = dict[str, Any]


def schema() -> Schema:
    """Returns the schema; the names of datasets and backends are those known on this machine."""
    axes = {axis: _one_or_many(_axis(axis)) for axis in AXES}
    block = {"type": "object", "properties": axes, "additionalProperties": False}
    files = {"type": "string"}
    keys: Mapping[str, Schema] = {
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
        "description": {"type": "string"},
        "include": {"anyOf": [files, {"type": "array", "items": files}]},
        "defaults": block,
        "trials": {"type": "array", "minItems": 1, "items": block},
        "exclude": {"type": "array", "items": _of(ExcludeEntry)},
        "gates": {"type": "array", "items": _gate()},
        "resources": _of(Resources),
        "budget": _of(Budget),
        "timing": _of(Timing),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Suite of cnf-harness",
        "type": "object",
        "properties": {key: keys[key] for key in KEYS},
        "required": ["name"],
        "anyOf": [{"required": ["trials"]}, {"required": ["include"]}],
        "additionalProperties": False,
    }


def _axis(axis: str) -> Schema:
    match axis:
        case "dataset":
            own = _of(OwnData)
            files = [name for name in datasets.names() if datasets.is_own(name)]
            own["properties"]["name"] = {"enum": files} if files else {"type": "string"}
            prepared = {"type": "string", "pattern": r"^[a-z0-9-]+(\+[a-z0-9.]+)+$"}
            return {"anyOf": [{"enum": datasets.names()}, prepared, own]}
        case "backend":
            return {"enum": backends.backend_names()}
        case "solver":
            names = {"enum": list(ADAPTIVE_SOLVERS)}
            return {
                "anyOf": [names, _of(AdaptiveSolver), _of(FixedSolver), _library_solver()],
            }
        case "regularizer":
            return {"anyOf": [{"const": "none"}, _of(VALUES[axis])]}
        case "evaluation":
            schema = _of(VALUES[axis])
            # What may be written for a solver is more, and less, than its dataclasses can hold.
            schema["properties"]["solver"] = {
                "anyOf": [_axis("solver"), {"type": "null"}],
                "default": None,
            }
            return schema
        case _:
            return _of(VALUES[axis])


def _library_solver() -> Schema:
    solver = _of(LibrarySolver)
    names = [f"{library}:{name}" for library, known in LIBRARY_SOLVERS.items() for name in known]
    solver["properties"]["library"] = {"enum": names}
    return solver


def _one_or_many(value: Schema) -> Schema:
    return {"anyOf": [value, {"type": "array", "minItems": 1, "items": value}]}


def _gate() -> Schema:
    gate = _of(Gate)
    gate["properties"]["metric"] = {"enum": list(RECORDED)}
    gate["properties"]["below"] = {"anyOf": [{"type": "number"}, {"enum": list(RECORDED)}]}
    return gate


def _of(kind: Any) -> Schema:  # noqa: ANN401
    """The schema of an annotation, its definitions written out in place."""
    schema: Schema = TypeAdapter(kind).json_schema()
    definitions = schema.pop("$defs", {})
    resolved: Schema = _inline(schema, definitions)
    return resolved


def _inline(value: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_inline(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target = definitions[value["$ref"].rpartition("/")[2]]
        return _inline({**target, **{k: v for k, v in value.items() if k != "$ref"}}, definitions)
    return {key: _inline(item, definitions) for key, item in value.items()}
