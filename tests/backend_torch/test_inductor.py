"""Programs kept between processes: found again, made whole or not at all, and mended."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from harness_torch.solve import inductor
from torch import Tensor
from torch.fx import GraphModule, symbolic_trace

CPU = torch.device("cpu")
X = torch.tensor([1.0, 2.0])


class _Doubled(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (2 * x,)


def _double(compiler: inductor.Compile) -> list[inductor.Program]:
    return [compiler(symbolic_trace(_Doubled()), [X])]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HARNESS_COMPILED_DIR", str(tmp_path))
    return tmp_path / "torch-programs"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compiled: the text of each graph stands for its library."""
    found: list[str] = []

    def write(graph: GraphModule, arguments: Sequence[Tensor], path: Path) -> Path:
        found.append(graph.code)
        path.write_text(str(len(found)))
        return path

    def load(path: Path) -> inductor.Program:
        return lambda *tensors: [torch.tensor(int(path.read_text()))]

    monkeypatch.setattr(inductor, "_to_library", write)
    monkeypatch.setattr(inductor, "_loaded", load)
    return found


def test_what_is_kept_is_found_again_without_tracing(
    shelf: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(compiler: inductor.Compile) -> list[inductor.Program]:
        return [*_double(compiler), *_double(compiler)]

    def never(compiler: inductor.Compile) -> list[inductor.Program]:
        raise AssertionError("traced again")

    monkeypatch.setattr(inductor, "_asked_for", {})
    made = inductor.programs("a", twice, CPU)
    assert len(compiled) == 2
    assert inductor.compiled_anew() == 1
    for programs in (made, inductor.programs("a", never, CPU)):
        assert [program()[0].item() for program in programs] == [1, 2]
    monkeypatch.setattr(inductor, "_asked_for", {})
    inductor.programs("a", never, CPU)
    assert inductor.compiled_anew() == 0
    folders = [path for path in shelf.iterdir() if path.is_dir()]
    assert sorted(path.name for path in folders[0].iterdir()) == ["0.so", "1.so"]
    assert len(folders) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(torch, "get_num_threads", lambda: 77),
        lambda patch: patch.setattr(torch, "__version__", "0"),
        lambda patch: patch.setattr(inductor, "processor", lambda: ("another", "")),
        lambda patch: patch.setattr(inductor, "_own_code", lambda: "changed"),
        lambda patch: patch.setenv("TORCHINDUCTOR_MAX_AUTOTUNE", "1"),
        lambda patch: patch.setenv("CXX", "another"),
    ],
)
def test_what_changes_a_program_is_part_of_its_name(
    change: Callable[[pytest.MonkeyPatch], None],
    shelf: Path,
    compiled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inductor.programs("a", _double, CPU)
    change(monkeypatch)
    inductor.programs("a", _double, CPU)
    assert len(compiled) == 2
    inductor.programs("b", _double, CPU)
    assert len(compiled) == 3


def test_a_failure_leaves_nothing_behind(
    shelf: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second program fails, with the usual cache of inductor and with an empty one."""
    caches = []

    def fails(compiler: inductor.Compile) -> list[inductor.Program]:
        caches.append(os.environ.get("TORCHINDUCTOR_CACHE_DIR"))
        _double(compiler)
        raise RuntimeError("file too short")

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "usual")
    with pytest.raises(RuntimeError, match="file too short"):
        inductor.programs("a", fails, CPU)
    assert caches[0] == "usual"
    assert len(caches) == 2
    assert not Path(str(caches[1])).exists()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "usual"
    assert [path.suffix for path in shelf.iterdir()] == [".lock"]


def test_a_damaged_cache_of_inductor_costs_one_more_try(
    shelf: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)

    def damaged(compiler: inductor.Compile) -> list[inductor.Program]:
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            raise ImportError("file too short")
        return _double(compiler)

    assert len(inductor.programs("a", damaged, CPU)) == 1
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_without_a_cache_folder_programs_serve_one_process(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inductor, "_asked_for", {})
    monkeypatch.setattr(inductor, "made_cache", lambda name: None)
    for count in (1, 2):
        assert len(inductor.programs("a", _double, CPU)) == 1
        assert len(compiled) == count
    assert inductor.compiled_anew() is None


def test_a_device_other_than_a_processor_keeps_nothing(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_memory(graph: GraphModule, arguments: Any) -> GraphModule:  # noqa: ANN401
        return graph

    monkeypatch.setattr(inductor, "_in_memory", in_memory)
    (program,) = inductor.programs("a", _double, torch.device("cuda"))
    assert program(X)[0].tolist() == [2.0, 4.0]
    assert not shelf.exists()
