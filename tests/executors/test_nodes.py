"""What a joined cluster is told, and what its nodes are asked before anything is submitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import fake_trial

from harness.executors.nodes import asked_of, lacking, not_ready, proven, told
from harness.executors.ray import _remedy
from harness.planning.plan import PlannedTrial
from harness.specs.resources import Resources
from harness.trial import DatasetRef


def _planned(dataset: str = "moons") -> PlannedTrial:
    trial = replace(fake_trial(), backend="torch", dataset=DatasetRef(dataset, "d"))
    return PlannedTrial(trial, "to_run", None, Resources())


def test_settings_are_told_with_absolute_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"HARNESS_DATA_DIR": "data", "HARNESS_CHECKPOINT_SECONDS": "5"}
    settings |= {"HARNESS_CLUSTER": "a mark", "XLA_FLAGS": "--x", "UNRELATED": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    found = told()
    assert found["HARNESS_DATA_DIR"] == str(tmp_path / "data")
    assert found["HARNESS_CHECKPOINT_SECONDS"] == "5"
    assert found["XLA_FLAGS"] == "--x"
    assert not {"HARNESS_CLUSTER", "UNRELATED"} & found.keys()


def test_a_node_like_this_one_lacks_nothing(tmp_path: Path) -> None:
    with proven(tmp_path) as proof:
        asked = json.loads(json.dumps(asked_of([_planned()], proof)))
        assert lacking(asked) == []
    assert not list(tmp_path.iterdir())


def test_what_a_node_lacks_is_said_by_node(tmp_path: Path) -> None:
    asked = asked_of([_planned("nowhere")], tmp_path / "elsewhere" / "proof")
    versions = {**asked["versions"], "torch": "1.0", "no-such-thing": "2.0"}
    found = lacking({**asked, "versions": versions})
    assert found[0].startswith("torch ")
    assert found[0].endswith(", but 'harness run' has 1.0: install the same")
    assert found[1] == "no-such-thing is missing, but 'harness run' has 2.0: install the same"
    assert found[2].startswith(f"it does not see the run root {tmp_path / 'elsewhere'}: choose")
    assert "nowhere" in found[3]
    assert len(found) == 4
    error = not_ready({"a (12)": [], "b (34)": found})
    assert str(error).startswith("nodes of the cluster are not ready:\n  node b (34): torch ")
    assert not_ready({"a": []}) is None


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Version mismatch: the cluster was started with", "versions of Ray and Python"),
        ("AuthenticationError: invalid token", "RAY_AUTH_MODE=token"),
        ("AF_UNIX path length cannot exceed 107 bytes", "RAY_TMPDIR"),
        ("Failed to connect to GCS", "'ray status --address here:1'"),
    ],
)
def test_an_error_of_joining_has_a_remedy(said: str, remedy: str) -> None:
    assert remedy in _remedy(said, "here:1")
