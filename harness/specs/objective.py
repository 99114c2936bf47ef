"""What training lowers: the negative log-likelihood, or the loss of flow matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from harness.specs.bounds import STRICT, Bound

__all__ = [
    "CouplingName",
    "FlowMatching",
    "MaximumLikelihood",
    "ObjectiveName",
    "ObjectiveSpec",
    "PathName",
]

ObjectiveName = Literal["flow_matching", "likelihood"]
PathName = Literal["linear", "trigonometric", "vp"]
CouplingName = Literal["independent", "minibatch_ot"]


@dataclass(frozen=True)
class MaximumLikelihood:
    """The negative log-likelihood of the batch, or the negative ELBO of an autoencoder."""

    __pydantic_config__ = STRICT

    name: Literal["likelihood"] = "likelihood"


@dataclass(frozen=True)
class FlowMatching:
    """The squared distance of the velocity from that of paths between rows and base samples.

    It solves no ODE in training; validation and test are by likelihood (docs/numerics.md).

    Arguments:
        path: How a row x becomes a base sample e: y(s) = alpha(s) x + sigma(s) e, s in [0, 1].
        coupling: Which e a row gets: its own, or that of the optimal assignment of the batch.
        sigma_min: Of the path `linear`: what is left of e at the row, sigma(0).
    """

    __pydantic_config__ = STRICT

    path: PathName = "linear"
    coupling: CouplingName = "independent"
    sigma_min: Annotated[float, Bound(at_least=0, at_most=0.5)] = 0.0
    name: Literal["flow_matching"] = "flow_matching"


ObjectiveSpec = MaximumLikelihood | FlowMatching
