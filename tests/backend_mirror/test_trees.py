"""Both backends are one tree: the same files with the same public classes in them, so that a diff
of the two is a review. What one framework alone needs is named here with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

BACKENDS = Path(__file__).parents[2] / "backends"
ROOTS = {name: BACKENDS / name / f"harness_{name}" for name in ("torch", "jax")}

FILES: Mapping[str, Mapping[str, str]] = {
    "torch": {
        "allocator.py": "memory that glibc would give back between two training steps",
        "execution.py": "whether compiling repays; jax compiles always",
        "solve/compiled.py": "one evaluation and its product, compiled; jax compiles programs",
        "solve/inductor.py": "what is compiled, kept between processes; jax keeps by itself",
        "solve/partition.py": "cuts the graph of both in two",
    },
    "jax": {
        "arrays.py": "equal blocks are stacked on the device, and have other names there",
        "cells.py": "a block and its norm as the body of a scan: it compiles once",
        "runs.py": "which blocks are equal",
        "net/convolution.py": "XLA needs its kernels in one order to be fast; torch's are fast",
        "programs.py": "what is compiled whole, and with which options",
        "solve/packing.py": "many arrays as one: fewer operations to compile",
        "solve/record.py": "a compiled loop has fixed room for its steps; torch keeps a list",
    },
}

CLASSES: Mapping[str, Mapping[str, str]] = {
    "torch": {
        "backend.py TorchBackend": "the same under its framework's name",
        "model.py TorchModel": "the same under its framework's name",
        "net/affine.py Conv": "jax has one class for both forms",
        "net/affine.py Linear": "jax has one class for both forms",
        "net/taylor.py Jet": "coefficients on demand; jax computes an order at a time",
        "noise.py Noise": "by block; in jax stacked by run, a dictionary",
        "optimizers.py Adam": "moves its arrays in place",
        "solve/adjoint.py AdjointField": "a field is a value that compiled products are kept by",
        "solve/adjoint.py AdjointInputs": "its inputs",
        "solve/adjoint.py AdjointLeaves": "what the error norm sees of it",
        "solve/backprop.py Gradient": "in jax the return value of a custom vjp",
        "solve/blocks.py BlockCounts": "those of the pieces of one block",
        "solve/counts.py Counts": "counts arrive in place; in jax a backward pass returns them",
        "solve/counts.py Solution": "the end of a solve on the host",
        "solve/counts.py Watched": "counts what autograd differentiates within a library",
        "solve/library_engine.py Library": "an engine as a class, where jax has three functions",
        "solve/native_engine.py Native": "an engine as a class; one that compiles derives from it",
        "solve/step.py RungeKutta": "owns the buffers that its stages are written to",
        "solve/tape.py Eager": "runs operation by operation; the other way is solve/compiled.py",
        "solve/tape.py Wanted": "what gets a gradient; in jax its inputs are apart",
    },
    "jax": {
        "backend.py JaxBackend": "the same under its framework's name",
        "model.py JaxModel": "the same under its framework's name",
        "net/linearization.py JacobianSums": "sums column by column; torch holds the matrix",
        "optimizers.py Moments": "go through a program and come back",
        "solve/counts.py Stats": "what a solve did as arrays on the device",
        "solve/native_engine.py Recorder": "what a compiled loop writes down",
        "solve/step.py Start": "what a compiled step starts from",
        "solve/step.py Taken": "a step as it is read back",
    },
}


def _files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.py")}


def _public(path: Path) -> set[str]:
    """The names that a module makes public."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _classes(path: Path) -> set[str]:
    """The classes among them."""
    found = {
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    }
    return found & _public(path)


@pytest.mark.parametrize(("one", "other"), [("torch", "jax"), ("jax", "torch")])
def test_a_file_stands_on_both_sides_or_says_why(one: str, other: str) -> None:
    assert _files(ROOTS[one]) - _files(ROOTS[other]) == set(FILES[one])


@pytest.mark.parametrize(("one", "other"), [("torch", "jax"), ("jax", "torch")])
def test_a_class_stands_on_both_sides_or_says_why(one: str, other: str) -> None:
    alone = {
        f"{name} {cls}"
        for name in _files(ROOTS[one]) & _files(ROOTS[other])
        # A class of one framework may be the name of a type of the other.
        for cls in _classes(ROOTS[one] / name) - _public(ROOTS[other] / name)
    }
    assert alone == set(CLASSES[one])
