"""Compiled evaluations: the cut of the traced graph, equality with eager ones, one compilation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from harness_torch.execution import choose_execution
from harness_torch.field import Augmented, Velocity
from harness_torch.model import TorchModel
from harness_torch.solve import compiled, inductor
from harness_torch.solve.adjoint import AdjointField, AdjointInputs
from harness_torch.solve.compiled import Compiled, CompiledEngine
from harness_torch.solve.problem import Field, InitialValue, Inputs
from harness_torch.solve.tape import Eager, Wanted
from torch import Tensor
from torch.fx import GraphModule

from harness.architecture.transforms import Block
from harness.interface import Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    FixedSolver,
    GradientName,
    LayerName,
    LibrarySolver,
    ModelSpec,
    NonlinearityName,
    RegularizerName,
    Training,
    Trial,
)

DIM, SIZE = 3, 5


def _at(field: Field, inputs: Any, u: Tensor) -> InitialValue:  # noqa: ANN401
    return InitialValue(field, inputs, u, u[:0])


MakeArrays = Callable[[ModelSpec, int], dict[str, Tensor]]
FirstBlock = Callable[[ModelSpec, int], Block]
REGULARIZERS: tuple[tuple[RegularizerName, ...], ...] = (
    (),
    ("ffjord.dl2", "ffjord.jfrob", "ffjord.l1", "rnode.jacobian", "rnode.total"),
    ("directional_jvp", "taylor_3"),
)


def _normal(name: str, *shape: int) -> Tensor:
    return torch.tensor(Stream(3, name).normal(shape))


def _inputs(arrays: dict[str, Tensor], eps: Tensor) -> Inputs:
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return Inputs(arrays, 2 * one, eps, 0.25 * one + zero, 0.5 * one)


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[GraphModule]]:
    """Graphs run as they are; they are listed."""
    graphs: list[GraphModule] = []

    def keep(graph: GraphModule, arguments: Sequence[Tensor]) -> GraphModule:
        assert len([n for n in graph.graph.nodes if n.op == "placeholder"]) == len(arguments)
        graphs.append(graph)
        return graph

    compiled._programs.cache_clear()
    monkeypatch.setattr(compiled, "programs", lambda source, make, device: make(keep))
    yield graphs
    compiled._programs.cache_clear()


def _agree(field: Augmented, inputs: Inputs) -> None:
    """Both ways return the same rates and products."""
    wanted = Wanted(tuple(inputs.arrays), T=True)
    z, (a_z, a_q) = _normal("z", SIZE, DIM), (_normal("a_z", SIZE, DIM), None)
    found = []
    for taped in (
        Eager(field, inputs, wanted),
        CompiledEngine({SIZE}).taped_field(_at(field, inputs, z), wanted),
    ):
        rates, tape = taped.taped(0.3, z)
        torch.testing.assert_close(taped.value(0.3, z), rates, rtol=1e-14, atol=1e-14)
        a_q = _normal("a_q", *rates[1].shape)
        sums = [torch.full_like(x, 0.5) for x in wanted.of(inputs)]
        found.append((*rates, *taped.vjp(tape, a_z, a_q, sums)))
    assert isinstance(taped, Compiled)
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("nonlinearity", get_args(NonlinearityName))
@pytest.mark.parametrize("layer", get_args(LayerName))
def test_halves_of_every_net_equal_the_whole(
    layer: LayerName,
    nonlinearity: NonlinearityName,
    without_compiler: list[GraphModule],
    block_arrays: MakeArrays,
    first_block: FirstBlock,
) -> None:
    model = ModelSpec(layer, (7, 6), nonlinearity)
    field = Augmented(model, first_block(model, DIM), "hutchinson")
    _agree(field, _inputs(block_arrays(model, DIM), _normal("eps", SIZE, DIM)))
    assert len(without_compiler) == 2


@pytest.mark.parametrize("names", REGULARIZERS)
@pytest.mark.parametrize("trace", ["bottleneck", "exact", "hutchinson"])
def test_halves_of_every_integrand_equal_the_whole(
    trace: Any,  # noqa: ANN401
    names: tuple[RegularizerName, ...],
    without_compiler: list[GraphModule],
    block_arrays: MakeArrays,
    first_block: FirstBlock,
) -> None:
    model = ModelSpec("concatsquash", (7, 2), "softplus", residual=True)
    if trace == "bottleneck" and names:
        pytest.skip("its probe is no probe of the whole Jacobian")
    field = Augmented(model, first_block(model, DIM), trace, names)
    eps = _normal("eps", SIZE, 2 if trace == "bottleneck" else DIM)
    _agree(field, _inputs(block_arrays(model, DIM), eps))
    assert len(without_compiler) == 2


def test_programs_see_and_return_contiguous_tensors(
    without_compiler: list[GraphModule], block_arrays: MakeArrays, first_block: FirstBlock
) -> None:
    """Convolutions return channels last, but what is compiled holds for one order of memory."""
    shape = (4, 2, 2)
    model = ModelSpec("concatsquash", (3,), "tanh", strides=(1, 1))
    field = Augmented(model, first_block(model, shape), "hutchinson")  # type: ignore[arg-type]
    arrays = block_arrays(model, shape)  # type: ignore[arg-type]
    inputs = _inputs(arrays, _normal("eps", SIZE, *shape))
    wanted = Wanted(tuple(arrays))
    z = _normal("z", SIZE, *shape).to(memory_format=torch.channels_last)
    ours = CompiledEngine({SIZE}).taped_field(_at(field, inputs, z), wanted)
    eager = Eager(field, inputs, wanted)
    found = []
    for taped in (ours, eager):
        (du, dq), tape = taped.taped(0.3, z)
        sums = [torch.zeros_like(x) for x in wanted.of(inputs)]
        a_z, sums = taped.vjp(tape, z, torch.ones_like(dq), sums)
        found.append((du, dq, a_z, *sums))
    assert all(x.is_contiguous() for x in found[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-12)
    late = [n for n in without_compiler[1].graph.nodes if n.op == "placeholder"]
    assert all(n.meta["val"].is_contiguous() for n in late[: len(arrays) + 6])


def test_the_first_half_saves_no_arithmetic(
    without_compiler: list[GraphModule], block_arrays: MakeArrays, first_block: FirstBlock
) -> None:
    """Of a tanh layer its value and its tangent before the slope are saved, both [SIZE, width]."""
    model = ModelSpec("concatsquash", (7, 6), "tanh")
    field = Augmented(model, first_block(model, DIM), "hutchinson")
    _agree(field, _inputs(block_arrays(model, DIM), _normal("eps", SIZE, DIM)))
    outputs = next(n for n in without_compiler[0].graph.nodes if n.op == "output").args[0]
    sizes = [node.meta["val"].numel() for node in outputs[2:]]
    assert sorted(n for n in sizes if n in (SIZE * 7, SIZE * 6)) == [30, 30, 35, 35]
    weights = {7 * DIM, 7 * 6, 6 * DIM}
    assert not weights & set(sizes), "a gated weight was saved"


def test_the_adjoint_ode_is_one_program(
    without_compiler: list[GraphModule], block_arrays: MakeArrays, first_block: FirstBlock
) -> None:
    model = ModelSpec("concatsquash", (7, 6), "tanh")
    arrays = block_arrays(model, DIM)
    field = AdjointField(
        Augmented(model, first_block(model, DIM), "exact"), Wanted(tuple(arrays), T=True)
    )
    inputs = AdjointInputs(_inputs(arrays, _normal("eps", SIZE, DIM)), _normal("a_q", 1, SIZE))
    u = _normal("u", 2, SIZE, DIM)
    ours = CompiledEngine({SIZE}).taped_field(_at(field, inputs, u), None)
    expected = Eager(field, inputs, None).value(0.3, u)
    torch.testing.assert_close(ours.value(0.3, u), expected, rtol=1e-11, atol=1e-12)
    assert len(without_compiler) == 1


def test_other_sizes_and_transport_are_not_compiled(
    without_compiler: list[GraphModule], block_arrays: MakeArrays, first_block: FirstBlock
) -> None:
    model = ModelSpec("concat", (7,))
    inputs = _inputs(block_arrays(model, DIM), _normal("eps", SIZE, DIM))
    block, z = first_block(model, DIM), _normal("z", SIZE, DIM)
    engine = CompiledEngine({SIZE})
    assert isinstance(engine.taped_field(_at(Velocity(model, block), inputs, z), None), Eager)
    field = Augmented(model, block, "exact")
    assert isinstance(engine.taped_field(_at(field, inputs, z[:2]), None), Eager)
    assert without_compiler == []


def test_what_cannot_be_compiled_runs_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, block_arrays: MakeArrays, first_block: FirstBlock
) -> None:
    def fail(*arguments: Any) -> None:  # noqa: ANN401
        raise RuntimeError("no such compiler")

    compiled._programs.cache_clear()
    monkeypatch.setattr(compiled, "programs", fail)
    model = ModelSpec("concat", (7,))
    field = Augmented(model, first_block(model, DIM), "exact")
    inputs = _inputs(block_arrays(model, DIM), _normal("eps", SIZE, DIM))
    z = _normal("z", SIZE, DIM)
    with pytest.warns(UserWarning, match="not compiled: RuntimeError: no such compiler"):
        taped = CompiledEngine({SIZE}).taped_field(_at(field, inputs, z), None)
    assert isinstance(taped, Eager)
    compiled._programs.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_training_is_eager_training_compiled_once(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_trial: Trial,
    make_inputs: Callable[..., tuple[Batch, Control]],
) -> None:
    """Two equal blocks, three steps with other data, learning rates and step sizes.

    The flow with its products, and the flow with its adjoint ODE: two programs each. `direct`
    finds those of `checkpoint`, as a process that starts later would.
    """
    libraries = []
    really = inductor._to_library

    def counting(graph: GraphModule, arguments: Sequence[Tensor], path: Path) -> Path:
        libraries.append(path)
        return really(graph, arguments, path)

    monkeypatch.setenv("HARNESS_COMPILED_DIR", str(tmp_path))
    monkeypatch.setattr(inductor, "_to_library", counting)
    modes: dict[GradientName, int] = {"checkpoint": 2, "direct": 2, "adjoint": 4}
    for mode, count in modes.items():
        compiled._programs.cache_clear()
        _compiled_is_eager(replace(base_trial, gradient=mode), make_inputs)
        assert len(libraries) == count


def _compiled_is_eager(trial: Trial, make_inputs: Callable[..., tuple[Batch, Control]]) -> None:
    trial = replace(
        trial,
        solver=AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6, first_step="warm"),
        model=replace(trial.model, hidden=(4,)),
    )
    data = DataInfo("none", (DIM,))
    models = TorchModel(trial, data, "cpu"), TorchModel(trial, data, "cpu", CompiledEngine({5}))
    models[1].compile(*make_inputs(trial, DIM))
    for step in range(3):
        batch, control = make_inputs(trial, DIM, step=step)
        control = replace(control, lr=1e-2 / (1 + step))
        eager, fast = (model.train_step(batch, control).fetch() for model in models)
        assert fast.loss == pytest.approx(eager.loss, rel=1e-12)
        assert fast.nfe == eager.nfe
    for name, value in models[0].state().items():
        np.testing.assert_allclose(models[1].state()[name], value, rtol=1e-9, atol=1e-12)


def _long(trial: Trial, iterations: int) -> Trial:
    return replace(trial, training=Training(iterations=iterations, batch=100))


@pytest.mark.parametrize(
    ("changes", "execution"),
    [
        ({}, "compiled"),
        ({"engine": "library"}, "eager"),
        ({"solver": LibrarySolver("torchdiffeq:bosh3")}, "eager"),
        ({"solver": FixedSolver("euler", 1)}, "eager"),
        ({"training": Training(iterations=200, batch=100)}, "eager"),
    ],
)
def test_long_trainings_are_compiled(
    changes: dict[str, Any],
    execution: str,
    base_trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    trial = replace(_long(base_trial, 10_000), model=ModelSpec(), **changes)
    found = choose_execution(trial, DataInfo("toy", (2,)), 2)
    assert found["execution"] == execution
    assert found["because"]


def test_without_a_compiler_nothing_is_compiled(
    base_trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = choose_execution(_long(base_trial, 10**6), DataInfo("toy", (2,)), 2)
    assert found == {"execution": "eager", "because": "there is no C++ compiler"}
