"""Taylor arithmetic through the field: its derivatives in time, along a path or at a fixed state.

With z(t + d) = sum_k z_k d^k, coefficient f_k of f(t + d, z(t + d)) needs z_0..z_k alone; so the
coefficients of a solution of z' = f follow one by one, z_{k+1} = f_k / (k + 1), and each costs one
pass (A. Griewank, A. Walther: Evaluating derivatives, 2nd edition, 2008, chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from harness_torch.net.affine import Term
from harness_torch.net.linearization import Linearization

__all__ = ["Jet"]


class Jet:
    """Taylor coefficients in time of the field about a point.

    Arguments:
        point: The field there; its coefficients of order 0.
        terms: Coefficients 1, 2... of its layers, by order.
    """

    def __init__(self, point: Linearization, terms: Sequence[Sequence[Term]]) -> None:
        self._point, self._terms = point, terms
        self._inputs = [[h] for h in point.inputs]
        self._outputs = [[x] for x in point.outputs]

    def push(self, z: Tensor) -> Tensor:
        """Takes the next coefficient of the state and returns that of f, [batch, *shape]."""
        h, last = z, len(self._inputs) - 1
        for index in range(last + 1):
            self._inputs[index].append(h)
            x = self._output(index)
            self._outputs[index].append(x)
            if index < last:
                h = self._point.act.series(self._outputs[index], self._inputs[index + 1])
        return self._point.less(x, z)

    def _output(self, index: int) -> Tensor:
        """The newest coefficient of A(t) h(t) + c(t)."""
        inputs = self._inputs[index]
        order = len(inputs) - 1
        total = self._point.layers[index].tangent(inputs[order])
        for k in range(1, order + 1):
            matrix, shift = self._terms[k - 1][index]
            if matrix is not None:
                total = total + matrix.tangent(inputs[order - k])
            if shift is not None and k == order:
                total = total + shift
        return total
