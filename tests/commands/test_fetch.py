"""All data of a suite, before its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.datasets import registry
from harness.errors import DataError, InputError

SUITE = """\
name: some
defaults: {backend: torch, solver: {name: euler, steps: 2}}
trials:
  - {dataset: [moons, standin-8d, moons]}
  - {dataset: circles, seed: [0, 1]}
exclude:
  - {when: dataset=circles, reason: not today}
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "some.yaml"
    path.write_text(SUITE)
    return str(path)


def test_each_dataset_is_loaded_once_and_said(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    load = registry.load

    def watched(name: str, digest: str | None = None) -> object:
        asked.append(name)
        return load(name, digest)

    monkeypatch.setattr(registry, "load", watched)
    done = CliRunner().invoke(app, ["data", "--fetch", suite])
    assert done.exit_code == 0, done.output
    assert asked == ["moons", "standin-8d"]
    assert "train 20,000, val 2,000, test 4,000" in done.output


def test_what_is_missing_is_said_and_keeps_nothing_else_from_coming(
    suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = registry.load

    def offline(name: str, digest: str | None = None) -> object:
        if name == "moons":
            raise DataError("moons: no network")
        return load(name, digest)

    monkeypatch.setattr(registry, "load", offline)
    done = CliRunner().invoke(app, ["data", "--fetch", suite, "--json"])
    assert done.exit_code == 1
    first, second = json.loads(done.output)
    assert (first["name"], first["problem"]) == ("moons", "moons: no network")
    assert second["problem"] is None
    assert second["rows"]["test"] == 4000


def test_a_suite_is_fetched_or_a_dataset_described_not_both(suite: str) -> None:
    done = CliRunner().invoke(app, ["data", "moons", "--fetch", suite])
    assert isinstance(done.exception, InputError)
    assert "remove 'moons'" in str(done.exception)
