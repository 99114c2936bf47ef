"""Settings: what backends share that are timed side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.planning.plan import Plan, PlannedTrial
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.records.trained import TrainedFolder
from harness.trial import Trial, canonical, identity_of

__all__ = ["Setting", "setting_id", "settings_of"]


def setting_id(trial: Trial) -> str:
    """Identity of what a trial is without its backend and its seed."""
    return identity_of(canonical(replace(trial, backend="", seed=0)))


@dataclass(frozen=True)
class Setting:
    """The trials of a plan that differ in backend and seed only, with two backends or more.

    Arguments:
        id: Its identity.
        members: The trials, in the order of the plan.
    """

    id: str
    members: tuple[PlannedTrial, ...]

    @property
    def trial(self) -> Trial:
        """One of them, for what all share."""
        return self.members[0].trial

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of the backends, in the order of the plan."""
        return tuple(dict.fromkeys(planned.trial.backend for planned in self.members))

    def contenders(self, root: Path) -> tuple[PlannedTrial, ...]:
        """The trials to time side by side: of the lowest seed with which two backends or more
        have finished, one a backend; none if there is no such seed.
        """
        finished: dict[int, list[PlannedTrial]] = {}
        for planned in self.members:
            if _is_finished(planned.trial, root):
                finished.setdefault(planned.trial.seed, []).append(planned)
        usable = (finished[seed] for seed in sorted(finished) if len(finished[seed]) > 1)
        return tuple(next(usable, ()))


def settings_of(plan: Plan) -> tuple[Setting, ...]:
    """The settings of a plan that have two backends or more; the first of every dataset first,
    so that a budget that does not reach all reaches every dataset.
    """
    alike: dict[str, list[PlannedTrial]] = {}
    for planned in plan.wanted:
        alike.setdefault(setting_id(planned.trial), []).append(planned)
    settings = [Setting(name, tuple(members)) for name, members in alike.items()]
    several = [setting for setting in settings if len(setting.backends) > 1]
    ranks = _ranks(several)
    return tuple(sorted(several, key=lambda setting: ranks[setting.id]))


def _ranks(settings: list[Setting]) -> Mapping[str, int]:
    """The place of every setting among those of its dataset."""
    seen: dict[str, int] = {}
    ranks = {}
    for setting in settings:
        name = setting.trial.dataset.name
        ranks[setting.id] = seen[name] = seen.get(name, -1) + 1
    return ranks


def _is_finished(trial: Trial, root: Path) -> bool:
    result = TrialFolder(root, trial.id).read_result()
    ok = result is not None and Status(result["status"]) is Status.OK
    return ok and TrainedFolder(root, trial.training_id).record.exists()
