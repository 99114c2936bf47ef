"""Compiled evaluations: a field and its vector-Jacobian product, traced to tensor operations and
compiled by inductor once for all equal fields and shapes.

One evaluation is the unit. A whole step compiled as one is no faster, has as many times the
operations to compile as the method has stages, and serves one tableau alone.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch._inductor
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from harness_torch.solve.native_engine import Native
from harness_torch.solve.partition import cut, traced
from harness_torch.solve.problem import Field, InitialValue, Rates, time_like
from harness_torch.solve.tape import Eager, Tape, TapedField, Wanted

__all__ = ["Compiled", "CompiledEngine"]

Program = Callable[..., Sequence[Tensor]]

MOST_OPERATIONS = 3000
"""Of one program: ten times as many as a toy net's product has. Exact traces of images take one
pass a chunk of dimensions, each written out.
"""

_MOST_DAMAGED = 20
"""Libraries of the cache that are made anew before a field is left uncompiled."""


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
        programs = _programs(field, wanted, _Tree(tree, leaves), shapes)
        return Eager(field, inputs, wanted) if programs is None else Compiled(programs, flat)


class Compiled(TapedField):
    """Runs compiled programs, which take and return contiguous tensors.

    Arguments:
        programs: What was compiled.
        flat: The tensors of the field's inputs.
    """

    def __init__(self, programs: Programs, flat: list[Tensor]) -> None:
        self._programs, self._flat = programs, flat

    @torch.no_grad()
    def value(self, s: float, u: Tensor) -> Rates:
        """See `TapedField`."""
        du, dq, *_ = self._programs.forward(time_like(s, u), u.contiguous(), *self._flat)
        return du, dq

    @torch.no_grad()
    def taped(self, s: float, u: Tensor) -> tuple[Rates, Tape]:
        """See `TapedField`."""
        at, u = time_like(s, u), u.contiguous()
        du, dq, *saved = self._programs.forward(at, u, *self._flat)
        return (du, dq), (at, u, saved)

    @torch.no_grad()
    def vjp(
        self, tape: Tape, a_du: Tensor, a_dq: Tensor, sums: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """See `TapedField`."""
        at, u, saved = tape
        adjoints = (a_du.contiguous(), a_dq.contiguous())
        a_u, *sums = self._programs.backward(at, u, *self._flat, *adjoints, *sums, *saved)
        return a_u, sums


class Programs(NamedTuple):
    """What is compiled for a field and the shapes of its inputs.

    Arguments:
        forward: (s, u, inputs...) -> (du, dq, saved...).
        backward: (s, u, inputs..., a_du, a_dq, sums..., saved...) -> (a_u, sums...).
    """

    forward: Program
    backward: Program


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
    try:
        with torch.no_grad():
            for _ in range(_MOST_DAMAGED):
                try:
                    return _compiled(field, wanted, tree, early)
                except Exception as error:
                    if not _forget_damaged(error):
                        raise
            return _compiled(field, wanted, tree, early)
    except Exception as error:  # whatever it is, the field runs without it
        reason = next(iter(str(error).strip().splitlines()), "")
        warnings.warn(f"not compiled: {type(error).__name__}: {reason}", stacklevel=2)
        return None


def _forget_damaged(error: Exception) -> bool:
    """Removes the library of inductor's cache that an error names, and says whether it did.

    A process that is killed while the linker writes leaves one cut short, at which every later
    compilation of the same field would fail.
    """
    named = re.search(r"ImportError: (/.+?\.so): ", str(error))
    if named is None:
        return False
    library = Path(named[1])
    if Path(cache_dir()) not in library.parents:
        return False
    with suppress(OSError):
        library.unlink()
        return True
    return False


def _compiled(
    field: Field, wanted: Wanted | None, tree: _Tree, early: Sequence[Tensor]
) -> Programs:
    def evaluate(s: Tensor, u: Tensor, *flat: Tensor) -> Rates:
        return field(tree.build(flat), s, u)

    if wanted is None:
        return Programs(_compile(traced(evaluate, early), early), _none)
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
    forward = _compile(first, early)
    _, _, *saved = forward(*early)
    return Programs(forward, _compile(second, [*early, *late, *saved]))


def _none(*tensors: Tensor) -> Sequence[Tensor]:
    raise AssertionError("nothing of this evaluation gets a gradient")


def _compile(graph: GraphModule, arguments: Sequence[Tensor]) -> Program:
    size = len(graph.graph.nodes)
    if size > MOST_OPERATIONS:
        raise ValueError(f"{size} operations; compiling them would take too long")
    # Written into the kernels, but not into the key of inductor's cache.
    options = {"cpp.threads": torch.get_num_threads()}
    compiled: Program = torch._inductor.compile(graph, list(arguments), options=options)
    return compiled
