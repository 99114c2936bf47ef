"""The identity of a trial and its JSON form."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.labels import MAIN_AXES
from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS
from harness.trial import (
    AXES,
    SEMANTICS_VERSION,
    AdaptiveSolver,
    BatchNorm,
    Bound,
    DatasetRef,
    EndTime,
    EngineName,
    Evaluation,
    FixedSolver,
    FlowMatching,
    GradientName,
    LayerName,
    LibrarySolver,
    ModelSpec,
    NonlinearityName,
    Optimizer,
    Patience,
    Posterior,
    PrecisionName,
    RegularizerName,
    SampleMetrics,
    Schedule,
    TraceName,
    Training,
    Trial,
    canonical,
    decode,
    encode,
)

BASE = Trial(DatasetRef("moons", "09d92dd64d16d461"), "torch", AdaptiveSolver("dopri5"))

# Whole floats are drawn as int, too: the form in which Python code often has them.
positive = st.floats(1e-12, 1e6) | st.integers(1, 100)
count = st.integers(1, 10**6)
adaptive = st.builds(
    AdaptiveSolver,
    name=st.sampled_from(ADAPTIVE_SOLVERS),
    rtol=positive,
    atol=positive,
    first_step=st.sampled_from(["heuristic", "warm", "whole", 1]) | st.floats(1e-9, 1.0),
    norm=st.sampled_from(["mixed", "rms_all"]),
    max_steps=count,
    end=st.sampled_from(["interpolate", "stop"]),
)
fixed = st.builds(FixedSolver, name=st.sampled_from(FIXED_SOLVERS), steps=count)
library = st.builds(
    LibrarySolver, library=st.text(), rtol=positive, steps=st.none() | count, max_steps=count
)
solver = adaptive | fixed | library
counts = st.lists(count, max_size=3).map(tuple)
trace = st.sampled_from(get_args(TraceName))
trials = st.builds(
    Trial,
    dataset=st.builds(DatasetRef, name=st.text(), digest=st.text("0123456789abcdef")),
    backend=st.text(),
    solver=solver,
    model=st.builds(
        ModelSpec,
        layer=st.sampled_from(get_args(LayerName)),
        hidden=st.lists(count, max_size=4).map(tuple),
        nonlinearity=st.sampled_from(get_args(NonlinearityName)),
        blocks=count,
        end_time=st.builds(
            EndTime, value=positive, mode=st.sampled_from(["fixed", "inert", "trained"])
        ),
        strides=st.none() | st.lists(st.sampled_from([-2, 1, 2]), max_size=4).map(tuple),
        scales=count,
        residual=st.booleans(),
        batch_norm=st.none() | st.builds(BatchNorm, lag=st.sampled_from([0, 0.5])),
        spectral_norm=st.booleans(),
        zero_last=st.booleans(),
        posterior=st.none() | st.builds(Posterior, latent=count, rank=count),
    ),
    regularizer=st.dictionaries(st.sampled_from(get_args(RegularizerName)), positive, max_size=3),
    training=st.builds(
        Training,
        iterations=count,
        batch=count,
        optimizer=st.builds(
            Optimizer,
            name=st.sampled_from(["adam", "adam_eps_hat", "adamax", "adamw"]),
            lr=positive,
            weight_decay=st.sampled_from([0, 1e-6]),
            clip_norm=st.none() | positive,
        ),
        schedule=st.builds(Schedule, warmup=count, drops=counts, kl_warmup=count),
        patience=st.builds(Patience, drops=counts, stop=st.none() | count, after=count),
        trace=trace,
        probe=st.sampled_from(["gaussian", "rademacher"]),
        validate_every=st.integers(0, 100),
        validation_rows=st.none() | count,
        keep=st.sampled_from(["best", "last"]),
        last_batch=st.sampled_from(["drop", "keep"]),
        stratified=st.booleans(),
        validation_batch=count,
        validation_trace=st.none() | trace,
        protocol=st.sampled_from([None, "paper", "released-code"]),
    ),
    evaluation=st.builds(
        Evaluation,
        trace=trace,
        batch=count,
        rows=st.none() | count,
        solver=st.none() | solver,
        samples=st.integers(0, 100),
        sample_metrics=st.none() | st.builds(SampleMetrics, rows=count, samplings=count),
        image_metrics=st.booleans(),
        importance_samples=st.integers(0, 100),
    ),
    gradient=st.sampled_from(get_args(GradientName)),
    engine=st.sampled_from(get_args(EngineName)),
    precision=st.sampled_from(get_args(PrecisionName)),
    seed=st.integers(-(2**63), 2**63),
    shards=count,
)


def types_of(value: Any) -> Any:  # noqa: ANN401
    """The types of all leaves, so that 1 and 1.0 are told apart."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: types_of(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value), fields
    if isinstance(value, dict):
        return {key: types_of(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(types_of(item) for item in value)
    return type(value)


@given(trials)
@settings(max_examples=200, deadline=None)
def test_round_trip_through_json(trial: Trial) -> None:
    back = decode(Trial, json.loads(json.dumps(encode(trial))))
    assert back == trial
    assert back.id == trial.id
    again = decode(Trial, json.loads(canonical(back)))
    assert again == back
    assert types_of(again) == types_of(back)


@given(trials)
@settings(max_examples=100, deadline=None)
def test_canonical_json_is_sorted_compact_and_plain(trial: Trial) -> None:
    text = canonical(trial)
    value = json.loads(text)
    assert text == json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert trial.id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_golden_identity() -> None:
    """Another value here means that every record on disk loses its trial."""
    assert BASE.id == "c1deb6af96d368ff"
    full = replace(
        BASE,
        solver=FixedSolver("rk4_38", 8),
        model=ModelSpec(
            "concat",
            (64, 64, 64),
            "softplus",
            2,
            EndTime(0.5, "inert"),
            strides=(1, 1, 1, 1),
            scales=3,
            batch_norm=BatchNorm(),
            zero_last=True,
        ),
        regularizer={"rnode.kinetic": 0.01, "rnode.jacobian": 0.01},
        training=Training(
            200,
            1000,
            Optimizer("adam_eps_hat", 1e-3, weight_decay=1e-6),
            Schedule(1000, (250, 500)),
            Patience((10, 20), 30),
            protocol="paper",
        ),
        evaluation=Evaluation(
            "hutchinson",
            500,
            2000,
            AdaptiveSolver("tsit5", 1e-6, 1e-8),
            sample_metrics=SampleMetrics(200, 2),
        ),
        gradient="direct",
        engine="library",
        precision="float64",
        seed=7,
    )
    assert full.id == "7123eaa304e03673"


def test_canonical_form_spelled_out() -> None:
    assert canonical(BASE) == (
        '{"backend":"torch","dataset":{"digest":"09d92dd64d16d461","name":"moons"},'
        '"engine":"native",'
        '"evaluation":{"batch":1000,"image_metrics":false,"importance_samples":0,"rows":null,'
        '"sample_metrics":null,"samples":1000,"solver":null,"trace":"exact"},'
        '"gradient":"adjoint","model":{"batch_norm":null,"blocks":1,'
        '"end_time":{"mode":"fixed","value":1.0},'
        '"hidden":[64,64,64],"layer":"concatsquash","nonlinearity":"tanh","posterior":null,'
        '"residual":false,"scales":1,"spectral_norm":false,"strides":null,"zero_last":false},'
        '"precision":"float32","regularizer":{},"seed":0,"semantics_version":2,"shards":1,'
        '"solver":{"atol":1e-05,"backward_first_step":"forward","end":"stop",'
        '"first_step":"heuristic","max_steps":1000,"name":"dopri5","norm":"mixed",'
        '"regularizers_in_norm":false,"rtol":1e-05},"training":{"batch":100,'
        '"iterations":1000,"keep":"best","last_batch":"drop",'
        '"optimizer":{"clip_norm":null,"eps":1e-08,"lr":0.001,"name":"adam","weight_decay":0.0},'
        '"patience":{"after":0,"drops":[],"stop":null},"probe":"gaussian","protocol":null,'
        '"schedule":{"drops":[],"factor":0.1,"kl_warmup":0,"warmup":0},'
        '"stratified":false,"trace":"hutchinson","validate_every":200,'
        '"validation_batch":1000,"validation_rows":null,'
        '"validation_trace":null}}'
    )


def test_an_identity_that_is_given_is_kept_and_not_inherited() -> None:
    given = replace(BASE, gradient="direct", identity=BASE.id)
    assert given.id == BASE.id
    assert given == replace(BASE, gradient="direct")
    assert "identity" not in encode(given)
    assert replace(given, seed=1).id == replace(BASE, gradient="direct", seed=1).id


def test_the_axes_are_the_fields_that_a_suite_chooses() -> None:
    fields = {field.name for field in dataclasses.fields(Trial)}
    assert fields - set(AXES) == {"shards", "semantics_version"}
    assert set(MAIN_AXES) < set(AXES) < fields


def _whole(one: float) -> Trial:
    return replace(
        BASE,
        solver=AdaptiveSolver("dopri5", rtol=one, atol=one, first_step=one),
        model=ModelSpec(end_time=EndTime(one), batch_norm=BatchNorm(decay=one)),
        regularizer={"rnode.kinetic": one},
        training=Training(
            optimizer=Optimizer(lr=one, eps=one, weight_decay=one, clip_norm=one),
            schedule=Schedule(factor=one),
        ),
        evaluation=Evaluation(solver=AdaptiveSolver("bosh3", rtol=one)),
    )


def test_1_and_1_point_0_are_one_trial_in_every_float_field() -> None:
    assert canonical(_whole(1)) == canonical(_whole(1.0))
    counts = ("blocks", "scales", "shards")
    found = re.findall(r'"(\w+)":1[,}]', canonical(_whole(1)))
    assert sorted(found) == sorted(counts)


def test_counts_stay_integers() -> None:
    trial = replace(
        BASE, evaluation=Evaluation(rows=100), training=Training(validation_rows=50, batch=10)
    )
    back = decode(Trial, encode(trial))
    assert (type(back.evaluation.rows), back.evaluation.rows) == (int, 100)
    assert (type(back.training.validation_rows), type(back.training.batch)) == (int, int)
    assert back.id == trial.id


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, dataset=DatasetRef("moons", "0" * 16)),
        replace(BASE, backend="jax"),
        replace(BASE, solver=AdaptiveSolver("tsit5")),
        replace(BASE, solver=AdaptiveSolver("dopri5", rtol=1.0000000000000002e-5)),
        replace(BASE, regularizer={"rnode.kinetic": 0.01}),
        replace(BASE, evaluation=Evaluation(solver=AdaptiveSolver("dopri5"))),
        replace(BASE, evaluation=Evaluation(sample_metrics=SampleMetrics())),
        replace(BASE, solver=AdaptiveSolver("dopri5", end="interpolate")),
        replace(BASE, solver=AdaptiveSolver("dopri5", log_volume_in_state=True)),
        replace(BASE, solver=LibrarySolver("diffrax:Dopri5")),
        replace(BASE, gradient="direct"),
        replace(BASE, objective=FlowMatching()),
        replace(BASE, engine="library"),
        replace(BASE, precision="float64"),
        replace(BASE, seed=1),
        replace(BASE, shards=2),
        replace(BASE, semantics_version=SEMANTICS_VERSION + 1),
    ],
)
def test_every_field_is_part_of_the_identity(other: Trial) -> None:
    assert other.id != BASE.id


