"""Arrays between their portable names and the device, where those of a run are stacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from harness.architecture.arrays import array_specs
from harness.architecture.layers import ArraySpec
from harness.errors import BackendError
from harness.interface import Array, Arrays, DataInfo
from harness.trial import ModelSpec
from harness_jax.runs import runs

__all__ = ["Stack"]


@dataclass(frozen=True)
class Stack:
    """Stacks `block<i>/<name>` over the cells of a run to `<run>/<name>` [cells, ...],
    `norm<i>/<name>` to `<run>/norm/<name>`, and back; other arrays keep their names.

    Arguments:
        model: The architecture.
        data: Shape and likelihood of an example.
        dtype: Precision on the device.
        device: Where the stacked arrays live.
    """

    model: ModelSpec
    data: DataInfo
    dtype: np.dtype[np.floating]
    device: jax.Device

    @cached_property
    def _specs(self) -> list[ArraySpec]:
        return array_specs(self.model, self.data)

    @cached_property
    def _places(self) -> dict[str, list[str]]:
        """Portable names by name on the device, in the order of the stack."""
        runs_by_transform = {}
        for run in runs(self.model, self.data.event_shape):
            for cell in run.cells:
                if cell.block:
                    runs_by_transform[f"block{cell.block.index}"] = run.name
                if cell.norm:
                    runs_by_transform[f"norm{cell.norm.index}"] = f"{run.name}/norm"
        places: dict[str, list[str]] = {}
        for spec in self._specs:
            transform, _, rest = spec.name.partition("/")
            run_name = runs_by_transform.get(transform)
            name = spec.name if run_name is None else f"{run_name}/{rest}"
            places.setdefault(name, []).append(spec.name)
        return places

    @cached_property
    def trainable(self) -> tuple[str, ...]:
        """Names on the device of what is trained."""
        trained = {spec.name for spec in self._specs if spec.trainable}
        return tuple(name for name, parts in self._places.items() if parts[0] in trained)

    def put(self, arrays: Mapping[str, Array], *, trainable: bool = False) -> dict[str, jax.Array]:
        """Puts copies of all arrays, or of the trainable ones, on the device.

        Raises:
            BackendError: Names or shapes are not those of the model.
        """
        shapes = {s.name: s.shape for s in self._specs if s.trainable or not trainable}
        if arrays.keys() != shapes.keys():
            wrong = sorted(arrays.keys() ^ shapes.keys())
            raise BackendError(f"arrays of another model: {', '.join(wrong)} do not match")
        for name, shape in shapes.items():
            if np.shape(arrays[name]) != shape:
                raise BackendError(
                    f"array '{name}' has shape {np.shape(arrays[name])}, expected {shape}"
                )
        return {
            name: jax.device_put(self._stacked(name, arrays).astype(self.dtype), self.device)
            for name in (self.trainable if trainable else self._places)
        }

    def get(self, stacked: Mapping[str, jax.Array], prefix: str = "") -> Arrays:
        """Returns copies under `<prefix><portable name>`."""
        arrays: Arrays = {}
        for name, value in stacked.items():
            host = np.asarray(value)
            parts = self._places[name]
            values = host if self._is_stacked(name) else [host]
            arrays |= {f"{prefix}{part}": v.copy() for part, v in zip(parts, values, strict=True)}
        return arrays

    def _stacked(self, name: str, arrays: Mapping[str, Array]) -> Array:
        parts = [arrays[part] for part in self._places[name]]
        return np.stack(parts) if self._is_stacked(name) else np.array(parts[0])

    def _is_stacked(self, name: str) -> bool:
        return name not in self._places[name]
