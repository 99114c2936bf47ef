"""What a plan times, as text and as JSON."""

from __future__ import annotations

import collections
from pathlib import Path

from harness.planning.plan import Plan
from harness.planning.settings import settings_of
from harness.text import counted
from harness.timing.states import timing_state

__all__ = ["timing_json", "timing_lines"]


def timing_lines(plan: Plan, root: Path) -> list[str]:
    """`timing of 8 settings: 6 timed, 2 to time; ...`; nothing if the suite times nothing."""
    if plan.timing is None:
        return []
    counts = _counts(plan, root)
    if not counts:
        return ["timing: no two backends share a setting"]
    words = ", ".join(f"{number} {state}" for state, number in counts.items())
    total = counted(sum(counts.values()), "setting")
    terms = f"{plan.timing.rounds} rounds each, {plan.timing.budget_seconds:g} s a run"
    return [f"timing of {total} after the trials: {words} ({terms})"]


def timing_json(plan: Plan, root: Path) -> dict[str, object]:
    """The same as `{"timing": {...}}`; nothing if the suite times nothing."""
    if plan.timing is None:
        return {}
    return {
        "timing": {
            "rounds": plan.timing.rounds,
            "budget_seconds": plan.timing.budget_seconds,
            "settings": [
                {
                    "id": setting.id,
                    "trials": [planned.trial.id for planned in setting.members],
                    "state": timing_state(setting, root),
                }
                for setting in settings_of(plan)
            ],
        }
    }


def _counts(plan: Plan, root: Path) -> dict[str, int]:
    states = (timing_state(setting, root) for setting in settings_of(plan))
    return dict(collections.Counter(states).most_common())
