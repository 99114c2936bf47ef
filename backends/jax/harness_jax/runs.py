"""A flow as runs of equal cells; the arrays of a run are stacked and one scan runs over its cells,
so that one cell is compiled, however many there are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.architecture.transforms import (
    Block,
    FactorOut,
    Norm,
    Shape,
    Squeeze,
    Transform,
    transforms,
)
from harness.trial import ModelSpec

__all__ = ["Cell", "Part", "Run", "parts", "runs"]


@dataclass(frozen=True)
class Cell:
    """A block and the norm that follows it; one of them may be missing."""

    block: Block | None
    norm: Norm | None

    @property
    def kind(self) -> Cell:
        """The cell with indices 0: equal for cells that one program serves."""
        return Cell(
            self.block and dataclasses.replace(self.block, index=0),
            self.norm and dataclasses.replace(self.norm, index=0),
        )


@dataclass(frozen=True)
class Run:
    """Equal cells in a row.

    Arguments:
        name: Prefix of its stacked arrays.
        kind: What its cells have in common.
        cells: The cells in the order of computation.
    """

    name: str
    kind: Cell
    cells: tuple[Cell, ...]

    @property
    def blocks(self) -> range:
        """Indices of its blocks."""
        first = self.cells[0].block
        return range(first.index, first.index + len(self.cells)) if first else range(0)


Part = Run | Squeeze | FactorOut


def parts(model: ModelSpec, event_shape: Shape) -> tuple[Part, ...]:
    """Returns the parts of a flow from data to base.

    Raises:
        BackendError: The model does not fit data of this shape.
    """
    chain: list[Part] = []
    cells = _cells(transforms(model, event_shape))
    for kind, group in itertools.groupby(cells, lambda c: c.kind if isinstance(c, Cell) else None):
        if kind is None:
            chain += [part for part in group if not isinstance(part, Cell)]
        else:
            equal = tuple(cell for cell in group if isinstance(cell, Cell))
            count = sum(isinstance(part, Run) for part in chain)
            chain.append(Run(f"run{count}", kind, equal))
    return tuple(chain)


def runs(model: ModelSpec, event_shape: Shape) -> list[Run]:
    """The runs among the parts."""
    return [part for part in parts(model, event_shape) if isinstance(part, Run)]


def _cells(flow: Iterable[Transform]) -> Iterator[Cell | Squeeze | FactorOut]:
    block = None
    for transform in flow:
        if block and not isinstance(transform, Norm):
            yield Cell(block, None)
            block = None
        if isinstance(transform, Block):
            block = transform
        elif isinstance(transform, Norm):
            yield Cell(block, transform)
            block = None
        else:
            yield transform
    if block:
        yield Cell(block, None)
