"""What is decided once for a trial and holds for all attempts at it: choices.json.

A later attempt may find less memory or another backend version; it goes on with the choices of
the first, because numbers depend on them.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from harness.architecture.memory import affordable_gradients, kept_bytes
from harness.interface import Backend, DataInfo
from harness.process.memory import memory_at_hand
from harness.records.files import commit, dumps
from harness.records.folder import TrialFolder
from harness.records.readers import SCHEMA_VERSION, read_choices
from harness.specs.resources import Resources
from harness.trial import GradientName, Trial

__all__ = ["Choices", "settle"]

_GRADIENTS: tuple[str, ...] = typing.get_args(GradientName)


@dataclass(frozen=True)
class Choices:
    """Choices of a trial.

    Arguments:
        trial: The trial with its gradient mode resolved, under the id that it has in the plan.
        backend: What `Backend.choose` answered.
    """

    trial: Trial
    backend: Mapping[str, str]


def settle(
    folder: TrialFolder,
    trial: Trial,
    backend: Backend,
    data: DataInfo,
    device: Literal["cpu", "gpu"],
    resources: Resources,
    cores: int,
) -> Choices:
    """Returns the choices of a trial, made now if no attempt has made them before.

    Raises:
        BackendError: The model does not fit the data.
        RecordError: choices.json is damaged.
    """
    if not folder.choices.exists():
        made = _make(trial, backend, data, device, resources, cores)
        # Of two attempts that begin at once the first to commit decides for both.
        commit(folder.choices, dumps(made, indent=1))
    gradient, chosen = read_choices(folder.choices, _GRADIENTS)
    return Choices(_resolved(trial, cast(GradientName, gradient)), chosen)


def _make(
    trial: Trial,
    backend: Backend,
    data: DataInfo,
    device: Literal["cpu", "gpu"],
    resources: Resources,
    cores: int,
) -> dict[str, Any]:
    made: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "gradient": trial.gradient}
    if trial.gradient == "auto":
        at_hand = memory_at_hand(device, resources.gpus, cores)
        usable = at_hand if backend.direct_pays else None
        modes = affordable_gradients(trial, data.event_shape, usable)
        possible = [mode for mode in modes if not backend.supports(_resolved(trial, mode))]
        made["gradient"] = (possible or modes)[0]
        made["kept_bytes"] = kept_bytes(trial, data.event_shape)
        made["memory_bytes"] = at_hand
    chosen = backend.choose(_resolved(trial, made["gradient"]), data, device, cores)
    return {**made, "backend": dict(chosen)}


def _resolved(trial: Trial, gradient: GradientName) -> Trial:
    return replace(trial, gradient=gradient, identity=trial.id)
