"""What is trained and measured: the density of a flow, or the negative ELBO of an autoencoder
whose posterior is a flow (FFJORD, section 4.3):
-log p(x | z) + log q(z0 | x) + a - log N(z; 0, I), z0 ~ q(z0 | x), z and a by the flow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from harness.architecture.transforms import Shape
from harness.errors import BackendError
from harness.interface import Quantity
from harness.trial import TraceName
from harness_torch.autoencoder import Autoencoder, log_normal
from harness_torch.flow import Flow, Terms, log_standard_normal
from harness_torch.noise import Noise
from harness_torch.solve.blocks import BlockCounts
from harness_torch.solve.engines import FirstSteps, How

__all__ = ["Density", "Elbo", "Objective", "Options", "Values"]

Values = dict[str, Tensor]


class Options(NamedTuple):
    """How a call goes through the flow; see `Flow.terms`."""

    trace: TraceName | None
    how: How
    first: Sequence[FirstSteps] = ()
    draws: int = 1
    training: bool = False
    regularize: bool = False
    log_volume: Tensor | None = None


class Objective(Protocol):
    """What a model makes of its data; x is [batch, *event_shape]."""

    def loss(
        self, x: Tensor, noise: Noise, options: Options, kl_weight: float
    ) -> tuple[Tensor, Terms]:
        """What training lowers, [batch], regularizers apart, and the end of the flow. In nats,
        but for flow matching (`harness_torch.matching`).
        """

    def values(
        self, x: Tensor, noise: Noise, options: Options, quantities: Collection[Quantity]
    ) -> tuple[Values, Terms]:
        """Per-example quantities by name."""

    def sample(
        self, base: Tensor, noise: Noise, options: Options
    ) -> tuple[Values, list[BlockCounts]]:
        """From base samples [n, D] `sample`, [n, *event_shape], and with a trace `log_prob`."""


@dataclass(frozen=True)
class Density:
    """The density of a flow.

    Arguments:
        flow: The flow.
        event_shape: Shape of an example.
    """

    flow: Flow
    event_shape: Shape

    def loss(
        self, x: Tensor, noise: Noise, options: Options, kl_weight: float
    ) -> tuple[Tensor, Terms]:
        """See `Objective.loss`."""
        terms = self.flow.terms(self._rows(x), noise, **options._asdict())
        return terms.a - log_standard_normal(terms.z), terms

    def values(
        self, x: Tensor, noise: Noise, options: Options, quantities: Collection[Quantity]
    ) -> tuple[Values, Terms]:
        """See `Objective.values`; `encode` alone integrates z alone."""
        if set(quantities) <= {"encode"}:
            options = options._replace(trace=None)
        terms = self.flow.terms(self._rows(x), noise, **options._asdict())
        values: Values = {}
        if "log_prob" in quantities:
            values["log_prob"] = log_standard_normal(terms.z) - terms.a
        if "encode" in quantities:
            values["encode"] = terms.z.view(-1, *self.event_shape)
        return values, terms

    def sample(
        self, base: Tensor, noise: Noise, options: Options
    ) -> tuple[Values, list[BlockCounts]]:
        """See `Objective.sample`."""
        x, a, counts = self.flow.inverse(base, noise, options.trace, options.how, options.draws)
        values: Values = {"sample": x.view(-1, *self.event_shape)}
        if options.trace is not None:
            values["log_prob"] = log_standard_normal(base) - a
        return values, counts

    def _rows(self, x: Tensor) -> Tensor:
        return x.view(len(x), *self.flow.shape)


class _Parts(NamedTuple):
    """-log p(x | z) and log q(z0 | x) + a - log N(z; 0, I), [batch]; the decoder's logits; and the
    end of the flow.
    """

    reconstruction: Tensor
    kl: Tensor
    logits: Tensor
    terms: Terms


@dataclass(frozen=True)
class Elbo:
    """The negative ELBO of an autoencoder.

    Arguments:
        flow: The flow over the latent.
        nets: Encoder, decoder, likelihood.
        arrays: All arrays by portable name.
    """

    flow: Flow
    nets: Autoencoder
    arrays: Mapping[str, Tensor]

    def loss(
        self, x: Tensor, noise: Noise, options: Options, kl_weight: float
    ) -> tuple[Tensor, Terms]:
        """See `Objective.loss`."""
        parts = self._parts(x, noise, options)
        return parts.reconstruction + kl_weight * parts.kl, parts.terms

    def values(
        self, x: Tensor, noise: Noise, options: Options, quantities: Collection[Quantity]
    ) -> tuple[Values, Terms]:
        """See `Objective.values`; `reconstruct` alone integrates z alone."""
        if set(quantities) <= {"reconstruct"}:
            options = options._replace(trace=None)
        parts = self._parts(x, noise, options)
        values: Values = {}
        if "elbo_terms" in quantities:
            values["elbo_terms/reconstruction"] = parts.reconstruction
            values["elbo_terms/kl"] = parts.kl
        if "reconstruct" in quantities:
            values["reconstruct"] = self.nets.picture(parts.logits)
        return values, parts.terms

    def sample(
        self, base: Tensor, noise: Noise, options: Options
    ) -> tuple[Values, list[BlockCounts]]:
        """See `Objective.sample`; the flow, a posterior, takes no part."""
        if options.trace is not None:
            raise BackendError("samples of an autoencoder have no log-density")
        none = [BlockCounts() for _ in range(self.flow.blocks)]
        return {"sample": self.nets.picture(self.nets.decode(self.arrays, base))}, none

    def _parts(self, x: Tensor, noise: Noise, options: Options) -> _Parts:
        """Encodes, transports and decodes."""
        if noise.posterior is None:
            raise BackendError("the batch has no noise 'posterior', but an autoencoder needs it")
        encoding = self.nets.encode(self.arrays, x)
        z0 = encoding.mean + encoding.variance.sqrt() * noise.posterior
        terms = self.flow.terms(z0, noise, conditions=encoding.conditions, **options._asdict())
        log_q = log_normal(z0, encoding.mean, encoding.variance)
        logits = self.nets.decode(self.arrays, terms.z)
        kl = log_q + terms.a - log_standard_normal(terms.z)
        return _Parts(self.nets.reconstruction(logits, x), kl, logits, terms)
