"""Compiled evaluations: a field and its vector-Jacobian product, traced to tensor operations and
compiled by inductor once for all equal fields and shapes.

One evaluation is the unit. A whole step compiled as one has as many times the operations to
compile as the method has stages, and serves one tableau alone.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from harness_torch.solve.inductor import Compile, Program, programs
from harness_torch.solve.native_engine import Native
from harness_torch.solve.problem import Field, InitialValue, Rates, time_like
from harness_torch.solve.tape import Eager, Tape, TapedField, Wanted

__all__ = ["Compiled", "CompiledEngine"]

MOST_OPERATIONS = 3000
"""Of one program: ten times as many as a toy net's product has. Exact traces of images take one
pass a chunk of dimensions, each written out.
"""


class CompiledEngine(Native):
    """Compiles the evaluations of batches of some sizes; others run operation by operation.

    Arguments:
        sizes: The batch sizes.
    """

    compiles: ClassVar[bool] = True

    def __init__(self, sizes: Collection[int]) -> None:
        self._sizes = frozenset(sizes)

    def taped_field(self, problem: InitialValue, wanted: Wanted | None) -> TapedField:
        """See `Native.taped_field`. Samples and codes are too rare to compile for."""
        field, inputs, u, *_ = problem
        size = u.shape[field.batch_axis]
        if size not in self._sizes or field.rare:
            return Eager(field, inputs, wanted)
        leaves, tree = pytree.tree_flatten(inputs)
        flat = [x.detach().contiguous() for x in leaves if x is not None]
        shapes = tuple((tuple(x.shape), x.dtype, x.device) for x in (u, *flat))
        made = _programs(field, wanted, _Tree(tree, leaves), shapes)
        return Eager(field, inputs, wanted) if made is None else Compiled(made, flat)


class Compiled(TapedField):
    """Runs compiled programs, which take and return contiguous tensors.

    Arguments:
        programs: What was compiled.
        flat: The tensors of the field's inputs.
    """

    def __init__(self, programs: Programs, flat: list[Tensor]) -> None:
        self._programs, self._flat = programs, flat

    def value(self, s: float, u: Tensor) -> Rates:
        """See `TapedField`."""
        du, dq, *_ = self._programs.forward(time_like(s, u), u.contiguous(), *self._flat)
        return du, dq

    def taped(self, s: float, u: Tensor) -> tuple[Rates, Tape]:
        """See `TapedField`."""
        at, u = time_like(s, u), u.contiguous()
        du, dq, *saved = self._programs.forward(at, u, *self._flat)
        return (du, dq), (at, u, saved)

    def vjp(
        self, tape: Tape, a_du: Tensor, a_dq: Tensor, sums: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """See `TapedField`."""
        at, u, saved = tape
        adjoints = (a_du.contiguous(), a_dq.contiguous())
        a_u, *sums = self._programs.backward(at, u, *self._flat, *adjoints, *sums, *saved)
        return a_u, sums


def _none(*tensors: Tensor) -> Sequence[Tensor]:
    raise AssertionError("nothing of this evaluation gets a gradient")


class Programs(NamedTuple):
    """What is compiled for a field and the shapes of its inputs.

    Arguments:
        forward: (s, u, inputs...) -> (du, dq, saved...).
        backward: (s, u, inputs..., a_du, a_dq, sums..., saved...) -> (a_u, sums...).
    """

    forward: Program
    backward: Program = _none


class _Tree:
    """How inputs are put together from their tensors; comparable."""

    def __init__(self, tree: pytree.TreeSpec, leaves: Sequence[Tensor | None]) -> None:
        self._tree = tree
        self._present = tuple(leaf is not None for leaf in leaves)
        self._key = (str(tree), self._present)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tree) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self._key)

    def build(self, tensors: Sequence[Tensor]) -> Any:  # noqa: ANN401
        """The inputs made of these tensors."""
        rest = iter(tensors)
        leaves = [next(rest) if present else None for present in self._present]
        return pytree.tree_unflatten(leaves, self._tree)


@functools.lru_cache(maxsize=64)
def _programs(
    field: Field,
    wanted: Wanted | None,
    tree: _Tree,
    shapes: tuple[tuple[tuple[int, ...], torch.dtype, torch.device], ...],
) -> Programs | None:
    """Compiles; None, with a warning that says why, if that fails."""
    # Tracing runs the field once; halves are within the domain of every function.
    u, *flat = [
        torch.full(shape, 0.5, dtype=dtype, device=device) for shape, dtype, device in shapes
    ]
    early = [time_like(0.5, u), u, *flat]
    source = (field, wanted, tree, shapes)
    try:
        with torch.no_grad():
            forward, *backward = programs(
                source, lambda compiler: _compile(compiler, field, wanted, tree, early), u.device
            )
            return Programs(forward, *backward)
    except Exception as error:  # whatever it is, the field runs without it
        reason = next(iter(str(error).strip().splitlines()), "")
        warnings.warn(f"not compiled: {type(error).__name__}: {reason}", stacklevel=2)
        return None


def _compile(
    compiler: Compile, field: Field, wanted: Wanted | None, tree: _Tree, early: Sequence[Tensor]
) -> list[Program]:
    # Here, because a process that finds the programs traces nothing.
    from harness_torch.solve.partition import cut, traced

    def evaluate(s: Tensor, u: Tensor, *flat: Tensor) -> Rates:
        return field(tree.build(flat), s, u)

    if wanted is None:
        return [compiler(_bounded(traced(evaluate, early)), early)]
    count = len(early)

    def joint(*tensors: Tensor) -> tuple[Tensor, ...]:
        s, u, *flat = tensors[:count]
        a_du, a_dq, *sums = tensors[count:]
        inputs = tree.build(flat)
        u = u.detach().requires_grad_()
        leaves = [x.detach().requires_grad_() for x in wanted.of(inputs)]
        with torch.enable_grad():
            du, dq = field(wanted.put(inputs, leaves), s, u)
        a_u, *cotangents = torch.autograd.grad(
            (du, dq), (u, *leaves), (a_du, a_dq), materialize_grads=True
        )
        added = [total + part for total, part in zip(sums, cotangents, strict=True)]
        return tuple(x.detach().contiguous() for x in (du, dq, a_u, *added))

    du, dq = evaluate(*early)
    sums = [torch.zeros_like(x) for x in wanted.of(tree.build(early[2:]))]
    late = [torch.ones_like(x, memory_format=torch.contiguous_format) for x in (du, dq)]
    late += sums
    first, second = cut(traced(joint, [*early, *late]), count, 2)
    forward = compiler(_bounded(first), early)
    _, _, *saved = forward(*early)
    return [forward, compiler(_bounded(second), [*early, *late, *saved])]


def _bounded(graph: GraphModule) -> GraphModule:
    size = len(graph.graph.nodes)
    if size > MOST_OPERATIONS:
        raise ValueError(f"{size} operations; compiling them would take too long")
    return graph
