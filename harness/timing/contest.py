"""One setting measured: its backends opened side by side, and rounds in which each has its turn.

A ratio is that of two times of one round, so that a machine whose speed drifts decides nothing.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from harness.errors import RecordError
from harness.measuring.reference import REFERENCE
from harness.planning.settings import Setting
from harness.process.machine import Meter, Usage
from harness.records.timings import (
    ACTIVITIES,
    POINTS,
    Activity,
    BackendTiming,
    Point,
    Round,
    TimingRecord,
)
from harness.records.trained import TrainedFolder
from harness.suites.limits import LEAST_ROUNDS
from harness.timing.link import Failed, Link
from harness.trial import Trial

__all__ = ["Terms", "contest"]

_BLOCK_S = 0.02
_MOST_CALLS = 50
"""Calls are repeated until the faster backend is busy for so long: what a clock and the processor
counters resolve is far below."""

_Answer = dict[str, Any]


@dataclass(frozen=True)
class Terms:
    """How a setting is measured.

    Arguments:
        hardware: Hardware fingerprint.
        cores: Cores that every backend is pinned to.
        device: Where the models are.
        rounds: Undisturbed rounds that are wanted of each set of arrays.
        seconds: The share of the budget; when it is spent, `LEAST_ROUNDS` are enough.
        patience_s: Seconds after which an answer no longer comes.
        check: Called while something is waited for; raises to stop.
    """

    hardware: str
    cores: tuple[int, ...]
    device: Literal["cpu", "gpu"]
    rounds: int
    seconds: float
    patience_s: float
    check: Callable[[], None]


def contest(root: Path, setting: Setting, trials: Sequence[Trial], terms: Terms) -> TimingRecord:
    """Measures a setting; whatever fails is in the record.

    Arguments:
        root: The run root.
        setting: The setting.
        trials: Finished trials of one seed, one a backend, in the order of the plan.
        terms: How it is measured.
    """
    first = trials[0]
    record = partial(
        TimingRecord,
        setting_id=setting.id,
        hardware=terms.hardware,
        seed=first.seed,
        trained_by=first.id,
        cores=len(terms.cores),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="cnf-harness-") as folder:
            measured = _Contest(root, trials, terms, Path(folder))
            backends, rounds = measured.measure()
    except (Failed, RecordError) as error:
        return record(status="error", message=str(error))
    return record(
        status="ok",
        message=measured.remark,
        reference=REFERENCE if measured.remark is None else None,
        backends=backends,
        rounds=tuple(rounds),
    )


class _Contest:
    def __init__(self, root: Path, trials: Sequence[Trial], terms: Terms, folder: Path) -> None:
        self._root, self._terms, self._folder = root, terms, folder
        self._trials = {trial.backend: trial for trial in trials}
        self._end = time.monotonic() + terms.seconds
        self.remark: str | None = None
        """Why there is no reference; None if there is one."""

    def measure(self) -> tuple[dict[str, BackendTiming], list[Round]]:
        """The backends and the rounds.

        Raises:
            Failed: A contender has no numbers.
        """
        rounds: list[Round] = []
        nfe: dict[str, dict[Point, Any]] = {name: {} for name in self._trials}
        errors: dict[str, dict[Point, float | None]] = {name: {} for name in self._trials}
        cold, warm = {name: self._cold_start(name) for name in self._trials}, {}
        with ExitStack() as stack:
            links = {name: stack.enter_context(self._link(name)) for name in self._trials}
            for name, link in links.items():
                warm[name] = link.ask("first_step")["seconds"]
            arrays = self._arrays(links)
            references = self._references(arrays)
            for number, point in enumerate(POINTS):
                share = (self._end - time.monotonic()) / (len(POINTS) - number)
                taken, counts = self._rounds(point, arrays[point], links, share)
                rounds += taken
                for name, link in links.items():
                    nfe[name][point] = counts[name]
                    log_prob = link.ask("log_prob")["log_prob"]
                    errors[name][point] = _largest(log_prob, references.get(point))
            memory = {name: link.ask("memory") for name, link in links.items()}
            ready = {name: link.ready for name, link in links.items()}
        backends = {
            name: BackendTiming(
                trial_id=trial.id,
                cold_s=cold[name],
                warm_s=warm[name],
                nfe=nfe[name],
                error_nats=errors[name],
                **ready[name],
                **memory[name],
            )
            for name, trial in self._trials.items()
        }
        return backends, rounds

    def _cold_start(self, backend: str) -> float:
        """Seconds of a first step with empty compilation caches, which it fills for those after.

        In a process that ends: what is timed later has started as a trial usually does.
        """
        with self._link(backend, use=" cold") as link:
            seconds: float = link.ask("first_step")["seconds"]
            return seconds

    def _link(self, backend: str, *, use: str = "", reference: bool = False) -> Link:
        terms = self._terms
        return Link(
            self._root,
            self._trials[backend].id,
            f"{backend}{use}",
            terms.cores,
            terms.device,
            self._folder,
            # A folder each, empty at first.
            self._folder / f"{backend}-compiled",
            terms.patience_s,
            terms.check,
            reference=reference,
        )

    def _arrays(self, links: Mapping[str, Link]) -> dict[Point, Path]:
        """Files of the arrays that are timed: the same for all."""
        first, link = next(iter(links.items()))
        initial = self._folder / "initial.safetensors"
        link.ask("save", path=str(initial))
        folder = TrainedFolder(self._root, self._trials[first].training_id)
        trained = folder.read()
        if trained is None:
            raise Failed(f"{first}: its trained model is gone; run the trial again")
        return {"trained": folder.model(trained.attempt_id), "initial": initial}

    def _references(self, arrays: Mapping[Point, Path]) -> dict[Point, list[float]]:
        """Log p in float64, by the first backend that can; empty if none can."""
        reasons = []
        for backend in self._trials:
            try:
                with self._link(backend, use=" reference", reference=True) as link:
                    return {
                        point: link.ask("log_prob", path=str(path))["log_prob"]
                        for point, path in arrays.items()
                    }
            except Failed as error:
                reasons.append(str(error))
        self.remark = f"no reference: {'; '.join(reasons)}"
        return {}

    def _rounds(
        self, point: Point, arrays: Path, links: Mapping[str, Link], seconds: float
    ) -> tuple[list[Round], dict[str, Any]]:
        """Rounds on some arrays, and the mean evaluations of each backend in them."""
        end = time.monotonic() + seconds
        settled = [link.ask("begin", path=str(arrays))["seconds"] for link in links.values()]
        repeats = {name: _repeats(each[name] for each in settled) for name in ACTIVITIES}
        taken: list[Round] = []
        counts: dict[str, list[_Answer]] = {name: [] for name in links}
        quiet = 0
        # A round that was disturbed is repeated, as long as a quiet machine can be hoped for.
        while quiet < self._terms.rounds and len(taken) < 2 * self._terms.rounds:
            if len(taken) >= LEAST_ROUNDS and time.monotonic() > end:
                break
            answers, usage = _turns(links, len(taken), repeats)
            disturbed = usage.disturbance(len(self._terms.cores))
            seconds_of = {name: answers[name]["seconds"] for name in links}
            taken.append(Round(point, seconds_of, disturbed, usage.summary()))
            quiet += disturbed is None
            for name, answer in answers.items():
                counts[name].append(answer["nfe"])
        return taken, {name: _means(each) for name, each in counts.items()}


def _turns(
    links: Mapping[str, Link], number: int, repeats: Mapping[Activity, int]
) -> tuple[dict[str, _Answer], Usage]:
    """One round: everybody has a turn, in the other order every second time."""
    order = list(links)[:: -1 if number % 2 else 1]
    meter = Meter()
    answers = {name: links[name].ask("round", number=number, repeats=repeats) for name in order}
    usage = meter.read()
    return answers, usage.with_processes(Usage(**each["usage"]) for each in answers.values())


def _repeats(seconds: Iterable[float]) -> int:
    return max(1, min(_MOST_CALLS, math.ceil(_BLOCK_S / min(seconds))))


def _means(counts: Sequence[_Answer]) -> dict[Activity, dict[str, float]]:
    """Mean evaluations over rounds, by activity and kind."""
    return {
        name: {
            kind: statistics.fmean(each[name].get(kind, 0) for each in counts)
            for kind in counts[0][name]
        }
        for name in ACTIVITIES
    }


def _largest(log_prob: Sequence[float], reference: Sequence[float] | None) -> float | None:
    if reference is None:
        return None
    return max(abs(a - b) for a, b in zip(log_prob, reference, strict=True))