def test_order_of_regularizers_does_not_matter() -> None:
    one = replace(BASE, regularizer={"rnode.kinetic": 0.1, "rnode.jacobian": 0.2})
    two = replace(BASE, regularizer={"rnode.jacobian": 0.2, "rnode.kinetic": 0.1})
    assert one.id == two.id


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_numbers_have_no_identity(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        _ = replace(BASE, training=Training(optimizer=Optimizer(lr=value))).id


def test_a_corrupt_record_is_refused() -> None:
    value = encode(BASE)
    with pytest.raises(KeyError):
        decode(Trial, value | {"colour": "red"})
    with pytest.raises(TypeError):
        decode(Trial, {key: item for key, item in value.items() if key != "backend"})
    with pytest.raises(TypeError, match="no spec has the fields"):
        decode(Trial, value | {"solver": {"name": "rk4_38", "step": 4}})


def test_a_record_of_an_earlier_version_says_less() -> None:
    """Fields that came later have the meaning of their defaults; its id is of what it says."""
    value = encode(BASE)
    del value["solver"]["regularizers_in_norm"], value["training"]["last_batch"]
    assert decode(Trial, value) == BASE
    del value["solver"]["name"]
    with pytest.raises(TypeError, match="no spec has the fields"):
        decode(Trial, value)


@pytest.mark.parametrize("objective", [FlowMatching(), FlowMatching("vp", "minibatch_ot")])
def test_an_objective_is_said_only_where_it_is_not_the_likelihood(objective: FlowMatching) -> None:
    assert "objective" not in encode(BASE)
    trial = replace(BASE, objective=objective)
    back = decode(Trial, encode(trial))
    assert (back, back.id, back.training_id) == (trial, trial.id, trial.training_id)
    assert back.training_id != BASE.training_id
    assert decode(Trial, encode(BASE) | {"objective": {"name": "likelihood"}}) == BASE


def test_probes_are_said_only_where_they_are_several() -> None:
    several = replace(BASE, training=Training(probes=2), evaluation=Evaluation(probes=3))
    assert "probes" not in canonical(BASE)
    back = decode(Trial, encode(several))
    assert (back, back.id) == (several, several.id)
    assert len({BASE.id, several.id, replace(several, evaluation=Evaluation()).id}) == 3


def test_a_later_field_is_said_only_where_it_differs() -> None:
    assert "log_volume_in_state" not in encode(BASE)["solver"]
    carrying = replace(BASE, solver=AdaptiveSolver("dopri5", log_volume_in_state=True))
    assert encode(carrying)["solver"]["log_volume_in_state"] is True
    assert decode(Trial, encode(carrying)) == carrying


def test_evaluation_solver_falls_back_to_the_training_solver() -> None:
    assert BASE.evaluation_solver == BASE.solver
    other = FixedSolver("euler", 2)
    assert replace(BASE, evaluation=Evaluation(solver=other)).evaluation_solver == other


@pytest.mark.parametrize(
    ("bound", "good", "bad", "text"),
    [
        (Bound(above=0), 1e-300, 0.0, "greater than 0"),
        (Bound(at_least=1), 1, 0.999, "at least 1"),
        (Bound(above=0, at_most=1), 1, 1.001, "greater than 0 and at most 1"),
        (Bound(at_least=0), 0, math.nan, "at least 0"),
        (Bound(at_least=0), 0, math.inf, "at least 0"),
    ],
)
def test_bounds(bound: Bound, good: float, bad: float, text: str) -> None:
    assert bound.check(good) == good
    with pytest.raises(ValueError, match=f"must be {text}"):
        bound.check(bad)
