"""Convolutions of images, with derivatives that are fast on a processor.

XLA convolves fast there if channels come last in the images and the kernel lies as
[k, k, in, out]. Autodiff writes derivatives with other orders, which take several times as long.
So on a processor a convolution is a primitive of its own: bilinear, with both transposes given.
Where jax no longer lets one be added, a convolution is jax's own, with the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["convolve"]


def convolve(h: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolves images h [..., in, height, width] with padding 1.

    Arguments:
        h: The images.
        kernel: [out, in, k, k], k = 3 for stride 1, else 4.
        stride: 1; 2 halves the image; -2, the transpose of 2, doubles it.
    """
    images = h.reshape(-1, *h.shape[-3:])
    function = _on_processor if jax.default_backend() == "cpu" else _convolve
    out = function(images, kernel, stride=stride)
    return out.reshape(*h.shape[:-3], *out.shape[1:])


def _convolve(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """The convolution as XLA has it: [n, in, height, width] -> [n, out, ...]."""
    if stride < 0:
        # The transpose of a strided convolution: zeros between the pixels, the kernel turned.
        padding, dilation, step = (2, 2), (-stride, -stride), (1, 1)
        kernel = jnp.flip(kernel, (2, 3))
    else:
        padding, dilation, step = (1, 1), (1, 1), (stride, stride)
    out = lax.conv_general_dilated(
        images.transpose(0, 2, 3, 1),
        kernel.transpose(2, 3, 1, 0),
        step,
        (padding, padding),
        lhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.transpose(0, 3, 1, 2)


def _images_bar(
    out_bar: jax.Array,
    images: Any,  # noqa: ANN401
    kernel: jax.Array,
    *,
    stride: int,
) -> jax.Array:
    """The transpose in the images: a convolution again."""
    del images
    turned = jnp.swapaxes(kernel, 0, 1)
    if stride == 1:
        return _on_processor(out_bar, jnp.flip(turned, (2, 3)), stride=1)
    return _on_processor(out_bar, turned, stride=-stride)


def _kernel_bar(
    out_bar: jax.Array,
    images: jax.Array,
    kernel: Any,  # noqa: ANN401
    *,
    stride: int,
) -> jax.Array:
    """The transpose in the kernel: one product with all patches of the images."""
    del kernel
    side = 3 if stride == 1 else 4
    out, channels = out_bar.shape[1], images.shape[1]
    patches = _patches(images.transpose(0, 2, 3, 1), side, stride)
    rows = out_bar.transpose(0, 2, 3, 1).reshape(-1, out)
    bar = rows.T @ patches.reshape(len(rows), -1)
    bar = bar.reshape(out, side, side, channels).transpose(0, 3, 1, 2)
    return jnp.flip(bar, (2, 3)) if stride < 0 else bar


def _patches(images: jax.Array, side: int, stride: int) -> jax.Array:
    """What each output sees of images [n, height, width, in]: [n, ..., side * side * in]."""
    edge, step = ((2, 2, 1), 1) if stride < 0 else ((1, 1, 0), stride)
    none = (0, 0, 0)
    padded = lax.pad(images, jnp.zeros((), images.dtype), (none, edge, edge, none))
    height, width = ((length - side) // step + 1 for length in padded.shape[1:3])
    shifted = [
        padded[:, i : i + step * height : step, j : j + step * width : step]
        for i in range(side)
        for j in range(side)
    ]
    return jnp.concatenate(shifted, axis=3)


def _shape(images: Any, kernel: Any, *, stride: int) -> Any:  # noqa: ANN401
    convolved = jax.eval_shape(partial(_convolve, stride=stride), images, kernel)
    return images.update(shape=convolved.shape)


def _batched(
    arguments: Sequence[jax.Array], axes: Sequence[int | None], *, stride: int
) -> tuple[jax.Array, int]:
    return jax.vmap(partial(_convolve, stride=stride), tuple(axes))(*arguments), 0


def _primitive() -> Callable[..., jax.Array]:
    """The primitive, which jax differentiates, batches and compiles after the rules above."""
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    # Untyped in jax.
    convolution: Any = Primitive("convolution_on_processor")
    autodiff: Any = ad
    lowering: Any = mlir
    convolution.def_impl(jax.jit(_convolve, static_argnames="stride"))
    convolution.def_abstract_eval(_shape)
    autodiff.defbilinear(convolution, _images_bar, _kernel_bar)
    batching.primitive_batchers[convolution] = _batched
    lowering.register_lowering(convolution, lowering.lower_fun(_convolve, multiple_results=False))
    bind: Callable[..., jax.Array] = convolution.bind
    return bind


def _primitive_or(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The primitive, or `function` where a version of jax has no such interface."""
    try:
        return _primitive()
    except (AttributeError, ImportError, TypeError):
        return function


_on_processor = _primitive_or(_convolve)
