"""`harness evaluate`: scores recorded trials in another way, outside a suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.commands.outcome import outcome
from harness.commands.run import INTERRUPTED
from harness.commands.show import TrialRecord, show
from harness.commands.views import evaluation_text
from harness.errors import InputError, Problem
from harness.executors.run import Execution
from harness.executors.run import run as run_trials
from harness.planning.plan import Plan, PlannedTrial, require_backends, require_runnable
from harness.planning.states import States
from harness.reading.nodes import Node
from harness.reading.validation import Problems
from harness.reading.yaml import parse_yaml
from harness.suites.axes import merge, read_axis
from harness.suites.combinations import check_combinations
from harness.trial import AXES, Evaluation, Trial, encode

__all__ = ["evaluate", "reevaluated", "rescored"]


def evaluate(
    trial_ids: Sequence[str],
    root: Path,
    settings: Sequence[str],
    how: Execution,
    say: Callable[[str], None] = print,
) -> int:
    """Scores recorded trials with another evaluation; what is trained is not trained again.

    Arguments:
        trial_ids: Their ids, or beginnings of ids.
        root: The run root.
        settings: `evaluation.KEY=VALUE`, values in YAML.
        how: Who computes.
        say: Prints a text of one or more lines.

    Returns:
        The exit code: 0 if all ended ok, 1 if some did not, 130 if it was interrupted.

    Raises:
        InputError: A trial is not known, or a setting is invalid.
        RecordError: A record is damaged or of another version.
        HarnessError: The executor cannot start.
    """
    states, planned = States(root), []
    for trial_id in dict.fromkeys(trial_ids):
        record = show(trial_id, root)
        trial = rescored(record, settings)
        state, reason = states.of(trial)
        planned.append(PlannedTrial(trial, state, reason, record.resources))
    plan = Plan("", "", tuple(planned), source=" ".join(trial_ids))
    require_backends(plan)
    require_runnable(plan)
    if not run_trials(plan, root, how):
        return INTERRUPTED
    say("\n\n".join(evaluation_text(show(each.trial.id, root)) for each in planned))
    return outcome(plan, root).exit_code


def reevaluated(record: TrialRecord, settings: Sequence[str]) -> Evaluation:
    """The evaluation of a trial with some settings changed; none leave it as it is.

    Raises:
        InputError: A setting is no setting of an evaluation, or has a wrong value.
    """
    return rescored(record, settings).evaluation if settings else record.trial.evaluation


def rescored(record: TrialRecord, settings: Sequence[str]) -> Trial:
    """The trial with some settings of its evaluation changed.

    Raises:
        InputError: A setting is no setting of an evaluation, or has a wrong value.
    """
    trial, problems = record.trial, Problems()
    node = parse_yaml("{}", "--set")
    for setting in settings:
        node = merge(node, _node(setting))
    before = {k: v for k, v in encode(trial.evaluation).items() if k != "solver"}
    evaluation: Evaluation | None = read_axis("evaluation", node, {"evaluation": before}, problems)
    problems.raise_if_any()
    assert evaluation is not None  # noqa: S101  (there was no problem)
    if "solver" not in node.items():
        evaluation = replace(evaluation, solver=trial.evaluation.solver)
    changed = replace(trial, evaluation=evaluation)
    axes = {axis: (getattr(changed, axis),) for axis in AXES} | {"resources": (record.resources,)}
    nodes = {axis: (Node({}, node.place),) for axis in axes} | {"evaluation": (node,)}
    check_combinations(axes, nodes, node.place, problems)
    problems.raise_if_any()
    return changed


def _node(setting: str) -> Node:
    """`evaluation.a.b=VALUE` as the node of `{a: {b: VALUE}}`."""
    path, equals, value = setting.partition("=")
    first, *keys = path.split(".")
    if not (equals and keys and first == "evaluation"):
        raise InputError(
            [
                Problem(
                    f"--set {setting}",
                    "is not of the form evaluation.KEY=VALUE",
                    known=tuple(f"evaluation.{name}" for name in encode(Evaluation())),
                    found=path,
                    fix="write for example --set evaluation.trace=exact; what a trial trains with "
                    "cannot be set after the training",
                )
            ]
        )
    text = "{" + ": {".join(keys) + f": {value}" + "}" * len(keys)
    return parse_yaml(text, f"--set {setting}")
