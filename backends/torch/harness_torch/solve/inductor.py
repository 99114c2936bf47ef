"""Graphs compiled by inductor, for a processor to libraries that are kept between processes.

A library is found by what it would be compiled from, before anything is traced: a process that
finds one loads it in milliseconds, where tracing and inductor's own cache take seconds.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock
from torch import Tensor
from torch.fx import GraphModule

from harness import architecture
from harness.caches import made_cache
from harness.processor import processor

__all__ = ["Compile", "Program", "compiled_anew", "programs"]

Program = Callable[..., Sequence[Tensor]]
Compile = Callable[[GraphModule, Sequence[Tensor]], Program]

_Made = TypeVar("_Made")

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_PACKAGES = (Path(__file__).parents[1], Path(architecture.__file__).parent)
"""Whose code decides what is compiled."""

_asked_for: dict[str, bool] = {}
"""By digest, what this process took from the shelf: whether it was compiled for it."""


def programs(
    source: object, compile_all: Callable[[Compile], Sequence[Program]], device: torch.device
) -> Sequence[Program]:
    """What an earlier process compiled, or what is compiled now.

    Arguments:
        source: What the programs are a function of, beside our code and the machine; `repr` tells
            different ones apart.
        compile_all: Compiles them by what it is given, in one order.
        device: Where they run. Kept are those of a processor.
    """
    if device.type != "cpu":
        return _mended(lambda: compile_all(_in_memory))
    shelf = made_cache("torch-programs")
    with nullcontext(shelf) if shelf else tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / _digest(source)
        # Trials that start together compile once what they share.
        with FileLock(folder.with_suffix(".lock")):
            missing = not folder.exists()
            if missing:
                _mended(lambda: _fill(folder, compile_all))
            if shelf:
                _asked_for.setdefault(folder.name, missing)
        return [_loaded(path) for path in sorted(folder.glob("*.so"))]


def compiled_anew() -> int | None:
    """How many fields this process compiled that no earlier one had; None if none are kept."""
    return sum(_asked_for.values()) if _asked_for else None


def _fill(folder: Path, compile_all: Callable[[Compile], Sequence[Program]]) -> None:
    """Compiles into a folder that appears whole: half a library would end who loads it."""
    with tempfile.TemporaryDirectory(prefix="new-", dir=folder.parent) as made:
        count = 0

        def library(graph: GraphModule, arguments: Sequence[Tensor]) -> Program:
            nonlocal count
            path = Path(made) / "finished" / f"{count}.so"
            path.parent.mkdir(exist_ok=True)
            _to_library(graph, arguments, Path(made) / f"{count}.so").replace(path)
            count += 1
            return _loaded(path)

        compile_all(library)
        (Path(made) / "finished").replace(folder)


def _to_library(graph: GraphModule, arguments: Sequence[Tensor], path: Path) -> Path:
    import torch._inductor  # takes seconds, and only who compiles needs it

    for node in graph.graph.nodes:
        node.meta.clear()  # what tracing noted is of another trace than inductor's
    options = {"aot_inductor.output_path": str(path), **_options()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its own calls
        torch._inductor.aot_compile(graph, tuple(arguments), options=options)
    return path


def _loaded(path: Path) -> Program:
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1)
    return lambda *tensors: runner.run(list(tensors))


def _in_memory(graph: GraphModule, arguments: Sequence[Tensor]) -> Program:
    import torch._inductor

    program: Program = torch._inductor.compile(graph, list(arguments), options=_options())
    return program


def _options() -> dict[str, int]:
    # Written into the kernels, but not into the key of inductor's cache.
    return {"cpp.threads": torch.get_num_threads()}


def _mended(compiled: Callable[[], _Made]) -> _Made:
    """Compiles, once more with an empty cache of inductor if that fails.

    A process that is killed while a compiler writes there leaves half a file, at which every
    later compilation would fail.
    """
    try:
        return compiled()
    except ValueError:  # ours, of a graph that is too large
        raise
    except Exception:
        with tempfile.TemporaryDirectory() as empty, _inductor_cache(empty):
            return compiled()


@contextmanager
def _inductor_cache(folder: str) -> Iterator[None]:
    usual = os.environ.get(_CACHE)
    os.environ[_CACHE] = folder
    try:
        yield
    finally:
        if usual is None:
            del os.environ[_CACHE]
        else:
            os.environ[_CACHE] = usual


def _digest(source: object) -> str:
    own = ("TORCHINDUCTOR_", "TORCH_COMPILE")
    settings = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith(own) and name not in (_CACHE, "TORCHINDUCTOR_COMPILE_THREADS")
    )
    machine = (*processor(), torch.__version__, torch.get_num_threads(), os.environ.get("CXX"))
    parts = (source, _own_code(), machine, settings)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


@cache
def _own_code() -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
