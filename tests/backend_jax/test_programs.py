"""Options of compilation: they do what they are for, and none is asked of an XLA without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import pytest
from harness_jax import programs
from harness_jax.programs import compiler_options


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


def _compiled(options: Mapping[str, str]) -> str:
    a = jnp.ones((64, 64), jnp.float32)
    program = jax.jit(lambda a: jnp.tanh(a @ a), compiler_options=dict(options))
    return str(program.lower(a).compile().as_text())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of processors")
def test_a_product_is_not_ynnpacks() -> None:
    assert "ynn_fusion" in _compiled({})
    assert "ynn_fusion" not in _compiled(compiler_options("cpu", convolutions=False))


def test_a_gpu_has_no_options_of_a_processor() -> None:
    assert compiler_options("gpu", convolutions=True) == {}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of processors")
def test_what_stands_between_convolutions_is_compiled_quickly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "xla_backend_optimization_level"
    monkeypatch.setenv("XLA_FLAGS", "")
    assert compiler_options("cpu", convolutions=True)[name] == "1"
    assert name not in compiler_options("cpu", convolutions=False)
    compiler_options.cache_clear()
    monkeypatch.setenv("XLA_FLAGS", f"--{name}=0")
    assert name not in compiler_options("cpu", convolutions=True)


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_EIGEN", {"xla_cpu_no_such_option": "1"})
    assert compiler_options("cpu", convolutions=False) == {}
