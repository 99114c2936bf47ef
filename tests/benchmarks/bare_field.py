"""The bare augmented field of one block, compiled: what no solver can do without.

dz and -eps^T J eps by one forward-mode sweep, and with it the vector-Jacobian product with respect
to z and all arrays. The better of the two frameworks gives the reference cost of a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from contenders import CORES
from workloads import Workload

from harness.architecture.arrays import initial_arrays

__all__ = ["FIELDS", "Timings"]

Timings = Callable[[], dict[str, float]]
Layer = tuple[Any, ...]
_ARRAYS = ("weight", "bias", "gate_weight", "gate_bias", "time_weight")
_TIME = np.float32(0.3)


def _field(
    layers: list[Layer],
    t: Any,  # noqa: ANN401
    z: Any,  # noqa: ANN401
    eps: Any,  # noqa: ANN401
    sigmoid: Callable[[Any], Any],
    phi: Callable[[Any], tuple[Any, Any]],
) -> tuple[Any, Any]:
    """The field in either framework; `phi` gives the nonlinearity and its derivative."""
    h, dh = z, eps
    for k, (weight, bias, gate_weight, gate_bias, time_weight) in enumerate(layers):
        gate = sigmoid(gate_weight * t + gate_bias)
        h = (h @ weight.T + bias) * gate + time_weight * t
        dh = (dh @ weight.T) * gate
        if k < len(layers) - 1:
            h, slope = phi(h)
            dh = dh * slope
    return h, -(eps * dh).sum(1)


def _numbers(workload: Workload) -> tuple[list[Layer], np.ndarray, np.ndarray]:
    arrays = initial_arrays(workload.trial("none", "direct", "float32"), workload.data)
    layers = [
        tuple(arrays[f"block0/layer{k}/{name}"] for name in _ARRAYS)
        for k in range(len(workload.model.hidden) + 1)
    ]
    batch = workload.inputs("float32")
    return layers, batch.x, batch.noise["probe/0"]


def _mean_seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def torch_field(workload: Workload) -> Timings:
    """In torch, by inductor."""
    import torch

    torch.set_num_threads(CORES)

    def tanh(h: Any) -> tuple[Any, Any]:  # noqa: ANN401
        out = torch.tanh(h)
        return out, 1 - out * out

    def softplus(h: Any) -> tuple[Any, Any]:  # noqa: ANN401
        return torch.nn.functional.softplus(h), torch.sigmoid(h)

    phi = {"tanh": tanh, "softplus": softplus}[workload.model.nonlinearity]
    numbers, x, probe = _numbers(workload)
    layers = [tuple(torch.tensor(a) for a in layer) for layer in numbers]
    z, eps, t = torch.tensor(x), torch.tensor(probe), torch.tensor(_TIME)
    inputs = [z, *(a for layer in layers for a in layer)]
    cotangents = (torch.ones_like(z), torch.ones(len(z)))

    @torch.compile(fullgraph=True, dynamic=False)
    def field(layers: list[Layer], z: Any) -> tuple[Any, Any]:  # noqa: ANN401
        return _field(layers, t, z, eps, torch.sigmoid, phi)

    def forward() -> None:
        with torch.no_grad():
            field(layers, z)

    def with_vjp() -> None:
        torch.autograd.grad(field(layers, z), inputs, cotangents)

    def timings() -> dict[str, float]:
        found = {"f_s": _mean_seconds(forward, workload.repeats)}
        for tensor in inputs:
            tensor.requires_grad_(True)
        found["vjp_s"] = _mean_seconds(with_vjp, workload.repeats)
        for tensor in inputs:
            tensor.requires_grad_(False)
        return found

    return timings


def jax_field(workload: Workload) -> Timings:
    """In jax, by XLA."""
    import jax
    import jax.numpy as jnp

    def tanh(h: Any) -> tuple[Any, Any]:  # noqa: ANN401
        out = jnp.tanh(h)
        return out, 1 - out * out

    def softplus(h: Any) -> tuple[Any, Any]:  # noqa: ANN401
        return jax.nn.softplus(h), jax.nn.sigmoid(h)

    phi = {"tanh": tanh, "softplus": softplus}[workload.model.nonlinearity]
    layers, z, eps = jax.device_put(_numbers(workload))
    cotangents = (jnp.ones_like(z), jnp.ones(len(z)))

    @jax.jit
    def field(layers: list[Layer], z: Any) -> tuple[Any, Any]:  # noqa: ANN401
        return _field(layers, _TIME, z, eps, jax.nn.sigmoid, phi)

    @jax.jit
    def with_vjp(layers: list[Layer], z: Any) -> Any:  # noqa: ANN401
        out, pullback = jax.vjp(lambda *at: field(*at), layers, z)
        return out, pullback(cotangents)

    def seconds(call: Callable[..., Any]) -> float:
        wait: Any = jax.block_until_ready
        return _mean_seconds(lambda: wait(call(layers, z)), workload.repeats)

    def timings() -> dict[str, float]:
        return {"f_s": seconds(field), "vjp_s": seconds(with_vjp)}

    return timings


FIELDS = {"field-jax": jax_field, "field-torch": torch_field}
