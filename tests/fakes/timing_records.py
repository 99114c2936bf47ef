"""Invented timings whose ratios are known: backend b takes what its factor says of a's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.records.timings import ACTIVITIES, POINTS, BackendTiming, Point, Round, TimingRecord
from harness.trial import Trial

__all__ = ["HARDWARE", "backend_timing", "timing_record"]

HARDWARE = "c0ffee12c0ff"


def backend_timing(trial: Trial, **changes: object) -> BackendTiming:
    values = {
        "trial_id": trial.id,
        "gradient": "direct",
        "choices": {},
        "cold_s": 3.25,
        "warm_s": 0.75,
        "step_bytes": 5 * 2**20,
        "peak_host_bytes": 300 * 2**20,
        "peak_device_bytes": None,
        "nfe": {point: {name: {"forward": 20.0} for name in ACTIVITIES} for point in POINTS},
        "error_nats": dict.fromkeys(POINTS, 2e-5),
        "environment": {"cpu_model": "Invented CPU @ 2.00 GHz", "cores": 1},
        **changes,
    }
    return BackendTiming(**values)  # type: ignore[arg-type]


def timing_record(
    setting_id: str,
    trials: Sequence[Trial],
    factors: Sequence[float],
    disturbed: Sequence[int] = (),
    **changes: object,
) -> TimingRecord:
    """A round for each factor and set of arrays; the first backend's time is 10 ms.

    Arguments:
        setting_id: The setting.
        trials: One a backend; the times of all but the first are the factor times those of the
            first.
        factors: A round each.
        disturbed: Numbers of rounds that others disturbed.
        changes: Other fields.
    """
    rounds = tuple(
        _round(point, trials, factor, number in disturbed)
        for point in POINTS
        for number, factor in enumerate(factors)
    )
    values: Mapping[str, object] = {
        "setting_id": setting_id,
        "hardware": HARDWARE,
        "status": "ok",
        "message": None,
        "seed": trials[0].seed,
        "trained_by": trials[0].id,
        "cores": 1,
        "reference": "float64, dopri5 at tolerance 1e-10",
        "backends": {trial.backend: backend_timing(trial) for trial in trials},
        "rounds": rounds,
        **changes,
    }
    return TimingRecord(**values)  # type: ignore[arg-type]


def _round(point: Point, trials: Sequence[Trial], factor: float, disturbed: bool) -> Round:
    seconds = {
        trial.backend: dict.fromkeys(ACTIVITIES, 0.01 * (factor if number else 1.0))
        for number, trial in enumerate(trials)
    }
    why = "other processes used 1.4 cores" if disturbed else None
    return Round(point, seconds, why, {"load": 0.5, "others": 1.4 if disturbed else 0.0})
