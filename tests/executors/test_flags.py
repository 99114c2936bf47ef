"""Flags that XLA refuses are named before a trial meets them."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from fakes import fake_trial

from harness.errors import InputError
from harness.executors.flags import require_accepted_flags
from harness.planning.plan import Plan, PlannedTrial
from harness.specs.resources import Resources


def _plan(backend: str) -> Plan:
    trial = replace(fake_trial(), backend=backend)
    return Plan("toy", "", (PlannedTrial(trial, "to_run", None, Resources()),))


def test_a_flag_that_xla_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag")
    with pytest.raises(InputError, match="XLA_FLAGS: '--no_such_flag' is refused"):
        require_accepted_flags(_plan("jax"))


@pytest.mark.parametrize(("backend", "value"), [("torch", "--no_such_flag"), ("jax", "")])
def test_nothing_is_asked_where_it_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, backend: str, value: str
) -> None:
    monkeypatch.setenv("XLA_FLAGS", value)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was asked"))
    require_accepted_flags(_plan(backend))
