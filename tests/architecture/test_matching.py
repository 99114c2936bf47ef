"""Paths, couplings and points of flow matching, against the closed forms for a Gaussian.

Data N(m, diag s^2), independent coupling: the velocity is optimal where it is the mean rate of the
paths through a point, alpha' m + (alpha alpha' s^2 + sigma sigma') / (alpha^2 s^2 + sigma^2)
(y - alpha m), and the loss has a floor, the sum over dimensions of the integral of
s^2 (alpha sigma' - alpha' sigma)^2 / (alpha^2 s^2 + sigma^2): pi / 2 sum s for the linear path,
pi^2 / 4 sum s for the trigonometric one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.architecture.matching import VP_START, Path, matched, path_of, unmatched
from harness.architecture.noise import draw, noise_slots
from harness.conformance.oracle.solve import solve
from harness.interface import Batch
from harness.streams.stream import Stream
from harness.trial import AdaptiveSolver, DatasetRef, FixedSolver, FlowMatching, ModelSpec, Trial

Float = npt.NDArray[np.float64]

MEAN, SPREAD = np.array([1.0, -0.5]), np.array([0.3, 1.7])
OBJECTIVES = {
    "linear": FlowMatching(),
    "sigma_min": FlowMatching(sigma_min=0.05),
    "trigonometric": FlowMatching("trigonometric"),
    "vp": FlowMatching("vp"),
}
every_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))


def _trial(objective: FlowMatching, **fields: Any) -> Trial:  # noqa: ANN401
    return Trial(
        DatasetRef("none", "none"),
        "torch",
        AdaptiveSolver("dopri5"),
        precision="float64",
        objective=objective,
        **fields,
    )


def _drawn(trial: Trial, x: npt.NDArray[np.floating], step: int = 0) -> Batch:
    slots = noise_slots(trial, x.shape[1:], "train", len(x))
    return Batch(x, draw(slots, trial.seed, step, trial.dtype))


def _gaussian_rows(size: int) -> Float:
    return MEAN + SPREAD * Stream(5, "rows").normal((size, 2))


def _optimal(path: Path, y: Float) -> Float:
    variance = path.alpha**2 * SPREAD**2 + path.sigma**2
    pull = path.alpha * path.alpha_rate * SPREAD**2 + path.sigma * path.sigma_rate
    return np.asarray(path.alpha_rate * MEAN + pull / variance * (y - path.alpha * MEAN))


@every_objective
def test_a_path_leads_from_data_to_base(objective: FlowMatching) -> None:
    start, end = path_of(objective, np.array(VP_START)), path_of(objective, np.array(1.0))
    vp = objective.path == "vp"
    assert start.alpha == pytest.approx(1, abs=2e-5)
    assert start.sigma == pytest.approx(objective.sigma_min, abs=2e-3)
    # What is left of the data at the base: exp(-5.025) of the path vp.
    assert end.alpha == pytest.approx(0.00657 if vp else 0, abs=1e-5)
    assert end.sigma == pytest.approx(1, abs=1e-4)


@every_objective
def test_the_rates_of_a_path_are_its_derivatives(objective: FlowMatching) -> None:
    s, h = np.linspace(0.05, 0.95, 19), 1e-6
    path, before, after = (path_of(objective, s + d) for d in (0, -h, h))
    for name in ("alpha", "sigma"):
        difference = (getattr(after, name) - getattr(before, name)) / (2 * h)
        np.testing.assert_allclose(getattr(path, f"{name}_rate"), difference, rtol=0, atol=1e-8)


@every_objective
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_optimal_velocity_reaches_the_floor_of_the_loss(
    objective: FlowMatching, blocks: int
) -> None:
    """Of 40,000 rows, each with a point in every block; false alarms: 1 in 10^6 a case, if a mean
    of so many is normal. A wrong sign, time or factor is off by hundreds of deviations.
    """
    trial = _trial(objective, model=ModelSpec(blocks=blocks))
    batch = matched(trial, _drawn(trial, _gaussian_rows(40_000)))
    losses = np.zeros(batch.size)
    for k in range(blocks):
        s = (k + batch.noise[f"path_time/{k}"][:, None]) / blocks
        best = _optimal(path_of(objective, s), batch.noise[f"point/{k}"])
        # In the block's own time all rates are a K-th.
        rate = batch.noise[f"rate/{k}"]
        losses += blocks * np.sum((best / blocks - rate) ** 2, axis=1)
    # The tail of vp near the data is heavy; its integral is finite by the cut.
    s = VP_START + (1 - VP_START) * (np.geomspace(1, 1e6, 400_001) - 1) / (1e6 - 1)
    path = path_of(objective, s[:, None])
    variance = path.alpha**2 * SPREAD**2 + path.sigma**2
    turn = path.alpha * path.sigma_rate - path.alpha_rate * path.sigma
    floor = float(np.trapezoid(np.sum(SPREAD**2 * turn**2 / variance, axis=1), s))
    if objective == FlowMatching():
        assert floor == pytest.approx(math.pi / 2 * SPREAD.sum(), rel=1e-3)
    if objective.path == "trigonometric":
        assert floor == pytest.approx(math.pi**2 / 4 * SPREAD.sum(), rel=1e-3)
    deviation = float(losses.std()) / math.sqrt(len(losses))
    assert abs(float(losses.mean()) - floor) < 4.9 * deviation + 1e-3 * floor
    assert deviation < 0.02 * floor


def test_the_optimal_velocity_carries_data_to_base_and_its_density_with_them() -> None:
    """The flow of a Gaussian is affine: y(1) = (x - m) / s, and the log-determinant is exact."""
    x = _gaussian_rows(4)
    for objective in (FlowMatching(), FlowMatching("trigonometric")):

        def rates(s: float, y: tuple[Float, Float], objective: FlowMatching = objective) -> Any:  # noqa: ANN401
            path = path_of(objective, np.array(s))
            variance = path.alpha**2 * SPREAD**2 + path.sigma**2
            pull = path.alpha * path.alpha_rate * SPREAD**2 + path.sigma * path.sigma_rate
            divergence = float(np.sum(pull / variance))
            return _optimal(path, y[0]), np.full((1, len(x)), -divergence)

        start = x, np.zeros((1, len(x)))
        z, a = solve(rates, start, FixedSolver("rk4_38", 200), first=None, length=1.0).end
        np.testing.assert_allclose(z, (x - MEAN) / SPREAD, atol=1e-7)
        np.testing.assert_allclose(a[0], np.log(SPREAD).sum(), atol=1e-7)


def test_points_are_on_the_paths_of_their_rows() -> None:
    trial = _trial(FlowMatching(), model=ModelSpec(blocks=2))
    drawn = _drawn(trial, Stream(1, "images").normal((5, 1, 2, 2)))
    batch = matched(trial, drawn)
    assert batch.x is drawn.x
    assert set(batch.noise) == {
        f"{kind}/{k}" for kind in ("path_time", "point", "rate") for k in (0, 1)
    }
    for k in (0, 1):
        s = ((k + drawn.noise[f"path_time/{k}"]) / 2).reshape(-1, 1, 1, 1)
        expected = (1 - s) * drawn.x + s * drawn.noise["base"]
        np.testing.assert_allclose(batch.noise[f"point/{k}"], expected, rtol=1e-14)
        rate = (drawn.noise["base"] - drawn.x) / 2
        np.testing.assert_allclose(batch.noise[f"rate/{k}"], rate, rtol=1e-14)


def test_times_and_base_samples_are_of_the_step_and_the_precision() -> None:
    trial = replace(_trial(FlowMatching()), precision="float32")
    x = _gaussian_rows(6).astype(np.float32)
    first, again, other = (matched(trial, _drawn(trial, x, step)) for step in (0, 0, 1))
    for name, value in first.noise.items():
        assert value.dtype == np.float32
        assert value.tobytes() == again.noise[name].tobytes() != other.noise[name].tobytes()
    u = first.noise["path_time/0"]
    assert u.shape == (6,)
    assert len(set(u.tolist())) == 6
    assert np.all((u > 0) & (u < 1))


def test_the_optimal_coupling_is_the_cheapest_and_keeps_every_sample() -> None:
    x = _gaussian_rows(6)
    pairs = {}
    for coupling in ("independent", "minibatch_ot"):
        trial = _trial(FlowMatching("linear", coupling))
        drawn = _drawn(trial, x)
        rate = matched(trial, drawn).noise["rate/0"]
        pairs[coupling] = rate + x
    base = drawn.noise["base"]
    np.testing.assert_allclose(pairs["independent"], base, rtol=1e-14)
    order = [int(np.argmin(np.abs(base - e).sum(axis=1))) for e in pairs["minibatch_ot"]]
    assert sorted(order) == list(range(6))
    costs = {
        each: float(np.sum((x - base[list(each)]) ** 2))
        for each in itertools.permutations(range(6))
    }
    assert costs[tuple(order)] == pytest.approx(min(costs.values()), rel=1e-14)
    assert costs[tuple(order)] < 0.9 * costs[tuple(range(6))]


def test_other_objectives_keep_their_batch() -> None:
    trial = Trial(DatasetRef("none", "none"), "torch", AdaptiveSolver("dopri5"))
    batch = _drawn(trial, _gaussian_rows(3))
    assert matched(trial, batch) is batch
    assert set(batch.noise) == {"probe/0"}
    assert unmatched(trial) is None
    assert unmatched(replace(trial, objective=FlowMatching())) is None


def test_an_evaluation_draws_what_it_drew_before() -> None:
    trial = _trial(FlowMatching())
    plain = Trial(DatasetRef("none", "none"), "torch", AdaptiveSolver("dopri5"))
    for purpose in ("evaluate", "sample"):
        assert noise_slots(trial, (2,), purpose, 4) == noise_slots(plain, (2,), purpose, 4)
