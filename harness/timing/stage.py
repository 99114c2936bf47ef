"""The timing stage of a run: setting after setting, within the budget of the suite."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.executors.observer import Stop
from harness.labels import label
from harness.planning.plan import Plan
from harness.planning.settings import Setting, settings_of
from harness.process.cores import Lease, lease
from harness.process.watch import Interrupted
from harness.records.timings import TimingFolder, TimingRecord
from harness.suites.limits import Timing
from harness.text import counted
from harness.timing.contest import Terms, contest
from harness.timing.states import hardware_of, timing_state

__all__ = ["run_timings", "setting_name"]


_PATIENCE_S = 30.0
"""How long to wait, at most a quarter of the budget, until no trial of another run uses the
machine. What goes on beside others is measured all the same, and its rounds are marked."""


class _Crowded(Exception):
    """Other trials use the machine."""


class _Spent(Exception):
    """The budget was spent while other trials had the machine to themselves."""


def run_timings(
    plan: Plan,
    root: Path,
    say: Callable[[str], None] = print,
    *,
    rest: bool = False,
    rerun: bool = False,
) -> bool:
    """Times the settings of a plan that no run has come to on this kind of hardware; no trial of
    the run may be in flight. What the budget does not reach is recorded as not timed, so that the
    same command again has nothing to do.

    Arguments:
        plan: The plan; without `timing` there is nothing to do.
        root: The run root.
        say: Prints a line.
        rest: Time those, too, that an earlier budget did not reach or whose timing failed.
        rerun: Time all, again if they are timed.

    Returns:
        False if it was interrupted. What it found is in the records.

    Raises:
        RecordError: A record is damaged, or the run root cannot be written.
    """
    if plan.timing is None:
        return True
    root = root.resolve()
    further = ["not timed", "failed"] if rest or rerun else []
    wanted = ["to time", *further, *(["timed"] if rerun else [])]
    states = [(setting, timing_state(setting, root)) for setting in settings_of(plan)]
    due = [setting for kind in wanted for setting, state in states if state == kind]
    with Stop() as stop:
        try:
            _Stage(root, plan.timing, stop, say).run(due)
        except Interrupted:
            return False
    return True


def setting_name(setting: Setting) -> str:
    """A setting in one line: what a suite usually varies, and its backends."""
    axes = label(setting.trial)
    solver = axes["solver"].split()[0]
    backends = ", ".join(setting.backends)
    return f"{axes['dataset']} {solver} {axes['regularizer']} ({backends})"


class _Stage:
    def __init__(self, root: Path, timing: Timing, stop: Stop, say: Callable[[str], None]) -> None:
        self._root, self._timing, self._stop, self._say = root, timing, stop, say
        now, budget = time.monotonic(), timing.budget_seconds
        self._end = now + budget
        self._patient_until = now + min(_PATIENCE_S, budget / 4)
        self._crowded = False

    def run(self, settings: Sequence[Setting]) -> None:
        """Times settings until all are timed or the budget is spent.

        Raises:
            Interrupted: A stop was requested.
        """
        for number, setting in enumerate(settings):
            try:
                record = self._time(setting, len(settings) - number)
            except _Spent:
                self._leave(settings[number:])
                return
            if record is not None:
                place = f"timing {number + 1}/{len(settings)}"
                self._say(f"{place} {setting_name(setting)}: {_finding(record)}")

    def _leave(self, settings: Sequence[Setting]) -> None:
        """Records settings as not timed, unless an earlier run has recorded them."""
        budget = f"budget of {self._timing.budget_seconds:g} s"
        for setting in settings:
            hardware, planned = hardware_of(setting), setting.contenders(self._root)
            if hardware is None or not planned:
                continue
            first = planned[0]
            record = TimingRecord(
                setting_id=setting.id,
                hardware=hardware,
                status="not_timed",
                message=f"The {budget} was spent before; harness run --timing goes on.",
                seed=first.trial.seed,
                trained_by=first.trial.id,
                cores=first.resources.cpus,
            )
            TimingFolder(self._root, setting.id, hardware).commit(record)
        left = counted(len(settings), "setting")
        self._say(f"timing: the {budget} is spent, {left} not timed; --timing goes on with them")

    def _time(self, setting: Setting, left: int) -> TimingRecord | None:
        """Times one setting and commits what came out; None if there is nothing to time.

        Raises:
            Interrupted: A stop was requested.
            _Spent: The budget is spent.
        """
        self._check_budget()
        hardware, planned = hardware_of(setting), setting.contenders(self._root)
        if hardware is None or not planned:
            return None
        resources = planned[0].resources
        with ExitStack() as stack:
            held = self._leased(stack, resources.cpus)
            seconds = max(0.0, self._end - time.monotonic()) / left
            terms = Terms(
                hardware,
                held.cores,
                "gpu" if resources.gpus else "cpu",
                self._timing.rounds,
                seconds,
                resources.timeout_minutes * 60,
                self._check,
            )
            record = contest(self._root, setting, [each.trial for each in planned], terms)
        folder = TimingFolder(self._root, setting.id, hardware)
        folder.set_aside()
        folder.commit(record)
        return record

    def _leased(self, stack: ExitStack, count: int) -> Lease:
        """Cores until the stack ends, if possible on a machine without other trials."""
        if not self._crowded:
            try:
                return stack.enter_context(lease(count, exclusive=True, check=self._check_crowd))
            except _Crowded:
                self._crowded = True
                self._say("timing: trials of another run use this machine; rounds are marked")
        return stack.enter_context(lease(count, check=self._check_budget))

    def _check(self) -> None:
        if self._stop.requested:
            raise Interrupted

    def _check_crowd(self) -> None:
        self._check()
        if time.monotonic() > self._patient_until:
            raise _Crowded

    def _check_budget(self) -> None:
        self._check()
        if time.monotonic() > self._end:
            raise _Spent


def _finding(record: TimingRecord) -> str:
    """What came out of a timing, in a few words."""
    if not record.ok:
        return f"failed: {record.message}"
    first, *others = record.backends
    words = []
    for other in others:
        ratio = record.ratio("trained", "train_step", other, first)
        if ratio is not None:
            words.append(f"training step of {other} {ratio.estimate:.2f}x of {first}'s time")
    disturbed = ", disturbed" if record.disturbed("trained") else ""
    return f"{', '.join(words)} ({counted(len(record.of('trained')[0]), 'round')}{disturbed})"
