"""Arrays between their portable names and the device, where those of all blocks are stacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from harness.architecture import array_specs
from harness.errors import BackendError
from harness.interface import Array, Arrays
from harness.layer_arrays import ArraySpec
from harness.trial import ModelSpec

__all__ = ["BlockStack"]


@dataclass(frozen=True)
class BlockStack:
    """Stacks `block<i>/<name>` over i to `<name>` [blocks, ...], and back.

    Arguments:
        model: The architecture.
        event_shape: Shape of one example.
        dtype: Precision on the device.
        device: Where the stacked arrays live.
    """

    model: ModelSpec
    event_shape: tuple[int, ...]
    dtype: np.dtype[np.floating]
    device: jax.Device

    def trainable(self) -> tuple[str, ...]:
        """Names, without the block, of what is trained."""
        return tuple(s.name.removeprefix("block0/") for s in self._block0() if s.trainable)

    def put(self, arrays: Mapping[str, Array], *, trainable: bool = False) -> dict[str, jax.Array]:
        """Puts copies of all arrays, or of the trainable ones, on the device.

        Raises:
            BackendError: Names or shapes are not those of the model.
        """
        specs = array_specs(self.model, self.event_shape)
        shapes = {spec.name: spec.shape for spec in specs if spec.trainable or not trainable}
        if arrays.keys() != shapes.keys():
            wrong = sorted(arrays.keys() ^ shapes.keys())
            raise BackendError(f"arrays of another model: {', '.join(wrong)} do not match")
        for name, shape in shapes.items():
            if np.shape(arrays[name]) != shape:
                raise BackendError(
                    f"array '{name}' has shape {np.shape(arrays[name])}, expected {shape}"
                )
        stacked = {}
        for spec in self._block0():
            if spec.name in shapes:
                name = spec.name.removeprefix("block0/")
                parts = [arrays[f"block{i}/{name}"] for i in range(self.model.blocks)]
                value = np.stack(parts).astype(self.dtype)
                stacked[name] = jax.device_put(value, self.device)
        return stacked

    def get(self, stacked: Mapping[str, jax.Array], prefix: str = "") -> Arrays:
        """Returns copies under `<prefix>block<i>/<name>`."""
        host = {name: np.asarray(value) for name, value in stacked.items()}
        return {
            f"{prefix}block{i}/{name}": value[i].copy()
            for i in range(self.model.blocks)
            for name, value in host.items()
        }

    def _block0(self) -> list[ArraySpec]:
        specs = array_specs(self.model, self.event_shape)
        return [spec for spec in specs if spec.name.startswith("block0/")]
