"""What is trained and measured: the density of a flow, or the negative ELBO of an autoencoder
whose posterior is a flow (FFJORD, section 4.3):
-log p(x | z) + log q(z0 | x) + a - log N(z; 0, I), z0 ~ q(z0 | x), z and a by the flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from harness.architecture.noise import POSTERIOR
from harness.architecture.transforms import Shape
from harness.errors import BackendError
from harness.trial import TraceName
from harness_jax.autoencoder import Autoencoder, log_normal
from harness_jax.flow import Flow, Terms, log_standard_normal
from harness_jax.solve.counts import Stats
from harness_jax.solve.engines import FirstSteps, How

__all__ = ["Density", "Elbo", "Objective", "Options", "Stacked", "Values"]

Stacked = Mapping[str, jax.Array]
Values = dict[str, jax.Array]


class Options(NamedTuple):
    """How a call goes through the flow; see `Flow.terms`."""

    trace: TraceName | None
    how: How
    first: FirstSteps | None = None
    draws: int = 1
    training: bool = False
    regularize: bool = False
    log_volume: jax.Array | None = None


class Objective(Protocol):
    """What a model makes of its data; x is [batch, *event_shape]."""

    @property
    def flow(self) -> Flow:
        """The flow."""

    def loss(
        self,
        arrays: Stacked,
        x: jax.Array,
        noise: Stacked,
        options: Options,
        kl_weight: jax.Array,
    ) -> tuple[jax.Array, Terms]:
        """What training lowers, [batch], regularizers apart, and the end of the flow. In nats,
        but for flow matching (`harness_jax.matching`).
        """

    def values(
        self, arrays: Stacked, x: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Terms]:
        """Per-example quantities by name: all that come with the density, or, without a trace,
        those that need none.
        """

    def sample(
        self, arrays: Stacked, base: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Stats | None]:
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
        self,
        arrays: Stacked,
        x: jax.Array,
        noise: Stacked,
        options: Options,
        kl_weight: jax.Array,
    ) -> tuple[jax.Array, Terms]:
        """See `Objective.loss`."""
        del kl_weight
        terms = self.flow.terms(arrays, self._rows(x), noise, **options._asdict())
        return terms.a - log_standard_normal(terms.z), terms

    def values(
        self, arrays: Stacked, x: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Terms]:
        """See `Objective.values`."""
        terms = self.flow.terms(arrays, self._rows(x), noise, **options._asdict())
        values = {"encode": terms.z.reshape(-1, *self.event_shape)}
        if options.trace is not None:
            values["log_prob"] = log_standard_normal(terms.z) - terms.a
        return values, terms

    def sample(
        self, arrays: Stacked, base: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Stats | None]:
        """See `Objective.sample`."""
        x, a, stats = self.flow.inverse(
            arrays, base, noise, options.trace, options.how, options.draws
        )
        values = {"sample": x.reshape(-1, *self.event_shape)}
        if options.trace is not None:
            values["log_prob"] = log_standard_normal(base) - a
        return values, stats

    def _rows(self, x: jax.Array) -> jax.Array:
        return x.reshape(len(x), *self.flow.shape)


@dataclass(frozen=True)
class Elbo:
    """The negative ELBO of an autoencoder.

    Arguments:
        flow: The flow over the latent.
        nets: Encoder, decoder, likelihood.
    """

    flow: Flow
    nets: Autoencoder

    def loss(
        self,
        arrays: Stacked,
        x: jax.Array,
        noise: Stacked,
        options: Options,
        kl_weight: jax.Array,
    ) -> tuple[jax.Array, Terms]:
        """See `Objective.loss`."""
        values, terms = self._parts(arrays, x, noise, options)
        return values["elbo_terms/reconstruction"] + kl_weight * values["elbo_terms/kl"], terms

    def values(
        self, arrays: Stacked, x: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Terms]:
        """See `Objective.values`."""
        values, terms = self._parts(arrays, x, noise, options)
        if options.trace is None:
            values = {"reconstruct": values["reconstruct"]}
        return values, terms

    def sample(
        self, arrays: Stacked, base: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Stats | None]:
        """See `Objective.sample`; the flow, a posterior, takes no part."""
        if options.trace is not None:
            raise BackendError("samples of an autoencoder have no log-density")
        return {"sample": self.nets.picture(self.nets.decode(arrays, base))}, None

    def _parts(
        self, arrays: Stacked, x: jax.Array, noise: Stacked, options: Options
    ) -> tuple[Values, Terms]:
        """Encodes, transports and decodes."""
        encoding = self.nets.encode(arrays, x)
        z0 = encoding.mean + jnp.sqrt(encoding.variance) * noise[POSTERIOR]
        terms = self.flow.terms(
            arrays, z0, noise, conditions=encoding.conditions, **options._asdict()
        )
        log_q = log_normal(z0, encoding.mean, encoding.variance)
        logits = self.nets.decode(arrays, terms.z)
        values = {
            "elbo_terms/reconstruction": self.nets.reconstruction(logits, x),
            "elbo_terms/kl": log_q + terms.a - log_standard_normal(terms.z),
            "reconstruct": self.nets.picture(logits),
        }
        return values, terms
