"""Timings in the run root: committed once, read whole or refused, ratios that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from timing_records import HARDWARE, timing_record

from harness.errors import RecordError
from harness.records.timings import TimingFolder, TimingRecord, read_timings
from harness.trial import AdaptiveSolver, DatasetRef, Trial

SETTING = "0123456789abcdef"
A = Trial(dataset=DatasetRef("moons", "none"), backend="a", solver=AdaptiveSolver("dopri5"))
B = replace(A, backend="b")
FACTORS = (0.5, 0.7, 0.6, 0.62, 0.64, 0.58, 0.61)


def record(**changes: object) -> TimingRecord:
    return timing_record(SETTING, (A, B), FACTORS, **changes)  # type: ignore[arg-type]


def test_the_ratio_is_the_median_over_rounds_with_the_interval_of_the_sign_test() -> None:
    found = record().ratio("trained", "train_step", "b", "a")
    assert found is not None
    assert found.n == 7
    assert [found.low, found.estimate, found.high] == pytest.approx([0.5, 0.61, 0.7])


def test_disturbed_rounds_count_only_where_quiet_ones_are_too_few() -> None:
    one = record(disturbed=[0])
    rounds, taken = one.of("trained")
    assert (len(rounds), taken) == (6, 7)
    assert not one.disturbed("trained")
    found = one.ratio("trained", "train_step", "b", "a")
    assert found is not None
    assert found.low == pytest.approx(0.58)
    two = record(disturbed=[0, 1])
    assert len(two.of("trained")[0]) == 7
    assert two.disturbed("trained")


def test_what_is_committed_is_read_again_and_the_first_commit_wins(tmp_path: Path) -> None:
    folder = TimingFolder(tmp_path, SETTING, HARDWARE)
    assert folder.read() is None
    assert folder.commit(record())
    assert not folder.commit(record(message="later"))
    found = folder.read()
    assert found is not None
    assert replace(found, finished_ms=0) == record()
    assert found.finished_ms > 0
    assert list(read_timings(tmp_path, [SETTING])) == [found]
    assert list(read_timings(tmp_path, ["f" * 16])) == []
    folder.set_aside()
    assert folder.read() is None
    assert list(folder.path.glob("replaced-*/timing.json"))


def _without(values: dict[str, Any], *path: str | int) -> None:
    *where, last = path
    target: Any = values
    for key in where:
        target = target[key]
    del target[last]


DAMAGE: dict[str, Callable[[dict[str, Any]], None]] = {
    "no version": lambda values: _without(values, "schema_version"),
    "of a later version": lambda values: values.update(schema_version=99),
    "of another setting": lambda values: values.update(setting_id="f" * 16),
    "of other hardware": lambda values: values.update(hardware="f" * 12),
    "an unknown status": lambda values: values.update(status="fine"),
    "a number as text": lambda values: values.update(cores="2"),
    "no cores": lambda values: values.update(cores=0),
    "a negative time": lambda values: values["backends"]["a"].update(cold_s=-1.0),
    "a backend without its errors": lambda values: _without(values, "backends", "a", "error_nats"),
    "unknown arrays": lambda values: values["rounds"][0].update(arrays="middling"),
    "a round without a backend": lambda values: _without(values, "rounds", 3, "seconds", "b"),
    "a round without an activity": lambda values: _without(
        values, "rounds", 3, "seconds", "b", "sampling"
    ),
    "a step in no time": lambda values: values["rounds"][1]["seconds"]["a"].update(train_step=0),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_timing_is_refused_with_its_path_and_the_remedy(
    damage: str, tmp_path: Path
) -> None:
    folder = TimingFolder(tmp_path, SETTING, HARDWARE)
    folder.commit(record())
    values = json.loads(folder.record.read_text())
    DAMAGE[damage](values)
    folder.record.write_text(json.dumps(values))
    with pytest.raises(RecordError) as raised:
        folder.read()
    assert str(folder.record) in str(raised.value)
    assert "; " in str(raised.value)
    with pytest.raises(RecordError):
        list(read_timings(tmp_path, [SETTING]))


def test_a_torn_timing_is_refused(tmp_path: Path) -> None:
    folder = TimingFolder(tmp_path, SETTING, HARDWARE)
    folder.commit(record())
    raw = folder.record.read_bytes()
    folder.record.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(RecordError, match="cannot be read"):
        folder.read()
