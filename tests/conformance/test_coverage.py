"""The kit asks a partial backend all that it supports, and certifies nothing if that is little."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import get_args

import pytest
from fakes import environment

from harness.conformance.cases import (
    Case,
    all_cases,
    all_pairs,
    coverage,
    covering_cases,
    pairs_of,
)
from harness.conformance.plugin import LEAST_COVERAGE
from harness.trial import GradientName


def test_every_pair_occurs_if_all_is_supported() -> None:
    assert coverage(covering_cases()) == 1.0


def test_every_pair_that_a_partial_backend_can_have_occurs() -> None:
    def supported(case: Case) -> bool:
        return not case.adaptive and (case.layer != "hyper" or case.form == "linear")

    cases = covering_cases(supported)
    assert all(map(supported, cases))
    possible = {
        pair for case in filter(supported, all_cases()) for pair in pairs_of(astuple(case))
    }
    assert coverage(cases) == len(possible) / len(all_pairs())
    assert LEAST_COVERAGE < coverage(cases) < 1


def test_a_backend_of_one_combination_is_below_the_bar() -> None:
    first = all_cases()[0]
    assert covering_cases(lambda case: case == first) == [first]
    assert coverage([first]) < LEAST_COVERAGE


@pytest.mark.parametrize(
    ("unsupported", "code", "line"),
    [
        (get_args(GradientName), 1, "certifies nothing"),
        (("adjoint",), 0, "of all pairs of values"),
    ],
    ids=["supports nothing", "lacks one mode"],
)
def test_the_exit_code_says_so(
    unsupported: tuple[str, ...], code: int, line: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "harness.conformance.plugin"]
    # A test that asks no backend passes with any: what fails the run is what was not asked.
    command += ["--pyargs", "harness.conformance.test_regularizers", "-k", "is_in_a_group"]
    done = subprocess.run(
        [*command, "--backend", "fake", "-p", "no:cacheprovider"],
        env=environment(tmp_path, unsupported=unsupported),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert line in done.stdout
    assert done.returncode == code
