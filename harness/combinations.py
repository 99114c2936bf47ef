"""What a suite cannot combine: values that are right by themselves and impossible together.

Every rule looks at the values of some axes of a trial and yields its complaints; `check` holds
all combinations of a grid to all rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness import datasets
from harness.architecture import array_specs
from harness.datasets import Declaration
from harness.errors import BackendError, HarnessError
from harness.metrics.protocol import protocol_cost
from harness.protocols import kind_of
from harness.spec import (
    AdaptiveSolver,
    DatasetRef,
    Evaluation,
    ModelSpec,
    SolverSpec,
    Training,
)
from harness.terms import Resources
from harness.text import counted
from harness.validation import Problems
from harness.yaml_nodes import Node, Place

__all__ = ["check_combinations", "declared"]


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


Rule = Callable[..., Iterator[Complaint]]


def declared(name: object) -> Declaration | None:
    """What is known of a dataset; None if there is none of this name."""
    try:
        return datasets.declare(name) if isinstance(name, str) else None
    except HarnessError:
        return None


def check_combinations(
    axes: Mapping[str, Sequence[Any]],
    nodes: Mapping[str, Sequence[Node]],
    place: Place,
    problems: Problems,
) -> None:
    """Adds what is impossible in a grid.

    Arguments:
        axes: Checked values by axis; None where a value was wrong.
        nodes: What the user wrote, likewise.
        place: The block, for an axis that the user left out.
        problems: Where complaints go.
    """
    for names, rule in _RULES:
        choices = [
            tuple(zip(axes[name], nodes[name], strict=True))
            if name in axes
            else ((_ABSENT.get(name), Node({}, place)),)
            for name in names
        ]
        for combination in itertools.product(*choices):
            values = [value for value, _ in combination]
            if any(value is None for value in values):
                continue
            written = dict(zip(names, (node for _, node in combination), strict=True))
            for complaint in rule(*values):
                axis, *path = complaint.path
                problems.add(
                    _place(written[axis], path),
                    complaint.message,
                    known=complaint.known,
                    fix=complaint.fix,
                )


_ABSENT: Mapping[str, Any] = {"regularizer": {}}
"""Values of axes that a block may leave out and that are not always filled in."""


def _place(node: Node, path: Sequence[str]) -> Place:
    """Of the innermost node on a path that the user wrote."""
    for key in path:
        if key not in node.items():
            break
        node = node.items()[key]
    return node.place


def _model(model: ModelSpec) -> Iterator[Complaint]:
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
                ("exact", "hutchinson"),
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


def _tf32(precision: str, resources: Resources) -> Iterator[Complaint]:
    if precision == "tf32" and resources.gpus == 0:
        yield Complaint(
            ("precision",),
            "'tf32' is a way in which GPUs multiply, and the suite asks for none",
            "write 'resources: {gpus: 1}', or another precision",
            ("float32", "float64"),
        )


def _fits(dataset: DatasetRef, model: ModelSpec) -> Iterator[Complaint]:
    """A model against the shape of the data, where that is known before they are read."""
    facts = declared(dataset.name)
    if facts is None or any(_model(model)):
        return
    if facts.likelihood != "density" and model.posterior is None:
        yield Complaint(
            ("dataset",),
            f"'{dataset.name}' is for autoencoders, whose model has a 'posterior'",
            "add 'posterior: {}' to the model, or choose another dataset",
        )
    elif facts.likelihood == "density" and model.posterior is not None:
        yield Complaint(
            ("model", "posterior"),
            f"'{dataset.name}' has densities to fit; an autoencoder needs binary or grey images",
            "remove it, or choose a dataset for autoencoders ('harness list' says which)",
        )
    elif facts.event_shape is not None:
        # One block is like the other.
        one = replace(model, blocks=1)
        try:
            array_specs(one, facts.event_shape, categorical=facts.likelihood == "categorical")
        except BackendError as error:
            yield Complaint(
                ("model", "strides"),
                f"the model does not fit '{dataset.name}': {error}",
                f"an example has shape {list(facts.event_shape)}; give datasets of other shapes "
                "blocks of their own",
            )


def _measurable(dataset: DatasetRef, evaluation: Evaluation) -> Iterator[Complaint]:
    """What is measured after the test against the kind of the data."""
    facts = declared(dataset.name)
    if facts is None:
        return
    if evaluation.sample_metrics and kind_of(facts) not in ("table", "toy"):
        yield Complaint(
            ("evaluation", "sample_metrics"),
            f"'sample_metrics' compares rows of numbers, and '{dataset.name}' has images",
            "remove it" + ("; for autoencoders there is 'image_metrics: true'"
                           if facts.likelihood != "density" else ""),
        )  # fmt: skip
    if facts.likelihood != "density":
        if evaluation.importance_samples and evaluation.trace != "exact":
            yield Complaint(
                ("evaluation", "importance_samples"),
                "importance weights need the exact trace: an estimate of it would not average out "
                "inside the logarithm",
                "write 'trace: exact'",
            )
        return
    for name in ("image_metrics", "importance_samples"):
        if getattr(evaluation, name):
            yield Complaint(
                ("evaluation", name),
                f"'{name}' is of autoencoders, and '{dataset.name}' has densities to fit",
                "remove it, or give datasets for autoencoders blocks of their own",
            )


def _affordable(
    dataset: DatasetRef, evaluation: Evaluation, resources: Resources
) -> Iterator[Complaint]:
    """The metrics of samples against the time limit, if the data's width is known."""
    wanted, facts = evaluation.sample_metrics, declared(dataset.name)
    if wanted is None or facts is None or len(facts.event_shape or ()) != 1:
        return
    (dimension,) = facts.event_shape or ()
    minutes = protocol_cost(wanted, dimension, facts.test_rows).seconds / 60
    if minutes > resources.timeout_minutes:
        yield Complaint(
            ("evaluation", "sample_metrics"),
            f"the sample metrics of '{dataset.name}' alone take about {minutes:,.0f} minutes, and "
            f"a trial is stopped after {resources.timeout_minutes:g}",
            "raise resources.timeout_minutes, or lower rows, samplings or exact_emd_rows",
        )


_RULES: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("model",), _model),
    (("training",), _training),
    (("model", "training"), _kl_warmup),
    (("model", "training", "evaluation"), _bottleneck),
    (("training", "regularizer"), _bottleneck_probe),
    (("solver", "regularizer"), _warm),
    (("model", "regularizer"), _steer),
    (("precision", "resources"), _tf32),
    (("dataset", "model"), _fits),
    (("dataset", "evaluation"), _measurable),
    (("dataset", "evaluation", "resources"), _affordable),
)
