"""Filters and the labels they are compared with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.labels import label
from harness.suites.filters import FIELDS, MAX_DEPTH, Filter, fields_of, parse_filter
from harness.trial import (
    AXES,
    Accuracy,
    AdaptiveSolver,
    BatchNorm,
    DatasetRef,
    EndTime,
    Evaluation,
    FixedSolver,
    FlowMatching,
    LibrarySolver,
    ModelSpec,
    Optimizer,
    Patience,
    Posterior,
    SampleMetrics,
    Schedule,
    Training,
    Trial,
)

TRIAL = Trial(
    DatasetRef("8gaussians", "0123"),
    "jax",
    AdaptiveSolver("dopri5"),
    regularizer={"rnode.kinetic": 0.01, "rnode.jacobian": 0.02},
    seed=3,
)


def matches(text: str, state: str = "to_run") -> bool:
    fields = {**fields_of(TRIAL, state), "id": (TRIAL.id,)}
    return parse_filter(text).matches(fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("backend=jax", True),
        ("backend!=jax", False),
        (" backend = jax ", True),
        ("backend=ja", False),
        ("backend=j*", True),
        ("backend=*", True),
        ("dataset=8*s", True),
        ("dataset!=8*", False),
        ("dataset=8.*", False),
        ("seed=3", True),
        ("seed==3", True),
        ("seed=03", False),
        ("solver=dopri5", True),
        ("solver!=dopri5", False),
        ("solver=tsit5", False),
        ('solver="dopri5 rtol=1e-05 atol=1e-05"', True),
        ("solver='dopri5 rtol=1e-06*'", False),
        ("regularizer=rnode.jacobian=0.02+rnode.kinetic=0.01", True),
        ("regularizer=*kinetic*", True),
        ("regularizer=none", False),
        ("precision=float32 & gradient=adjoint", True),
        ("backend=jax & seed=4", False),
        ("backend=torch | seed=3", True),
        ("backend=torch | seed=4", False),
        ("backend=jax | backend=torch & seed=4", True),
        ("(backend=jax | backend=torch) & seed=4", False),
        ("!backend=torch", True),
        ("!(backend=torch | seed=3)", False),
        ("!!seed=3", True),
        ("!backend=torch & seed=4", False),
        ("state=to_run", True),
        ("state=finished", False),
        (f"id={TRIAL.id}", True),
        (f"id={TRIAL.id[:6]}*", True),
        (f"id={TRIAL.id[:6]}", False),
    ],
)
def test_meaning(text: str, expected: bool) -> None:
    assert matches(text) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bakend=jax", "unknown field 'bakend'"),
        ("bakend=jax", "did you mean 'backend'?"),
        ("backend", "expected field=value or field!=value here"),
        ("backend=", "expected field=value or field!=value here"),
        ("backend=jax seed=3", "expected '&', '|' or the end here"),
        ("backend=jax)", "expected '&', '|' or the end here"),
        ("(backend=jax", "this parenthesis is never closed"),
        ("backend=jax &", "expected field=value at the end"),
        ("& backend=jax", "expected field=value here"),
        ("backend='jax", "expected field=value or field!=value here"),
        ("", "an empty filter"),
        ("   ", "an empty filter"),
        ("!" * (MAX_DEPTH + 1) + "seed=3", "nested deeper"),
        ("(" * 5000, "nested deeper"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_filter(text)
    assert str(caught.value).startswith("-k: ")
    assert message in str(caught.value)


def test_the_caret_stands_under_the_mistake() -> None:
    with pytest.raises(InputError) as caught:
        parse_filter("seed=1 & bakend=jax")
    _, source, caret, *_ = str(caught.value).splitlines()
    assert source[caret.index("^") : caret.rindex("^") + 1] == "bakend"


@given(st.text(alphabet="sed=!&|()*'\" \n1", max_size=30))
def test_any_text_is_a_filter_or_a_reported_mistake(text: str) -> None:
    try:
        found: Filter | None = parse_filter(text)
    except InputError:
        found = None
    if found is not None:
        fields = dict.fromkeys(FIELDS, ("x",))
        assert isinstance(found.matches(fields), bool)


def test_labels() -> None:
    found = label(TRIAL)
    assert tuple(found) == AXES
    assert found == {
        "dataset": "8gaussians",
        "backend": "jax",
        "solver": "dopri5 rtol=1e-05 atol=1e-05",
        "regularizer": "rnode.jacobian=0.02+rnode.kinetic=0.01",
        "model": "concatsquash 64-64-64 tanh x1",
        "training": "1000x100 adam lr=0.001 hutchinson",
        "evaluation": "exact batch=1000",
        "objective": "likelihood",
        "gradient": "adjoint",
        "engine": "native",
        "precision": "float32",
        "seed": "3",
    }


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        ("objective", FlowMatching(), "flow_matching linear independent"),
        (
            "objective",
            FlowMatching("linear", "minibatch_ot", 1e-3),
            "flow_matching linear minibatch_ot sigma_min=0.001",
        ),
        ("solver", FixedSolver("rk4_38", 8), "rk4_38 steps=8"),
        ("solver", AdaptiveSolver("tsit5", 1e-3, 1e-8), "tsit5 rtol=0.001 atol=1e-08"),
        (
            "solver",
            AdaptiveSolver("bosh3", first_step=0.5, norm="rms_all", max_steps=9),
            "bosh3 rtol=1e-05 atol=1e-05 first_step=0.5 norm=rms_all max_steps=9",
        ),
        (
            "solver",
            AdaptiveSolver("dopri8", first_step="warm", end="interpolate"),
            "dopri8 rtol=1e-05 atol=1e-05 first_step=warm end=interpolate",
        ),
        (
            "solver",
            LibrarySolver("torchdiffeq:adaptive_heun", max_steps=9),
            "torchdiffeq:adaptive_heun rtol=1e-05 atol=1e-05 max_steps=9",
        ),
        (
            "solver",
            LibrarySolver("diffrax:Ralston", steps=4),
            "diffrax:Ralston rtol=1e-05 atol=1e-05 steps=4",
        ),
        ("regularizer", {}, "none"),
        (
            "model",
            ModelSpec("hyper", (8, 4), strides=(2, 1, -2), scales=2, residual=True),
            "hyper 8-4 strides=2,1,-2 tanh x1 scales=2 residual",
        ),
        (
            "model",
            ModelSpec(batch_norm=BatchNorm(0.5), spectral_norm=True, zero_last=True),
            "concatsquash 64-64-64 tanh x1 spectral_norm zero_last batch_norm lag=0.5",
        ),
        (
            "model",
            ModelSpec(posterior=Posterior(rank=20), batch_norm=BatchNorm()),
            "concatsquash 64-64-64 tanh x1 batch_norm vae=64 low_rank rank=20",
        ),
        ("model", ModelSpec(hidden=()), "concatsquash linear tanh x1"),
        (
            "model",
            ModelSpec("concat", (8, 4), "softplus", 5, EndTime(0.5, "trained")),
            "concat 8-4 softplus x5 T=0.5 trained",
        ),
        (
            "training",
            Training(7, 9, Optimizer(lr=0.5), trace="exact", validation_rows=3, protocol="paper"),
            "7x9 adam lr=0.5 exact validation_rows=3 protocol=paper",
        ),
        (
            "training",
            Training(
                optimizer=Optimizer("adamw", eps=1e-7, weight_decay=1e-6, clip_norm=10.0),
                schedule=Schedule(100, (250, 500), 0.5, 40),
                patience=Patience((10, 20), 30, 7),
            ),
            "1000x100 adamw lr=0.001 eps=1e-07 weight_decay=1e-06 clip_norm=10 warmup=100 "
            "drops=250,500 factor=0.5 kl_warmup=40 patience_drops=10,20 patience_stop=30 "
            "patience_after=7 hutchinson",
        ),
        (
            "evaluation",
            Evaluation("hutchinson", 10, 20, FixedSolver("euler", 4), 0),
            "hutchinson batch=10 rows=20 samples=0 by euler steps=4",
        ),
        (
            "evaluation",
            Evaluation(
                sample_metrics=SampleMetrics(200, 2, 0), image_metrics=True, importance_samples=50
            ),
            "exact batch=1000 image_metrics importance_samples=50 metrics=2x200 exact_emd_rows=0",
        ),
    ],
)
def test_labels_of_other_values(axis: str, value: Any, expected: str) -> None:  # noqa: ANN401
    assert label(replace(TRIAL, **{axis: value}))[axis] == expected


def test_every_field_of_a_trial_shows_in_its_labels() -> None:
    """A field that is added to the spec and forgotten here would merge different trials."""
    shown = {json.dumps(label(TRIAL))}
    changed = list(_changes(TRIAL))
    for trial in changed:
        shown.add(json.dumps(label(trial)))
    assert len(changed) > 50
    assert len(shown) == 1 + len(changed)


_OTHERS: dict[str, Any] = {
    "accuracy": Accuracy(),
    "engine": "library",
    "batch_norm": BatchNorm(),
    "posterior": Posterior(),
    "sample_metrics": SampleMetrics(),
    "clip_norm": 1.0,
    "stop": 3,
    "strides": (1, 1, 1, 1),
    "regularizer": {"steer": 0.5},
    "first_step": "whole",
    "hidden": (3,),
    "drops": (3,),
    "protocol": "paper",
    "solver": FixedSolver("euler", 4),
}


def _changes(value: Any) -> Iterator[Any]:  # noqa: ANN401
    """Copies of a spec with one field changed, at every depth."""
    hints = get_type_hints(type(value))
    for name in (field.name for field in fields(value)):
        if name in ("digest", "shards", "semantics_version"):
            continue
        kind = hints[name]
        now = getattr(value, name)
        if is_dataclass(now):
            others = [*_changes(now)]
        elif name in _OTHERS:
            other = _OTHERS[name]
            others = [other, *(_changes(other) if is_dataclass(other) else ())]
        elif get_origin(kind) is Literal:
            others = [word for word in get_args(kind) if word != now]
        elif isinstance(now, bool):
            others = [not now]
        elif isinstance(now, int | float):
            others = [now + 1]
        elif now is None:
            others = [7]
        else:
            others = ["other"]
        yield from (replace(value, **{name: other}) for other in others)


def test_close_numbers_have_different_labels() -> None:
    labels = {
        label(replace(TRIAL, regularizer={"rnode.kinetic": weight}))["regularizer"]
        for weight in (0.12345678, 0.12345679)
    }
    assert len(labels) == 2
