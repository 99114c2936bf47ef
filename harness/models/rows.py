"""Whether rows that a user gives are rows of a model's data; every mistake is one sentence."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Dataset
from harness.errors import AnswerError, Problem

__all__ = ["checked", "refuse"]

Array = npt.NDArray[Any]


def refuse(place: str, message: str, fix: str | None = None) -> NoReturn:
    """Raises an AnswerError of one problem."""
    raise AnswerError([Problem(place, message, fix=fix)])


def checked(x: object, dataset: Dataset, dtype: str, place: str = "x") -> Array:
    """The rows as an array [n, *event_shape], if they are data of this kind.

    Arguments:
        x: [n, *event_shape], or flat, [n, D].
        dataset: What the model was trained on.
        dtype: Precision of the model.
        place: What the message names.

    Raises:
        AnswerError: They have another shape or type, are not finite, beyond the range of the
            precision, or outside of the data's range.
    """
    rows, shape = np.asarray(x), dataset.info.event_shape
    if rows.dtype.kind not in "biuf":
        refuse(place, f"holds {rows.dtype}, not numbers")
    flat = (int(np.prod(shape)),)
    if rows.ndim == 0 or rows.shape[1:] not in (shape, flat):
        wanted = ["n", *shape]
        hint = None
        if rows.shape in (shape, flat):
            hint = "a single row is x[None]"
        refuse(
            place,
            f"has shape {list(rows.shape)}; '{dataset.info.name}' needs [{_sides(wanted)}]",
            hint,
        )
    rows = rows.reshape(len(rows), *shape)
    if not len(rows):
        return rows
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        refuse(f"{place}, row {_first(~np.isfinite(rows))}", "holds NaN or infinite values")
    most = float(np.finfo(dtype).max)
    largest = float(np.abs(rows.astype(np.float64)).max())
    if largest > most:
        refuse(place, f"has values up to {largest:.2g}, beyond the range of {dtype} ({most:.2g})")
    _require_in_space(rows, dataset, place)
    return rows


def _require_in_space(rows: Array, dataset: Dataset, place: str) -> None:
    space = dataset.space
    inside = (rows > space.low) & (rows < space.high)
    if space.closed:
        inside |= (rows == space.low) | (rows == space.high)
    if space.levels is not None:
        steps = rows.astype(np.float64) * (space.levels - 1)
        inside &= np.abs(steps - np.round(steps)) < 1e-3
    if not inside.all():
        row = _first(~inside)
        value = rows[row][~inside[row]].flat[0]
        refuse(
            f"{place}, row {row}",
            f"holds {value:.6g}, which is no value of '{dataset.info.name}'",
            f"give {space.text}",
        )


def _first(wrong: Array) -> int:
    """Number of the first row that has a wrong value."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))


def _sides(sides: list[Any]) -> str:
    return ", ".join(map(str, sides))
