"""Every case of the covering set against the oracle: initial arrays, evaluation, training step.

The oracle takes the same discrete steps, so agreement is a matter of rounding. Measured over all
cases of both backends, errors are about a tenth of the tolerances.
"""

from __future__ import annotations

import pytest

from harness.architecture.arrays import initial_arrays
from harness.conformance.cases import data_of
from harness.conformance.inputs import (
    agree,
    check_gradient,
    evaluate,
    gradient_of,
    inputs,
    take_step,
)
from harness.conformance.plugin import Subject
from harness.solvers import TABLEAUX

FIXED, ADAPTIVE = 1e-12, 1e-9
"""Of log p and the loss. An adaptive solver amplifies rounding: its first step comes from the
difference of two rates a small step apart."""

GRADIENT = 1e-7
"""Of the gradient of the discrete solution: rounding over the step of the differences, 1e-5."""

ADJOINT = {"euler": 0.2, "heun2": 1e-2, "midpoint": 1e-2, "rk4_38": 1e-4, "rk4_classic": 1e-4}
"""Of the adjoint on 16 equal steps, which approximates that gradient to the method's order."""

ADJOINT_ADAPTIVE = 2e-3
"""Of the adjoint at tolerance 1e-6; its largest error is 9e-4, with relu and bosh3."""

KINKS = ("elu", "relu")
"""The divergence of these nets has kinks or jumps, which move with the parameters. A gradient does
not see them move, and a difference of losses must be too small for one to pass an evaluation."""


def test_initial_arrays_are_the_architectures(subject: Subject) -> None:
    expected = initial_arrays(subject.trial, data_of(subject.trial))
    assert subject.arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert subject.arrays[name].dtype == value.dtype
        assert subject.arrays[name].tobytes() == value.tobytes(), name


# An evaluation knows no gradient mode, and the training steps compare the loss of every case.
@pytest.mark.modes("direct")
def test_evaluation(subject: Subject) -> None:
    batch, control = inputs(subject.trial, "evaluate")
    report = evaluate(subject.model, batch, control, "log_prob", "encode")
    run = subject.oracle.run(subject.arrays, batch, control)
    tolerance = ADAPTIVE if subject.case.adaptive else FIXED
    agree(report.values["log_prob"], run.log_prob, tolerance, "log p")
    agree(report.values["encode"], run.z, tolerance, "z")
    assert report.values["encode"].shape == batch.x.shape
    taken = run.solves[0]
    assert report.nfe.accepted == (len(taken.steps),)
    assert report.nfe.rejected == (taken.rejected,)
    attempts = len(taken.steps) + taken.rejected
    tableau = TABLEAUX[subject.case.solver]
    assert report.nfe.forward == (tableau.evaluations(attempts, heuristic=subject.case.adaptive),)
    assert report.nfe.backward == report.nfe.vjp == report.nfe.recompute == ()


def test_training_step(subject: Subject) -> None:
    case = subject.case
    batch, control = inputs(subject.trial)
    report = take_step(subject.model, batch, control)
    run = subject.oracle.run(subject.arrays, batch, control, train=True)
    agree(report.loss, run.loss, ADAPTIVE if case.adaptive else FIXED, "loss")
    if case.gradient != "adjoint":
        tolerance = GRADIENT
    elif case.adaptive:
        tolerance = ADJOINT_ADAPTIVE if case.nonlinearity in KINKS else 1e-4
    else:
        tolerance = ADJOINT[case.solver]
    gradient = gradient_of(subject.model.state())
    h = 1e-7 if case.gradient == "adjoint" and case.nonlinearity in KINKS else 1e-5
    check_gradient(gradient, subject.oracle, subject.arrays, (batch, control), run, tolerance, h=h)

    stages = TABLEAUX[case.solver].stages
    accepted = report.nfe.accepted[0]
    if case.gradient == "adjoint":
        assert report.nfe.backward[0] >= stages
        assert sum(report.nfe.vjp) == sum(report.nfe.recompute) == 0
    else:
        # The last stage of an FSAL pair in the last step does not reach the result.
        needed = accepted * TABLEAUX[case.solver].evaluations_per_step
        assert report.nfe.backward == ()
        assert report.nfe.vjp[0] >= needed
        again = needed if case.gradient == "checkpoint" else 0
        assert report.nfe.recompute[0] >= again if again else sum(report.nfe.recompute) == 0
