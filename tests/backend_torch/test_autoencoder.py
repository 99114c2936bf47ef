"""The nets of the autoencoder against PyTorch's modules, and its likelihoods by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness_torch.autoencoder import Autoencoder, log_normal
from torch import Tensor, nn

from harness.architecture.arrays import initial_arrays
from harness.architecture.autoencoder import amortized_sizes
from harness.architecture.transforms import Shape, blocks_of
from harness.interface import DataInfo, Likelihood
from harness.trial import AdaptiveSolver, DatasetRef, ModelSpec, Posterior, Trial

LATENT = 4


def _autoencoder(
    event_shape: Shape, likelihood: Likelihood
) -> tuple[Autoencoder, dict[str, Tensor]]:
    data = DataInfo("none", event_shape, likelihood)
    posterior = Posterior(LATENT, "low_rank", rank=2)
    model = ModelSpec("concat", (5,), blocks=2, posterior=posterior)
    trial = Trial(
        DatasetRef("none", "none"),
        "torch",
        AdaptiveSolver("dopri5"),
        model,
        precision="float64",
    )
    arrays = initial_arrays(trial, data)
    found = {name: torch.tensor(value) for name, value in arrays.items()}
    return Autoencoder(model, blocks_of(model, event_shape), data), found


def _gated(arrays: dict[str, Tensor], prefix: str, module: nn.Module, h: Tensor) -> Tensor:
    """A gated layer by PyTorch's own module, whose transposed kernels are [in, out, k, k]."""
    results = []
    for gate in ("", "gate_"):
        weight = arrays[f"{prefix}/{gate}weight"]
        turned = weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight
        state = {"weight": turned, "bias": arrays[f"{prefix}/{gate}bias"]}
        results.append(torch.func.functional_call(module, state, (h,)))
    gated: Tensor = results[0] * torch.sigmoid(results[1])
    return gated


def test_encoder_is_the_published_one(rng_torch: torch.Generator) -> None:
    net, arrays = _autoencoder((1, 28, 20), "categorical")
    x = torch.rand(3, 1, 28, 20, generator=rng_torch, dtype=torch.float64)
    modules = [
        nn.Conv2d(1, 32, 5, 1, 2),
        nn.Conv2d(32, 32, 5, 2, 2),
        nn.Conv2d(32, 64, 5, 1, 2),
        nn.Conv2d(64, 64, 5, 2, 2),
        nn.Conv2d(64, 64, 5, 1, 2),
        nn.Conv2d(64, 256, (7, 5)),
    ]
    h = x
    for index, module in enumerate(modules):
        h = _gated(arrays, f"encoder/layer{index}", module, h)
    h = h.reshape(3, 256)
    found = net.encode(arrays, x)
    mean = h @ arrays["encoder/mean/weight"].T + arrays["encoder/mean/bias"]
    raw = h @ arrays["encoder/variance/weight"].T + arrays["encoder/variance/bias"]
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variance, torch.log1p(raw.exp()).clamp(0.01, 7))
    posterior = net.model.posterior
    assert posterior is not None
    sizes = [sum(amortized_sizes(posterior, block)) for block in net.blocks]
    assert [None if c is None else c.shape for c in found.conditions] == [(3, n) for n in sizes]


def test_decoder_is_the_published_one(rng_torch: torch.Generator) -> None:
    net, arrays = _autoencoder((1, 28, 28), "bernoulli")
    z = torch.randn(2, LATENT, generator=rng_torch, dtype=torch.float64)
    modules = [
        nn.ConvTranspose2d(LATENT, 64, 7),
        nn.ConvTranspose2d(64, 64, 5, 1, 2),
        nn.ConvTranspose2d(64, 32, 5, 2, 2, 1),
        nn.ConvTranspose2d(32, 32, 5, 1, 2),
        nn.ConvTranspose2d(32, 32, 5, 2, 2, 1),
        nn.ConvTranspose2d(32, 32, 5, 1, 2),
    ]
    h = z[:, :, None, None]
    for index, module in enumerate(modules):
        h = _gated(arrays, f"decoder/layer{index}", module, h)
    weight, bias = arrays["decoder/head0/weight"], arrays["decoder/head0/bias"]
    expected = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], h) + bias[:, None, None]
    found = net.decode(arrays, z)
    assert found.shape == (2, 1, 28, 28)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(net.picture(found), 1 / (1 + torch.exp(-expected)))


def test_bernoulli_likelihood_by_hand() -> None:
    net, _ = _autoencoder((1, 4, 4), "bernoulli")
    logits = torch.linspace(-2, 2, 32, dtype=torch.float64).reshape(2, 1, 4, 4)
    x = (torch.arange(32).reshape(2, 1, 4, 4) % 3 == 0).double()
    p = 1 / (1 + torch.exp(-logits))
    expected = -(x * p.log() + (1 - x) * (1 - p).log()).sum(dim=(1, 2, 3))
    torch.testing.assert_close(net.reconstruction(logits, x), expected)


def test_categorical_likelihood_by_hand(rng_torch: torch.Generator) -> None:
    net, arrays = _autoencoder((1, 4, 4), "categorical")
    z = torch.randn(2, LATENT, generator=rng_torch, dtype=torch.float64)
    logits = net.decode(arrays, z)
    assert logits.shape == (2, 256, 1, 4, 4)
    levels = torch.arange(32).reshape(2, 1, 4, 4) * 8
    expected = torch.zeros(2, dtype=torch.float64)
    for b, i, j in np.ndindex(2, 4, 4):
        column = logits[b, :, 0, i, j]
        expected[b] += column.exp().sum().log() - column[levels[b, 0, i, j]]
    # In float32 a level / 255 times 255 may fall just below the level: it is rounded.
    x = (levels.float() / 255).double()
    torch.testing.assert_close(net.reconstruction(logits, x), expected)
    torch.testing.assert_close(net.picture(logits), logits.argmax(dim=1).double() / 255)


def test_log_normal_by_hand() -> None:
    z, mean = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.0]])
    variance = torch.tensor([[0.25, 4.0]])
    terms = (2 * torch.pi * variance).log() / 2 + (z - mean).square() / (2 * variance)
    torch.testing.assert_close(log_normal(z, mean, variance), -terms.sum(dim=1))


def test_plain_dynamics_get_nothing() -> None:
    posterior = Posterior(LATENT, "plain")
    model = ModelSpec("concat", (5,), posterior=posterior)
    data = DataInfo("none", (1, 4, 4), "bernoulli")
    trial = Trial(DatasetRef("none", "none"), "torch", AdaptiveSolver("dopri5"), model)
    arrays = {k: torch.tensor(v) for k, v in initial_arrays(trial, data).items()}
    nets = Autoencoder(model, blocks_of(model, data.event_shape), data)
    found = nets.encode(arrays, torch.zeros(2, 1, 4, 4))
    assert found.conditions == [None]


def test_the_latent_is_the_posteriors() -> None:
    with pytest.raises(ValueError, match="no autoencoder"):
        _ = Autoencoder(ModelSpec(), (), DataInfo("none", (1, 4, 4), "bernoulli")).latent
