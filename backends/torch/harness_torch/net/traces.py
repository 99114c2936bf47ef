"""Hutch++, a variance-reduced estimate of a trace (R. Meyer, C. Musco, C. Musco, D. Woodruff,
Hutch++: optimal stochastic trace estimation, 2021, https://arxiv.org/abs/2010.09649, algorithm 1).

With Q an orthonormal basis of the space of J S and P = I - Q Q^T the estimate is
Tr(Q^T J Q) + mean over g of (P g)^T J (P g), g independent of S. Its mean over g is the trace
whatever Q is, so Q is held fixed in the gradient: that is an unbiased estimate of the gradient of
the trace, and needs no derivative of the basis, which J of low rank does not have.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["hutch_plus_plus"]


def hutch_plus_plus(product: Callable[[Tensor], Tensor], probes: Tensor) -> Tensor:
    """The estimate for each example, [batch], with 3 k products.

    Arguments:
        product: v -> J v, both [vectors, batch, *shape].
        probes: The k vectors of S, then the k vectors g, [2 k, batch, *shape].
    """
    sketch, rest = probes.chunk(2)
    with torch.no_grad():
        basis = _orthonormal(product(sketch).flatten(2))
        g = rest.flatten(2)
        along = torch.einsum("ibd,jbd->ijb", basis, g)
        left = g - torch.einsum("ijb,ibd->jbd", along, basis)
        vectors = torch.cat([basis, left])
    products = product(vectors.view(probes.shape)).flatten(2)
    within, beside = (vectors * products).sum(dim=2).chunk(2)
    return within.sum(dim=0) + beside.mean(dim=0)


def _orthonormal(vectors: Tensor) -> Tensor:
    """An orthonormal basis of the space of the vectors of each example, [k, batch, D]; a zero in
    the place of a vector that the ones before it span, to half of the digits.

    Gram and Schmidt's way, each vector twice, which is enough (W. Kahan, in B. Parlett, The
    symmetric eigenvalue problem, 1980, 6.9).
    """
    tolerance = torch.finfo(vectors.dtype).eps ** 0.5
    basis: list[Tensor] = []
    for vector in vectors:
        rest = vector
        for other in basis * 2:
            rest = rest - (rest * other).sum(dim=1, keepdim=True) * other
        size = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
        new = size > tolerance * torch.linalg.vector_norm(vector, dim=1, keepdim=True)
        basis.append(torch.where(new, rest / torch.where(new, size, 1), 0))
    return torch.stack(basis)
