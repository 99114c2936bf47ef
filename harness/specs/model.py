"""What a trial trains: the flow, its net and its posterior."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from harness.specs.bounds import STRICT, Bound, Count, Positive

__all__ = [
    "BatchNorm",
    "EndTime",
    "LayerName",
    "ModelSpec",
    "NonlinearityName",
    "Posterior",
]

LayerName = Literal[
    "blend",
    "concat",
    "concat_v2",
    "concatcoord",
    "concatsquash",
    "hyper",
    "ignore",
    "squash",
]
NonlinearityName = Literal["elu", "identity", "relu", "softplus", "square", "swish", "tanh"]


@dataclass(frozen=True)
class EndTime:
    """The end of the integration interval [0, T] of each block.

    `fixed`: T is a constant. `inert`: T is stored and counted as a parameter but receives no
    gradient, as in the released FFJORD code. `trained`: its square root is trained.
    """

    __pydantic_config__ = STRICT

    value: Positive = 1.0
    mode: Literal["fixed", "inert", "trained"] = "fixed"


@dataclass(frozen=True)
class BatchNorm:
    """Moving batch norm before the first block and after every block (FFJORD's released code).

    Arguments:
        lag: Share of the running statistics in what a training step normalises by. 0 means, as
            released, the running statistics alone, before their update.
        decay: Rate at which the running statistics follow the batch.
    """

    __pydantic_config__ = STRICT

    lag: Annotated[float, Bound(at_least=0, at_most=0.999)] = 0.0
    decay: Annotated[float, Bound(above=0, at_most=1)] = 0.1


@dataclass(frozen=True)
class Posterior:
    """Makes the model a variational autoencoder whose posterior is the flow
    (`harness.architecture.autoencoder`): q(z0 | x) is a Gaussian, and the flow takes z0 to z.

    Arguments:
        latent: Dimension of z.
        amortization: What an example gives to the dynamics: nothing, biases, biases and a change
            of low rank to every weight, or all weights.
        rank: Of `low_rank`.
        nonlinear_output: Of `hyper`: the nonlinearity comes after the last layer, too, as in
            FFJORD's released code.
    """

    __pydantic_config__ = STRICT

    latent: Count = 64
    amortization: Literal["bias", "hyper", "low_rank", "plain"] = "low_rank"
    rank: Count = 64
    nonlinear_output: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """The flow: `blocks` stacked ODE blocks, each with a net for its dynamics.

    Arguments:
        layer: How a layer sees the time.
        hidden: Widths of the hidden layers, channels of a convolutional net; the outer ones are
            the data's.
        nonlinearity: Between the layers, never after the last.
        blocks: Number of stacked blocks ("flow steps" in the paper); in a multiscale model, before
            each squeeze and after it.
        end_time: End of each block's integration interval.
        strides: One a layer, `len(hidden) + 1` of them: 1 (3x3), 2 (4x4, halves the image) or -2
            (4x4 transposed, doubles it); null means layers that are not convolutional.
        scales: More than 1 means a multiscale model: at each scale but the last blocks, squeeze,
            blocks, then half of the channels leave; at the last, blocks.
        residual: dz/dt = net(t, z) - z.
        batch_norm: Moving batch norm between the blocks.
        spectral_norm: Every weight is divided by its largest singular value.
        zero_last: The last layer of each net starts at zero.
        posterior: The flow is the posterior of a variational autoencoder.
    """

    __pydantic_config__ = STRICT

    layer: LayerName = "concatsquash"
    hidden: tuple[Count, ...] = (64, 64, 64)
    nonlinearity: NonlinearityName = "tanh"
    blocks: Count = 1
    end_time: EndTime = field(default_factory=EndTime)
    strides: tuple[Literal[-2, 1, 2], ...] | None = None
    scales: Count = 1
    residual: bool = False
    batch_norm: BatchNorm | None = None
    spectral_norm: bool = False
    zero_last: bool = False
    posterior: Posterior | None = None
