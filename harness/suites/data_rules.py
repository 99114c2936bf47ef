"""What a dataset cannot be combined with, as far as it is known before the data are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.architecture.arrays import array_specs
from harness.datasets import registry as datasets
from harness.datasets.registry import Declaration
from harness.errors import BackendError, HarnessError
from harness.interface import DataInfo
from harness.metrics.paddingflow import protocol_cost
from harness.specs.resources import Resources
from harness.suites.presets import kind_of
from harness.suites.spec_rules import Complaint, Rule, model_complaints
from harness.trial import DatasetRef, Evaluation, ModelSpec, Training

__all__ = ["DATA_RULES", "declared"]


def declared(name: object) -> Declaration | None:
    """What is known of a dataset; None if there is none of this name."""
    try:
        return datasets.declare(name) if isinstance(name, str) else None
    except HarnessError:
        return None


def _fits(dataset: DatasetRef, model: ModelSpec) -> Iterator[Complaint]:
    """A model against the shape of the data, where that is known before they are read."""
    facts = declared(dataset.name)
    if facts is None or any(model_complaints(model)):
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
            array_specs(one, DataInfo(dataset.name, facts.event_shape, facts.likelihood))
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


def _stratifiable(dataset: DatasetRef, training: Training) -> Iterator[Complaint]:
    """Stratified batches are drawn from the formula of a toy."""
    facts = declared(dataset.name)
    if training.stratified and facts is not None and kind_of(facts) != "toy":
        yield Complaint(
            ("training", "stratified"),
            f"only batches of a 2-D toy can be stratified, and '{dataset.name}' is none",
            "remove it",
        )


DATA_RULES: tuple[Rule, ...] = (
    (("dataset", "model"), _fits),
    (("dataset", "evaluation"), _measurable),
    (("dataset", "training"), _stratifiable),
    (("dataset", "evaluation", "resources"), _affordable),
)
