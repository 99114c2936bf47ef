"""What cannot go together in a spec, whatever its data.

A rule looks at the values of some axes of a trial and yields its complaints.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.specs.resources import Resources
from harness.text import counted
from harness.trial import (
    AdaptiveSolver,
    Evaluation,
    FixedSolver,
    FlowMatching,
    ModelSpec,
    ObjectiveSpec,
    SolverSpec,
    TraceName,
    Training,
    encode,
)

__all__ = ["SPEC_RULES", "Complaint", "Rule", "model_complaints"]


@dataclass(frozen=True)
class Complaint:
    """What is impossible.

    Arguments:
        path: The axis to blame, then keys below it.
        message: What was found.
        fix: What to do.
        known: What is accepted instead.
    """

    path: tuple[str, ...]
    message: str
    fix: str
    known: Sequence[str] = ()


Rule = tuple[tuple[str, ...], Callable[..., Iterator[Complaint]]]
"""Axes, `resources` counting as one, and what is said of their values."""


def model_complaints(model: ModelSpec) -> Iterator[Complaint]:
    """What is wrong with a model, whatever it is combined with."""
    layers = len(model.hidden) + 1
    if model.strides is not None and len(model.strides) != layers:
        yield Complaint(
            ("model", "strides"),
            f"{counted(len(model.strides), 'stride')} for {counted(layers, 'layer')}: 'hidden' "
            f"names {len(model.hidden)}, one more returns to the data's channels",
            f"write {counted(layers, 'stride')}, each 1, 2 or -2, or null for layers that are no "
            "convolutions",
        )
    if model.strides is None and model.scales > 1:
        yield Complaint(
            ("model", "scales"),
            f"{model.scales} scales need convolutional layers",
            f"add 'strides: {[1] * layers}' to the model, or remove 'scales'",
        )
    if model.spectral_norm and model.layer == "hyper":
        yield Complaint(
            ("model", "spectral_norm"),
            "spectral norm divides stored weights, and a hyper layer makes its own as it goes",
            "remove it, or choose another layer",
        )
    if model.spectral_norm and model.zero_last:
        yield Complaint(
            ("model", "zero_last"),
            "spectral norm divides by the largest singular value, and that of weights which "
            "start at zero is 0",
            "remove one of the two",
        )
    posterior = model.posterior
    if posterior is not None and (model.strides is not None or model.scales > 1):
        yield Complaint(
            ("model", "posterior"),
            "the flow of an autoencoder is over its latent, which is no image",
            "remove 'strides' and 'scales', or 'posterior'",
        )
    if posterior and posterior.amortization == "hyper" and model.layer != "concat":
        yield Complaint(
            ("model", "posterior", "amortization"),
            f"amortization 'hyper' gives all weights of concat layers, not of {model.layer}",
            "write 'layer: concat', or amortization: low_rank",
        )
    if posterior and posterior.nonlinear_output and posterior.amortization != "hyper":
        yield Complaint(
            ("model", "posterior", "nonlinear_output"),
            f"'nonlinear_output' is of amortization 'hyper', not of '{posterior.amortization}'",
            "remove it, or write amortization: hyper",
        )


def _training(training: Training) -> Iterator[Complaint]:
    patience, path = training.patience, ("training", "patience")
    if any(a >= b for a, b in itertools.pairwise(patience.drops)):
        yield Complaint(
            (*path, "drops"),
            f"the drops of patience must rise, found {list(patience.drops)}",
            "each is the number of validations without gain after which the next drop comes",
        )
    if training.validate_every == 0 and (patience.drops or patience.stop):
        yield Complaint(
            path,
            "patience counts validations, and with 'validate_every: 0' there are none on the way",
            "set training.validate_every, or remove 'patience'",
        )
    if training.validate_every == 0 and training.schedule.kl_warmup:
        yield Complaint(
            ("training", "schedule", "kl_warmup"),
            "the warm-up of the KL term counts in epochs of 'validate_every' steps, which is 0",
            "set training.validate_every to the steps of an epoch",
        )


def _kl_warmup(model: ModelSpec, training: Training) -> Iterator[Complaint]:
    if training.schedule.kl_warmup and model.posterior is None:
        yield Complaint(
            ("training", "schedule", "kl_warmup"),
            "a flow without 'posterior' has no KL term",
            "remove it, or add 'posterior: {}' to the model",
        )


def _bottleneck(
    model: ModelSpec, training: Training, evaluation: Evaluation
) -> Iterator[Complaint]:
    for axis, trace in (("training", training.trace), ("evaluation", evaluation.trace)):
        if trace == "bottleneck" and not model.hidden:
            yield Complaint(
                (axis, "trace"),
                "a net without hidden layers has no bottleneck",
                "choose another trace, or name hidden layers",
                ("exact", "hutch++", "hutchinson"),
            )


def _bottleneck_probe(training: Training, regularizer: Mapping[str, float]) -> Iterator[Complaint]:
    for name in ("rnode.jacobian", "jacobian_sum"):
        if training.trace == "bottleneck" and name in regularizer:
            yield Complaint(
                ("regularizer", name),
                f"'{name}' needs a probe of the state's shape, and that of the bottleneck trace "
                "has the bottleneck's",
                "choose another trace for training, or another regularizer",
            )


def _probes(training: Training, regularizer: Mapping[str, float]) -> Iterator[Complaint]:
    yield from _estimates("training", training, training.trace, training.validation_trace)
    if training.probes == 1:
        return
    for name in ("rnode.jacobian", "jacobian_sum"):
        if name in regularizer:
            yield Complaint(
                ("training", "probes"),
                f"'{name}' is a square of one product with a probe, not a mean over "
                f"{training.probes} of them",
                f"write probes: 1, or remove '{name}'",
            )


def _evaluation_probes(evaluation: Evaluation) -> Iterator[Complaint]:
    yield from _estimates("evaluation", evaluation, evaluation.trace)


def _estimates(
    axis: str, said: Training | Evaluation, *traces: TraceName | None
) -> Iterator[Complaint]:
    """What is wrong with the probes of an axis, for the traces that it names."""
    for name in ("probes", "draws"):
        if getattr(said, name) > 1 and set(traces) <= {None, "exact"}:
            yield Complaint(
                (axis, name),
                "the exact trace has no probes",
                "remove it, or choose another trace",
            )
    if "hutch++" in traces and said.probes % 3:
        yield Complaint(
            (axis, "probes"),
            "'hutch++' takes three products for each vector of its space, and "
            f"{said.probes} is no multiple of 3",
            f"write probes: {3 * math.ceil(said.probes / 3)}",
        )


def _gradient_error(evaluation: Evaluation, objective: ObjectiveSpec) -> Iterator[Complaint]:
    wanted = evaluation.accuracy
    if wanted is not None and wanted.gradient and isinstance(objective, FlowMatching):
        yield Complaint(
            ("evaluation", "accuracy", "gradient"),
            "a training step of flow matching solves nothing, so its gradient has no error of a "
            "solver",
            "remove it, or write 'objective: likelihood'",
        )


def _warm(solver: SolverSpec, regularizer: Mapping[str, float]) -> Iterator[Complaint]:
    if isinstance(solver, AdaptiveSolver) and solver.first_step == "warm" and "tpr" in regularizer:
        yield Complaint(
            ("regularizer", "tpr"),
            "'tpr' cuts a solve at random times, so there is no same solve in the step before "
            "that a warm first step could come from",
            "write 'first_step: heuristic', or give the two blocks of their own",
        )


def _steer(model: ModelSpec, regularizer: Mapping[str, float]) -> Iterator[Complaint]:
    end = model.end_time.value
    if regularizer.get("steer", 0.0) >= end:
        yield Complaint(
            ("regularizer", "steer"),
            f"'steer' draws end times from T - b to T + b, so b must be smaller than T = {end:g}, "
            f"found {regularizer['steer']:g}",
            "lower it, or raise model.end_time.value",
        )


def _sigma_min(objective: ObjectiveSpec) -> Iterator[Complaint]:
    if not isinstance(objective, FlowMatching):
        return
    if objective.sigma_min and objective.path != "linear":
        yield Complaint(
            ("objective", "sigma_min"),
            f"'sigma_min' is of the path 'linear', not of '{objective.path}'",
            "remove it, or write path: linear",
        )


def _batch_norm(model: ModelSpec, training: Training) -> Iterator[Complaint]:
    if model.batch_norm is not None and training.batch < 2:
        yield Complaint(
            ("training", "batch"),
            "batch norm divides by the spread of a batch, and one row has none",
            "write 2 or more, or remove model.batch_norm",
        )


def _resolved(precision: str, solver: SolverSpec) -> Iterator[Complaint]:
    """A relative tolerance against what the numbers resolve."""
    resolution = _RESOLUTION[precision]
    if not isinstance(solver, FixedSolver) and solver.rtol < resolution:
        yield Complaint(
            ("solver", "rtol"),
            f"{precision} resolves {resolution:.2g} of a number, and rtol is {solver.rtol:g}: no "
            "step would be small enough",
            f"write rtol: {10 * resolution:.0e} or more"
            + ("" if precision == "float64" else ", or precision: float64"),
        )


def _resolved_evaluation(precision: str, evaluation: Evaluation) -> Iterator[Complaint]:
    for complaint in _resolved(precision, evaluation.solver) if evaluation.solver else ():
        yield replace(complaint, path=("evaluation", *complaint.path))


def _within(axis: str) -> Callable[[str, Any], Iterator[Complaint]]:
    """Numbers that are 0 or infinite in the precision of the trial."""

    def rule(precision: str, value: Any) -> Iterator[Complaint]:  # noqa: ANN401
        low, high = _RANGE[precision]
        for path, number in _numbers(encode(value)):
            if number and not low <= abs(number) <= high:
                becomes = "0" if abs(number) < low else "infinite"
                yield Complaint(
                    (axis, *path),
                    f"{number:g} is {becomes} in {precision}, whose numbers go from {low:.0e} to "
                    f"{high:.0e}",
                    "write a number in between"
                    + ("" if precision == "float64" else ", or precision: float64"),
                )

    return rule


def _numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:  # noqa: ANN401
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, (*path, key))
    elif isinstance(value, float):
        yield path, value


_RANGE = {
    **dict.fromkeys(("float32", "tf32"), (1.2e-38, 3.4e38)),
    "float64": (2.3e-308, 1.7e308),
}
"""Smallest and largest number, rounded inwards; smaller ones are flushed to 0 on many machines."""
_RESOLUTION = {**dict.fromkeys(("float32", "tf32"), 2.0**-24), "float64": 2.0**-53}


def _tf32(precision: str, resources: Resources) -> Iterator[Complaint]:
    if precision == "tf32" and resources.gpus == 0:
        yield Complaint(
            ("precision",),
            "'tf32' is a way in which GPUs multiply, and the suite asks for none",
            "write 'resources: {gpus: 1}', or another precision",
            ("float32", "float64"),
        )


SPEC_RULES: tuple[Rule, ...] = (
    (("model",), model_complaints),
    (("training",), _training),
    (("model", "training"), _kl_warmup),
    (("model", "training", "evaluation"), _bottleneck),
    (("training", "regularizer"), _bottleneck_probe),
    (("training", "regularizer"), _probes),
    (("evaluation",), _evaluation_probes),
    (("evaluation", "objective"), _gradient_error),
    (("solver", "regularizer"), _warm),
    (("model", "regularizer"), _steer),
    (("precision", "resources"), _tf32),
    (("objective",), _sigma_min),
    (("model", "training"), _batch_norm),
    (("precision", "solver"), _resolved),
    (("precision", "evaluation"), _resolved_evaluation),
    *(
        (("precision", axis), _within(axis))
        for axis in ("model", "solver", "regularizer", "training", "evaluation")
    ),
)
