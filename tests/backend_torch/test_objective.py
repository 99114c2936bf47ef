"""The autoencoder with a flow in its posterior: dynamics of each example, ELBO, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from harness_torch.field import Augmented
from harness_torch.model import TorchModel
from harness_torch.net.net import Net
from torch import Tensor

from harness.architecture.arrays import initial_arrays
from harness.architecture.autoencoder import amortized_sizes
from harness.architecture.noise import draw, noise_slots
from harness.architecture.transforms import Block, blocks_of
from harness.interface import Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    FixedSolver,
    GradientName,
    ModelSpec,
    Posterior,
    Training,
    Trial,
)

IMAGE = (1, 4, 4)
LATENT, SIZE = 3, 4


def make_trial(amortization: Any = "low_rank", **changes: Any) -> Trial:  # noqa: ANN401
    """Two blocks over three latent dimensions, in float64."""
    posterior = Posterior(LATENT, amortization, rank=2)
    trial = Trial(
        DatasetRef("none", "none"),
        "torch",
        AdaptiveSolver("dopri5", rtol=1e-9, atol=1e-9),
        ModelSpec("concat", (4, 5), "tanh", blocks=2, posterior=posterior),
        training=Training(trace="exact"),
        precision="float64",
        gradient="direct",
    )
    return replace(trial, **changes)


def _inputs(trial: Trial, purpose: Any = "train") -> tuple[Batch, Control]:  # noqa: ANN401
    x = np.round(Stream(1, "x").uniform((SIZE, *IMAGE)))
    noise = draw(noise_slots(trial, IMAGE, purpose, SIZE), 0, 0, "float64")
    trace = trial.training.trace if purpose == "train" else trial.evaluation.trace
    return Batch(x, noise), Control(trial.solver, trace, trial.gradient, lr=1e-3, kl_weight=0.7)


def _open(trial: Trial, likelihood: Any = "bernoulli") -> TorchModel:  # noqa: ANN401
    return TorchModel(trial, DataInfo("none", IMAGE, likelihood), "cpu")


def _conditioned_net(
    amortization: str, condition: Tensor
) -> tuple[Net, ModelSpec, Block, dict[str, Tensor]]:
    trial = make_trial(amortization)
    block = blocks_of(trial.model, IMAGE)[0]
    arrays = {
        name.removeprefix("block0/"): torch.tensor(value)
        for name, value in initial_arrays(trial, DataInfo("none", IMAGE)).items()
        if name.startswith("block0/layer")
    }
    arrays["condition"] = condition
    return Net(trial.model, block, arrays), trial.model, block, arrays


def _sizes(amortization: str) -> tuple[int, ...]:
    trial = make_trial(amortization)
    block = blocks_of(trial.model, IMAGE)[0]
    assert trial.model.posterior is not None
    return amortized_sizes(trial.model.posterior, block)


def _by_hand(
    amortization: str, arrays: dict[str, Tensor], condition: Tensor, t: Tensor, z: Tensor
) -> Tensor:
    """One example at a time, as the docstring of `amortized_sizes` says it."""
    found = []
    for row, h in zip(condition, z, strict=True):
        parts, widths = torch.split(row, list(_sizes(amortization))), [LATENT, 4, 5, LATENT]
        for index, part in enumerate(parts):
            inside, out = widths[index], widths[index + 1]
            with_time = torch.cat([t.view(1), h])
            if amortization == "hyper":
                h = with_time @ part[out:].view(inside + 1, out) + part[:out]
            else:
                weight, bias = arrays[f"layer{index}/weight"], arrays[f"layer{index}/bias"]
                new = weight @ with_time + bias
                if amortization == "bias":
                    new = new + part
                elif amortization == "low_rank":
                    U, V = part[: 2 * inside].view(inside, 2), part[2 * inside : -out].view(2, out)
                    new = new + h @ U @ V + part[-out:]
                h = new
            if index < 2:
                h = torch.tanh(h)
        found.append(h)
    return torch.stack(found)


@pytest.mark.parametrize("amortization", ["plain", "bias", "low_rank", "hyper"])
def test_dynamics_of_each_example(amortization: str, rng_torch: torch.Generator) -> None:
    total = sum(_sizes(amortization))
    condition = torch.randn(SIZE, total, generator=rng_torch, dtype=torch.float64)
    z = torch.randn(SIZE, LATENT, generator=rng_torch, dtype=torch.float64)
    t = torch.tensor(0.3, dtype=torch.float64)
    net, _, _, arrays = _conditioned_net(amortization, condition)
    expected = _by_hand(amortization, arrays, condition, t, z)
    torch.testing.assert_close(net.value(t, z), expected)
    point = net.at(t, z)
    torch.testing.assert_close(point.f, expected)

    def one(row: Tensor, state: Tensor) -> Tensor:
        return _by_hand(amortization, arrays, row[None], t, state[None])[0]

    jacobians = torch.stack(
        [
            torch.func.jacrev(lambda s, r=row: one(r, s))(state)
            for row, state in zip(condition, z, strict=True)
        ]
    )
    v = torch.randn(SIZE, LATENT, generator=rng_torch, dtype=torch.float64)
    torch.testing.assert_close(point.jacobian(), jacobians)
    torch.testing.assert_close(point.diagonal(), jacobians.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(point.tangent(v), torch.einsum("bij,bj->bi", jacobians, v))
    torch.testing.assert_close(point.cotangent(v), torch.einsum("bij,bi->bj", jacobians, v))


@pytest.mark.parametrize("amortization", ["bias", "hyper"])
def test_taylor_coefficients_of_each_example(
    amortization: str, rng_torch: torch.Generator
) -> None:
    """taylor_3 looks at d^3 z / dt^3: nested forward mode of the hand-written net."""
    total = sum(_sizes(amortization))
    condition = torch.randn(SIZE, total, generator=rng_torch, dtype=torch.float64)
    z = torch.randn(SIZE, LATENT, generator=rng_torch, dtype=torch.float64)
    _, model, block, arrays = _conditioned_net(amortization, condition)
    from harness_torch.solve.problem import Inputs

    one, zero = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    field = Augmented(model, block, "exact", ("taylor_3",))
    t = torch.tensor(0.3, dtype=torch.float64)
    _, rates = field(Inputs(arrays, one, None, zero, one), t, z)

    def f(t: Tensor, z: Tensor) -> Tensor:
        return _by_hand(amortization, arrays, condition, t, z)

    def along(g: Any) -> Any:  # noqa: ANN401
        return lambda t, z: torch.func.jvp(g, (t, z), (torch.ones_like(t), f(t, z)))[1]

    expected = along(along(f))(t, z).square().mean(dim=1)
    torch.testing.assert_close(rates[1], expected)


@pytest.mark.parametrize("mode", [m for m in get_args(GradientName) if m != "auto"])
@pytest.mark.parametrize("amortization", ["plain", "low_rank", "hyper"])
def test_gradient_matches_differences(amortization: str, mode: Any) -> None:  # noqa: ANN401
    trial = make_trial(amortization, gradient=mode)
    if mode != "adjoint":
        trial = replace(trial, solver=FixedSolver("rk4_38", 3))
    batch, control = _inputs(trial)
    model = _open(trial)
    start = model.arrays()
    assert model.train_step(batch, control).fetch().failure is None
    gradient = {
        k.removeprefix("adam/m/"): 10 * v
        for k, v in model.state().items()
        if k.startswith("adam/m/")
    }
    assert any(k.startswith("encoder/") for k in gradient)
    direction = {k: Stream(5, k).normal(v.shape) for k, v in gradient.items()}
    h, losses = 1e-5, []
    for sign in (1, -1):
        moved = _open(trial)
        moved.load_arrays(start | {k: start[k] + sign * h * v for k, v in direction.items()})
        losses.append(moved.train_step(batch, control).fetch().loss)
    along = sum(float(np.sum(gradient[k] * v)) for k, v in direction.items())
    scale = np.sqrt(sum(float(np.sum(v * v)) for v in gradient.values()))
    assert abs(along - (losses[0] - losses[1]) / (2 * h)) < 1e-6 * scale


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_the_elbo_is_put_together_from_its_terms(likelihood: Any) -> None:  # noqa: ANN401
    trial = make_trial()
    model = _open(trial, likelihood)
    batch, control = _inputs(trial)
    loss = model.train_step(batch, replace(control, lr=1e-12)).fetch().loss
    report = model.evaluate(batch, control, ("elbo_terms", "reconstruct"))
    rec = report.values["elbo_terms/reconstruction"]
    kl = report.values["elbo_terms/kl"]
    assert rec.shape == kl.shape == (SIZE,)
    assert float(np.mean(rec + 0.7 * kl)) == pytest.approx(loss, rel=1e-9)
    picture = report.values["reconstruct"]
    assert picture.shape == (SIZE, *IMAGE)
    if likelihood == "bernoulli":
        p = np.where(batch.x == 1, picture, 1 - picture)
        np.testing.assert_allclose(-np.log(p).sum(axis=(1, 2, 3)), rec)
    else:
        np.testing.assert_array_equal(picture * 255, np.round(picture * 255))
    alone = model.evaluate(batch, control, ("reconstruct",))
    np.testing.assert_allclose(alone.values["reconstruct"], picture, atol=1e-6)


def test_the_kl_of_a_flow_that_stands_still_is_the_gaussians() -> None:
    """With zero dynamics z = z0 and a = 0, so the mean over draws tends to the closed form; here
    the per-draw formula is checked.
    """
    trial = make_trial("plain")
    model = _open(trial)
    arrays = model.arrays()
    zeros = {k: np.zeros_like(v) for k, v in arrays.items() if k.startswith("block")}
    model.load_arrays(arrays | {k: v for k, v in zeros.items() if "end_time" not in k})
    batch, control = _inputs(trial)
    kl = model.evaluate(batch, control, ("elbo_terms",)).values["elbo_terms/kl"]
    nets: Any = model._objective
    encoding = nets.nets.encode(nets.arrays, torch.tensor(batch.x))
    draws = torch.tensor(batch.noise["posterior"])
    z0 = encoding.mean + encoding.variance.sqrt() * draws
    expected = 0.5 * (z0.square() - draws.square() - encoding.variance.log()).sum(dim=1)
    np.testing.assert_allclose(kl, expected.detach().numpy(), atol=1e-12)


def test_samples_are_decoded_base_samples() -> None:
    trial = make_trial()
    model = _open(trial)
    slots = noise_slots(trial, IMAGE, "sample", 6)
    noise = draw(slots, 0, 0, "float64")
    report = model.sample(Batch(np.empty((0, *IMAGE)), noise), Control(trial.solver, "exact"))
    assert report.values["sample"].shape == (6, *IMAGE)
    assert ((report.values["sample"] > 0) & (report.values["sample"] < 1)).all()
    assert report.nfe.forward == (0, 0)
