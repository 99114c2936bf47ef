"""Damaged, foreign, copied and mistyped files of a run root are named, and never believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fakes import fake_trial, result_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.commands.show import show
from harness.commands.views import show_json, show_text
from harness.errors import RecordError
from harness.records.folder import Record, TrialFolder, read_records, trial_ids
from harness.records.frame import history, load
from harness.records.readers import read_choices, read_lines, read_object, read_spec
from harness.specs.resources import Resources

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return _written(tmp_path, 0)


def _written(root: Path, seed: int) -> TrialFolder:
    trial = fake_trial(seed=seed)
    folder = TrialFolder(root, trial.id)
    folder.write_spec(trial, Resources())
    metrics = {"test_nll": {"value": 2.5, "unit": "nats", "n": 10}}
    folder.commit_result(result_json(trial.id, metrics=metrics, timing={"mode": "shared"}))
    return folder


def _changed(path: Path, change: Change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


RESULTS: list[tuple[str, Change]] = [
    ("lacks 'schema_version'", lambda v: v.clear()),
    ("lacks 'status'", lambda v: v.pop("status")),
    ("lacks 'attempt_id'", lambda v: v.pop("attempt_id")),
    ("lacks 'trial_id'", lambda v: v.pop("trial_id")),
    ("'metrics.test_nll' lacks 'value'", lambda v: v["metrics"]["test_nll"].pop("value")),
    ("of schema version 99", lambda v: v.update(schema_version=99)),
    ("'status' is not a text", lambda v: v.update(status={})),
    ("'status' is 'fine'", lambda v: v.update(status="fine")),
    ("'trial_id' is not a text", lambda v: v.update(trial_id={})),
    ("the record of trial 0{16}, in the folder", lambda v: v.update(trial_id="0" * 16)),
    ("'metrics.test_nll' is not an object", lambda v: v.update(metrics={"test_nll": 3})),
    ("'metrics' is not an object", lambda v: v.update(metrics=[])),
    ("value' is not a number", lambda v: v["metrics"]["test_nll"].update(value="low")),
    ("value' is not a number", lambda v: v["metrics"]["test_nll"].update(value=10**400)),
    ("'timing.train_s' is not a number", lambda v: v.update(timing={"train_s": "fast"})),
    ("'finished_ms' is", lambda v: v.update(finished_ms=10**30)),
    ("NaN is not JSON", lambda v: v["metrics"]["test_nll"].update(value=float("nan"))),
]


@pytest.mark.parametrize(("cause", "change"), RESULTS)
def test_a_mistyped_result_is_named_with_its_key(
    folder: TrialFolder, cause: str, change: Change
) -> None:
    _changed(folder.result, change)
    with pytest.raises(RecordError, match=cause) as raised:
        folder.read_result()
    assert str(folder.result) in str(raised.value)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"\x7fELF\x00\xff", b"[" * 100_000, b'{"a":' * 60 + b"1" + b"}" * 60]
)
def test_what_is_no_json_object_is_named(folder: TrialFolder, raw: bytes) -> None:
    for path in (folder.result, folder.spec):
        path.write_bytes(raw)
    with pytest.raises(RecordError, match=r"result\.json"):
        folder.read_result()
    with pytest.raises(RecordError, match=r"spec\.json"):
        folder.read_spec()


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a file; move it away"):
        read_object(tmp_path)


def test_half_of_a_surrogate_pair_is_escaped(folder: TrialFolder) -> None:
    _changed(folder.result, lambda v: v.update(message="\ud800"))
    result = folder.read_result()
    assert result is not None
    assert result["message"] == "\\ud800"


def test_all_damaged_records_are_named_after_the_sound_ones(tmp_path: Path) -> None:
    sound, *damaged = (_written(tmp_path, seed) for seed in range(3))
    damaged[0].result.write_text("")
    damaged[1].spec.unlink()
    found: list[Record] = []
    with pytest.raises(RecordError, match="2 records are damaged") as raised:
        found.extend(read_records(tmp_path))
    assert [record.trial.id for record in found] == [sound.trial_id]
    assert str(damaged[0].result) in str(raised.value)
    assert str(damaged[1].spec) in str(raised.value)


def test_a_copy_of_a_folder_is_no_second_trial(folder: TrialFolder) -> None:
    shutil.copytree(folder.path, folder.path.with_name(f"{folder.trial_id}.bak"))
    assert trial_ids(folder.root) == [folder.trial_id]
    assert len(load(folder.root)) == 1
    # Under the name of another trial it is a damaged record.
    shutil.copytree(folder.path, folder.path.with_name("0" * 16))
    with pytest.raises(RecordError, match=f"in the folder of trial {'0' * 16}"):
        load(folder.root)


def test_a_spec_with_resources_that_cannot_be_is_refused(folder: TrialFolder) -> None:
    for wrong in ({"cpus": "two"}, {"cpus": 0}, {"timeout_minutes": True}, {"gpus": -1.0}):
        values = json.loads(folder.spec.read_text())
        folder.spec.write_text(json.dumps({**values, "resources": wrong}))
        with pytest.raises(RecordError, match=r"spec\.json: not a spec of this version"):
            read_spec(folder.spec)


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1}',
        '{"step": 1, "timestamp_ms": 1, "loss": "low"}',
        '{"step": "x", "timestamp_ms": 1, "loss": 1}',
        '{"step": 1, "timestamp_ms": 1, "loss": [1]}',
        '{"step": 1, "timestamp_ms": 1, "loss": 1' + "0" * 400 + "}",
        "[1]",
        "[" * 100_000,
        "{",
    ],
)
def test_what_is_no_line_of_a_curve_is_left_out(folder: TrialFolder, line: str) -> None:
    good = '{"step": 2, "timestamp_ms": 5, "loss": 1.5}'
    attempt = folder.attempt("a")
    attempt.mkdir()
    (attempt / "metrics.jsonl").write_text(f"{line}\n{good}\n")
    assert read_lines(attempt / "metrics.jsonl") == [json.loads(good)]
    assert list(history(folder.root, [folder.trial_id])["value"]) == [1.5]


def test_what_the_harness_did_not_write_is_no_attempt(folder: TrialFolder) -> None:
    (folder.path / "attempt-notes.txt").touch()
    (folder.attempt("a") / "metrics.jsonl").mkdir(parents=True)
    (folder.path / "replaced-0" / "result.json").mkdir(parents=True)
    assert folder.attempts() == [folder.attempt("a")]
    assert folder.replaced() == []
    assert len(history(folder.root, [folder.trial_id])) == 0


@pytest.mark.parametrize(
    "values", [{}, {"gradient": "none", "backend": {}}, {"gradient": "adjoint", "backend": [1]}]
)
def test_damaged_choices_are_named_with_their_remedy(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    path = tmp_path / "choices.json"
    path.write_text(json.dumps(values))
    with pytest.raises(RecordError, match=r"choices\.json: '.*' is .*the trial starts anew"):
        read_choices(path, ("adjoint", "direct"))


def test_a_damaged_spec_is_written_anew(folder: TrialFolder) -> None:
    folder.spec.write_text("{")
    folder.write_spec(fake_trial(seed=0), Resources(), "toy")
    assert folder.read_spec() == (fake_trial(seed=0), Resources())
    assert folder.suites() == ["toy"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
PLACES = st.sampled_from(
    [(key,) for key in result_json("t", metrics={}, timing={}, nfe={}, memory={}, environment={})]
    + [(part, "x") for part in ("metrics", "timing", "nfe", "memory", "environment")]
    + [("metrics", "test_nll", key) for key in ("value", "unit", "n")]
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=PLACES, value=VALUES)
def test_any_value_anywhere_is_read_or_named(
    folder: TrialFolder, place: tuple[str, ...], value: object
) -> None:
    metrics = {"test_nll": {"value": 2.5, "unit": "nats", "n": 10}}
    result = result_json(folder.trial_id, metrics=metrics)
    below = result
    for key in place[:-1]:
        below = below.setdefault(key, {})
    below[place[-1]] = value
    folder.result.write_text(json.dumps(result))
    with suppress(RecordError):
        assert len(load(folder.root)) == 1
        found = show(folder.trial_id, folder.root)
        show_text(found).encode()
        json.dumps(show_json(found))
