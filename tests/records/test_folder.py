from __future__ import annotations

import json
import multiprocessing
import re
import time
from pathlib import Path

import pytest
from fakes import fake_trial

from harness.errors import RecordError
from harness.records.files import commit, dumps, now, replace
from harness.records.folder import TrialFolder
from harness.records.readers import read_lines, read_spec
from harness.records.result import Result
from harness.records.status import Status
from harness.specs.resources import Resources


def test_first_commit_wins_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert commit(path, b"one")
    assert not commit(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def _commit(path: str, word: str, won: str) -> None:
    if commit(Path(path), word.encode() * 100_000):
        (Path(won) / word).touch()


def test_one_of_many_concurrent_commits_wins_whole(tmp_path: Path) -> None:
    won = tmp_path / "won"
    won.mkdir()
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "result.json"
    workers = [
        context.Process(target=_commit, args=(str(path), word, str(won))) for word in "abcd"
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    (winner,) = [p.name for p in won.iterdir()]
    assert path.read_text() == winner * 100_000


def test_replace_overwrites_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace(path, b"long content")
    replace(path, b"short")
    assert path.read_bytes() == b"short"
    assert len(list(tmp_path.iterdir())) == 1


def test_not_a_number_becomes_null() -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5, (float("-inf"),)], "c": "NaN", "d": 0.1}
    assert json.loads(dumps(value)) == {"a": None, "b": [None, 1.5, [None]], "c": "NaN", "d": 0.1}


def test_spec_round_trip_gathers_suites(tmp_path: Path) -> None:
    trial, resources = fake_trial(), Resources(2, 0.5, 7.5)
    folder = TrialFolder(tmp_path, trial.id)
    folder.write_spec(trial, resources, "one")
    folder.write_spec(trial, resources, "two")
    folder.write_spec(trial, resources)
    assert read_spec(folder.spec) == (trial, resources)
    assert folder.suites() == ["one", "two"]


def test_spec_that_is_another_trial_is_refused(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path, fake_trial().id)
    folder.write_spec(fake_trial(), Resources())
    spec = json.loads(folder.spec.read_text())
    spec["trial"]["seed"] = 99
    folder.spec.write_text(json.dumps(spec))
    with pytest.raises(RecordError, match=r"says trial [0-9a-f]{16} but describes"):
        read_spec(folder.spec)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"trial": {}}', '{"trial": 3, "resources": {}}'])
def test_damaged_spec_is_a_record_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=re.escape(str(path))):
        read_spec(path)


def test_a_list_where_a_spec_belongs_is_a_record_error(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path, fake_trial().id)
    folder.write_spec(fake_trial(), Resources())
    spec = json.loads(folder.spec.read_text())
    spec["trial"]["solver"] = [1]
    folder.spec.write_text(json.dumps(spec))
    with pytest.raises(RecordError, match="a list where none belongs"):
        read_spec(folder.spec)


def test_torn_last_line_ends_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 10, "timestamp_ms": 1, "loss": 1.5}', '{"step": 20, "timestamp_ms": 2}']
    path.write_text("\n".join([*lines, '{"step": 30, "lo']))
    assert read_lines(path) == [
        {"step": 10, "timestamp_ms": 1, "loss": 1.5},
        {"step": 20, "timestamp_ms": 2},
    ]
    assert read_lines(tmp_path / "absent") == []


def test_results_are_set_aside_with_or_without_attempts(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path, "0123456789abcdef")
    folder.attempt("x").mkdir(parents=True)
    assert Result(Status.TIMEOUT, "late").commit(folder, "x")
    assert not Result(Status.OK).commit(folder, "y")
    assert (folder.read_result() or {})["status"] == "timeout"
    folder.set_aside(attempts=False)
    assert folder.read_result() is None
    assert folder.attempts() == [folder.attempt("x")]
    assert [old["attempt_id"] for old in folder.replaced()] == ["x"]
    folder.set_aside(attempts=True)
    assert folder.attempts() == []
    before = sorted(folder.path.iterdir())
    folder.set_aside(attempts=True)
    assert sorted(folder.path.iterdir()) == before


def test_damaged_result_is_a_record_error(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path, "0123456789abcdef")
    folder.path.mkdir(parents=True)
    folder.result.write_text('{"status": "o')
    with pytest.raises(RecordError, match=r"result\.json"):
        folder.read_result()


def test_every_status_has_a_word_a_sentence_and_a_remedy() -> None:
    words = "ok diverged timeout out_of_memory error killed skipped"
    assert {status.value for status in Status} == set(words.split())
    for status in Status:
        assert status.sentence.endswith(".")
        assert status.remedy.endswith(".")
    assert Status("killed") is Status.KILLED


def test_timestamps_are_milliseconds() -> None:
    assert abs(now() - time.time_ns() / 1e6) < 1000
