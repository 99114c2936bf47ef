"""How XLA compiles the programs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import jax

__all__ = ["compiler_options"]

_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Products by Eigen, not by YNNPACK as XLA chooses: faster for large batches and, with the thin
products of `harness_jax.net.affine`, as fast for the toy nets. The figures: docs/benchmarks.md."""


@cache
def compiler_options(platform: str) -> Mapping[str, str]:
    """Options for `jax.jit` on a platform; none that this XLA does not know."""
    if platform != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_EIGEN).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return _EIGEN
