"""The kit's fields in torch, jax and numpy, and how arrays and gradients cross over."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.certify.closed_forms import ClosedForm, Rows

__all__ = ["FRAMEWORKS", "Build", "Framework"]

Build = Callable[[Any, int], Any]


class Framework(ABC):
    """One framework: makes fields, converts arrays, differentiates."""

    @abstractmethod
    def field(self, form: ClosedForm, dtype: str) -> Any:
        """The field of a closed form, as the package's docstring describes it."""

    @abstractmethod
    def array(self, values: Rows, dtype: str) -> Any:
        """An array of the framework."""

    @abstractmethod
    def numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """The array in numpy, in its own precision."""

    @abstractmethod
    def gradient(self, form: ClosedForm, log_prob_of: Callable[[Any], Any], x: Any) -> float:
        """Derivative with respect to theta of the sum of log p over the rows of x.

        Arguments:
            form: The closed form.
            log_prob_of: Makes the log_prob of a field.
            x: Rows of the framework, in float64.
        """

    @contextmanager
    def settings(self) -> Iterator[None]:
        """What must be set while the kit runs."""
        yield


def _flat(field: Any, xp: Any, theta: Any, t: Any, x: Any) -> Any:
    """The velocity of events of any shape, at one time or one time a row."""
    form: ClosedForm = field.form
    rows = x.shape[: x.ndim - len(form.shape)]
    t = xp.constant(t, x)
    # Libraries hand over a scalar, an array of one, a column, or one time a row.
    t = t.reshape(() if math.prod(t.shape) == 1 else rows)
    return form.velocity(xp, theta, t, x.reshape((*rows, form.dim))).reshape(x.shape)


class _NumpyField:
    def __init__(self, form: ClosedForm, dtype: str) -> None:
        self.form, self.end_time, self.shape = form, form.end_time, form.shape
        self.dtype, self.theta = np.dtype(dtype), form.theta

    def __call__(self, t: Any, x: Any) -> Any:
        xp = SimpleNamespace(
            cos=np.cos,
            sin=np.sin,
            cosh=np.cosh,
            stack=lambda parts: np.stack(parts, -1),
            constant=lambda value, like: np.asarray(value, like.dtype),
        )
        return _flat(self, xp, self.theta, t, x)


class _Numpy(Framework):
    def field(self, form: ClosedForm, dtype: str) -> _NumpyField:
        return _NumpyField(form, dtype)

    def array(self, values: Rows, dtype: str) -> Any:
        return values.astype(dtype)

    def numpy(self, array: Any) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def gradient(self, form: ClosedForm, log_prob_of: Callable[[Any], Any], x: Any) -> float:
        raise NotImplementedError("numpy differentiates nothing")


class _Torch(Framework):
    def __init__(self) -> None:
        import torch

        self.torch = torch
        xp = SimpleNamespace(
            cos=torch.cos,
            sin=torch.sin,
            cosh=torch.cosh,
            stack=lambda parts: torch.stack(parts, -1),
            constant=lambda value, like: torch.as_tensor(
                value, dtype=like.dtype, device=like.device
            ),
        )

        class Field(torch.nn.Module):
            """A field of the kit."""

            def __init__(self, form: ClosedForm, dtype: str) -> None:
                super().__init__()
                self.form, self.end_time, self.shape = form, form.end_time, form.shape
                self.dtype = getattr(torch, dtype)
                self.theta = torch.nn.Parameter(torch.tensor(form.theta, dtype=self.dtype))

            def forward(self, t: Any, x: Any) -> Any:
                # A solver that works in another precision is shown by its results, not refused.
                return _flat(self, xp, self.theta.to(x.dtype), t, x)

        self._field = Field

    def field(self, form: ClosedForm, dtype: str) -> Any:
        return self._field(form, dtype)

    def array(self, values: Rows, dtype: str) -> Any:
        return self.torch.tensor(values, dtype=getattr(self.torch, dtype))

    def numpy(self, array: Any) -> np.ndarray[Any, Any]:
        return np.asarray(array.detach().cpu().numpy())

    def gradient(self, form: ClosedForm, log_prob_of: Callable[[Any], Any], x: Any) -> float:
        field = self.field(form, "float64")
        total = log_prob_of(field)(x).sum()
        if not total.requires_grad:
            raise ValueError("log p is cut off from the parameter: it has no gradient")
        (gradient,) = self.torch.autograd.grad(total, [field.theta], allow_unused=True)
        if gradient is None:
            raise ValueError("log p is cut off from the parameter: its gradient is None")
        return float(gradient)


class _Jax(Framework):
    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp

        self.jax, self.jnp = jax, jnp
        xp = SimpleNamespace(
            cos=jnp.cos,
            sin=jnp.sin,
            cosh=jnp.cosh,
            stack=lambda parts: jnp.stack(parts, -1),
            constant=lambda value, like: jnp.asarray(value, like.dtype),
        )

        class Field:
            """A field of the kit: a pytree whose one leaf is theta."""

            def __init__(self, theta: Any, form: ClosedForm, dtype: str) -> None:
                self.form, self.end_time, self.shape = form, form.end_time, form.shape
                self.dtype, self.theta = jnp.dtype(dtype), theta

            def __call__(self, t: Any, x: Any) -> Any:
                return _flat(self, xp, jnp.asarray(self.theta, x.dtype), t, x)

        jax.tree_util.register_pytree_node(
            Field,
            lambda field: ((field.theta,), _Same((field.form, str(field.dtype)))),
            lambda rest, leaves: Field(leaves[0], *rest.value),
        )
        self._field = Field

    def field(self, form: ClosedForm, dtype: str) -> Any:
        return self._field(self.jnp.asarray(form.theta, dtype), form, dtype)

    def array(self, values: Rows, dtype: str) -> Any:
        return self.jnp.asarray(values, dtype)

    def numpy(self, array: Any) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def gradient(self, form: ClosedForm, log_prob_of: Callable[[Any], Any], x: Any) -> float:
        def total(theta: Any) -> Any:
            return log_prob_of(self._field(theta, form, "float64"))(x).sum()

        return float(self.jax.grad(total)(self.jnp.asarray(form.theta, "float64")))

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Lets jax have float64 while the kit runs."""
        settings: Any = self.jax.config
        before = settings.jax_enable_x64
        settings.update("jax_enable_x64", True)
        try:
            yield
        finally:
            settings.update("jax_enable_x64", before)


class _Same:
    """Compares and hashes by identity of the form: arrays in it have no hash."""

    def __init__(self, value: tuple[ClosedForm, str]) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and (
            self.value[0] is other.value[0] and self.value[1] == other.value[1]
        )

    def __hash__(self) -> int:
        return hash((id(self.value[0]), self.value[1]))


FRAMEWORKS: dict[str, Callable[[], Framework]] = {"jax": _Jax, "numpy": _Numpy, "torch": _Torch}
