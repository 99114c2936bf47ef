"""What the models learned, to look at: densities of 2-D data, sheets of sampled images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from harness.datasets import registry as datasets
from harness.datasets.base import Batching
from harness.datasets.families import toys
from harness.errors import HarnessError
from harness.records.folder import TrialFolder
from harness_reports.page.elements import Axis, Block, Panel, Paragraph, Pictures
from harness_reports.page.numbers import fixed
from harness_reports.page.raster import contact_sheet, heat_map
from harness_reports.trials.entries import Entry, by_dataset
from harness_reports.trials.groups import groups_of
from harness_reports.trials.quantities import quantity_of

__all__ = ["may_show_data", "picture_blocks"]

Array = npt.NDArray[np.float64]

_DATA_POINTS = 500_000
_SHEET = 10
_SHEET_WIDTH = 288


@dataclass(frozen=True)
class Drawn:
    """The arrays that a trial kept for pictures, and the shape of an image."""

    entry: Entry
    arrays: Mapping[str, Array]
    image_shape: tuple[int, ...] | None


def may_show_data(dataset: str) -> bool:
    """True if the report may contain rows of the dataset itself.

    Only data this package generates, and the freely licensed digits of scikit-learn. Of others the
    report shows samples of models only: many image collections may be used but not passed on.
    """
    return dataset in toys.LOADERS or dataset == "digits"


def picture_blocks(entries: Sequence[Entry], root: Path | None) -> list[Block]:
    """One row of panels a dataset: the model of each backend, and the data if it may be shown."""
    if root is None:
        text = "Pictures are drawn from the samples in the run folder, which MLflow does not hold."
        return [Paragraph(text, "muted")]
    blocks: list[Block] = []
    nothing = []
    for dataset, members in by_dataset(entries).items():
        drawn = [one for entry in _chosen(members) if (one := _read(root, entry))]
        if drawn and all("grid_log_prob" in one.arrays for one in drawn):
            blocks.append(_densities(dataset, drawn))
        elif drawn and all(map(_is_images, drawn)):
            blocks.append(_sheets(dataset, drawn))
        elif drawn:
            blocks.append(Paragraph(f"{dataset}: rows are neither points of a plane nor images."))
        else:
            nothing.append(dataset)
    if nothing:
        blocks.append(Paragraph(f"No trial has kept samples: {', '.join(nothing)}.", "muted"))
    return blocks


def _chosen(entries: Sequence[Entry]) -> list[Entry]:
    """One trial a backend, all with the same settings and seed.

    The settings are those with the lowest mean result among those that most backends finished, so
    the panels differ in the backend only.
    """
    column = quantity_of(entries).column
    alike: dict[tuple[str, int], list[Entry]] = {}
    for group in groups_of(entries):
        for entry in group.entries:
            if entry.ok and entry.number(column) is not None:
                alike.setdefault((group.counterpart(), entry.seed), []).append(entry)
    if not alike:
        return []
    most = max(len(trials) for trials in alike.values())
    full = {key: trials for key, trials in alike.items() if len(trials) == most}
    values: dict[str, list[float]] = {}
    for (settings, _), trials in full.items():
        values.setdefault(settings, []).extend(entry.number(column) or 0.0 for entry in trials)
    best = min(values, key=lambda settings: float(np.mean(values[settings])))
    seed = min(seed for settings, seed in full if settings == best)
    return full[best, seed]


def _read(root: Path, entry: Entry) -> Drawn | None:
    attempt = TrialFolder(root, entry.id).attempt(str(entry.text("attempt_id")))
    path = attempt / "samples.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in names}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    shape: list[int] | None = json.loads(metadata.get("image_shape", "null"))
    return Drawn(entry, arrays, None if shape is None else tuple(shape))


def _load(dataset: str) -> datasets.Dataset | None:
    """The dataset; None if it may not be shown or is not on this machine."""
    if not may_show_data(dataset):
        return None
    try:
        return datasets.load(dataset)
    except HarnessError:
        return None


def _is_images(drawn: Drawn) -> bool:
    return drawn.image_shape is not None and len(drawn.arrays.get("samples", ())) > 0


def _densities(dataset: str, drawn: Sequence[Drawn]) -> Pictures:
    across, up = (drawn[0].arrays[name] for name in ("grid_axis_x", "grid_axis_y"))
    maps = [(one.entry.labels["backend"], np.exp(one.arrays["grid_log_prob"])) for one in drawn]
    data = _histogram(dataset, across, up)
    if data is not None:
        maps.append(("data", data))
    top = max(float(np.quantile(density, 0.999)) for _, density in maps) or 1.0
    axes = (_axis("x", across), _axis("y", up))
    panels = tuple(
        Panel(f"density-{dataset}-{name}", name, heat_map(density, top), axes=axes)
        for name, density in maps
    )
    ends = [f"[{fixed(float(axis[0]), 1)}, {fixed(float(axis[-1]), 1)}]" for axis in (across, up)]
    caption = f"Density over x in {ends[0]}, y in {ends[1]}. {_settings(drawn)}" + (
        "" if data is None else f" Data: histogram of {_DATA_POINTS:,} points."
    )
    return Pictures(f"density-{dataset}", dataset, panels, caption, ("0", fixed(top, 3)))


def _axis(name: str, centres: Array) -> Axis:
    """The axis along cells around these centres."""
    edges = _edges(centres)
    return Axis(name, float(edges[0]), float(edges[-1]))


def _histogram(dataset: str, x: Array, y: Array) -> Array | None:
    """Density of the data on the cells around the grid points, [y, x]."""
    data = _load(dataset)
    if data is None:
        return None
    points = data.to_data(data.training_batch(seed=0, step=0, batching=Batching(_DATA_POINTS)).x)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=(_edges(y), _edges(x)))
    area = np.outer(np.diff(_edges(y)), np.diff(_edges(x)))
    return np.asarray(counts / (len(points) * area), dtype=np.float64)


def _edges(centres: Array) -> Array:
    half = np.diff(centres) / 2
    middles = centres[:-1] + half
    return np.concatenate([[centres[0] - half[0]], middles, [centres[-1] + half[-1]]])


def _sheets(dataset: str, drawn: Sequence[Drawn]) -> Pictures:
    shape = drawn[0].image_shape or ()
    sheets = [(one.entry.labels["backend"], one.arrays["samples"]) for one in drawn]
    data = _load(dataset)
    if data is not None:
        sheets.append(("data", data.to_data(data.rows("test", limit=_SHEET**2).x)))
    side = min(_SHEET, *(math.isqrt(len(rows)) for _, rows in sheets))
    images = [(name, rows[: side**2].reshape(-1, *shape)) for name, rows in sheets]
    # The tails of a few wild samples would leave all other values in one grey.
    values = np.concatenate([sheet.ravel() for _, sheet in images])
    low, high = (float(level) for level in np.quantile(values, [0.01, 0.99]))
    panels = tuple(
        Panel(
            f"samples-{dataset}-{name}",
            name,
            contact_sheet(sheet, side, low, high, _SHEET_WIDTH),
            pixelated=True,
        )
        for name, sheet in images
    )
    size = " × ".join(str(side) for side in shape)
    caption = (
        f"Samples, {size} pixels each, grey from {fixed(low, 1)} (black) to {fixed(high, 1)} "
        f"(white): the middle 98 % of all values. {_settings(drawn)}"
        + ("" if data is None else " Data: the first rows of the test split.")
    )
    return Pictures(f"samples-{dataset}", dataset, panels, caption)


def _settings(drawn: Iterable[Drawn]) -> str:
    first = next(iter(drawn)).entry
    return (
        f"{first.labels['solver']}, regularizer {first.labels['regularizer']}, seed {first.seed}: "
        "the settings with the lowest mean result."
    )
