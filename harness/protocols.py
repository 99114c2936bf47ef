"""Presets: what `training.protocol` supplies where a suite is silent.

Only choices on which all of the paper's experiments agree are here; tolerances, widths, batch
sizes and iterations differ between them, so a suite writes those.

`paper`, as arXiv:1810.01367 describes it:
    model: layer `concat` (the time is one more input of each layer), fixed end times;
    training: Adam with lr 1e-3, Hutchinson's trace with a Gaussian probe, a validation every 200
    steps, the best arrays kept; evaluation: exact trace.
`released-code`, as rtqichen/ffjord does it by default:
    layer `concatsquash`; end times `inert`, stored and counted but detached from the gradient; the
    rest as `paper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PROTOCOLS", "protocol_defaults"]

_TRAINING: Mapping[str, Any] = {
    "optimizer": {"name": "adam", "lr": 1e-3},
    "trace": "hutchinson",
    "probe": "gaussian",
    "validate_every": 200,
    "keep": "best",
}
_EVALUATION: Mapping[str, Any] = {"trace": "exact"}

PROTOCOLS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {
        "model": {"layer": "concat", "end_time": {"mode": "fixed"}},
        "training": _TRAINING,
        "evaluation": _EVALUATION,
    },
    "released-code": {
        "model": {"layer": "concatsquash", "end_time": {"mode": "inert"}},
        "training": _TRAINING,
        "evaluation": _EVALUATION,
    },
}
"""Defaults by protocol and axis."""


def protocol_defaults(protocol: str | None, axis: str) -> Mapping[str, Any]:
    """Returns the defaults of an axis; empty without a protocol."""
    return PROTOCOLS[protocol].get(axis, {}) if protocol is not None else {}
