from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.interface import Nfe, StepReport
from harness.measuring.tally import Tally
from harness.training.checkpoint import Checkpoint, newest
from harness.training.totals import Totals


def _checkpoint(step: int) -> Checkpoint:
    totals = Totals(step=step, train_s=0.1 + 0.2, best_val_nll=1 / 3, step_s=[0.1, 1 / 7])
    totals.count(StepReport(1.0, 1.0, {}, Nfe((3, 4), (5,), (1,), (2,))))
    arrays = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "end": np.array(0.5, dtype=np.float32),
    }
    state = {"adam/m/w": np.ones((2, 3)), "adam/count": np.array(step, dtype=np.int64)}
    return Checkpoint(arrays, state, {"w": arrays["w"].T}, totals, "f00d", bitwise=False)


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written = _checkpoint(30)
    written.write(tmp_path)
    read = Checkpoint.read(tmp_path)
    assert read is not None
    for group in ("arrays", "state", "best"):
        for name, array in getattr(written, group).items():
            found = getattr(read, group)[name]
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            assert np.array_equal(found, array)
    assert read.totals == written.totals
    assert (read.fingerprint, read.bitwise) == ("f00d", False)


def test_the_newest_valid_one_is_found(tmp_path: Path) -> None:
    for name, step in (("a", 10), ("b", 30), ("c", 20)):
        (tmp_path / name).mkdir()
        _checkpoint(step).write(tmp_path / name)
    (tmp_path / "d").mkdir()
    attempts = [tmp_path / name for name in "abcd"]
    found = newest(attempts)
    assert found is not None
    assert (found[0].name, found[1].totals.step) == ("b", 30)
    file = tmp_path / "b" / "checkpoint" / "checkpoint.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:7], b"\0" * len(whole)):
        file.write_bytes(damaged)
        found = newest(attempts)
        assert found is not None
        assert found[0].name == "c"
    assert newest([tmp_path / "d"]) is None


def test_a_checkpoint_is_replaced_not_added_to(tmp_path: Path) -> None:
    for step in (10, 20):
        _checkpoint(step).write(tmp_path)
    assert [p.name for p in (tmp_path / "checkpoint").iterdir()] == ["checkpoint.safetensors"]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(1e-9, 1e6), max_size=20),
    st.integers(0, 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_totals_survive_json(step_s: list[float], step: int, value: float) -> None:
    totals = Totals(step=step, step_s=step_s, val_nll=value, shared=True)
    totals.nfe["forward"] = Tally.of([step, 3])
    totals.stale, totals.lr_drops = 3, 1
    copy = Totals.from_json(json.loads(json.dumps(totals.to_json())), step_s)
    assert copy == totals


def test_quartiles_leave_the_first_step_of_each_attempt_out() -> None:
    totals = Totals()
    for seconds, first in ((9.0, True), (1.0, False), (2.0, False), (7.0, True), (3.0, False)):
        totals.time_step(seconds, first)
    assert totals.timing()["step_s"] == {"median": 2.0, "q25": 1.5, "q75": 2.5, "n": 3}
    assert totals.first_step_s == 9.0
    assert totals.train_s == 22.0
    assert Totals().timing()["step_s"] is None


def test_counts_by_hand() -> None:
    totals = Totals()
    for forward, backward in (((7, 5), (3, 3)), ((9, 5), (4, 4))):
        totals.count(StepReport(0.0, 0.0, {}, Nfe(forward, backward, (2, 2), (1, 0))))
    assert totals.nfe["forward"].summary() == {"mean": 13.0, "max": 14, "n": 2}
    assert totals.nfe["backward"].summary() == {"mean": 7.0, "max": 8, "n": 2}
    assert totals.nfe["vjp"].summary() is None
    assert totals.rejected == 2
    totals.open_window()
    assert totals.window["forward"].mean is None
    assert totals.nfe["forward"].n == 2
    totals.count(StepReport(0.0, 0.0, {}, Nfe((7, 5), vjp=(6, 4), recompute=(6, 5))))
    assert totals.nfe["backward"].n == 2
    assert totals.nfe["vjp"].summary() == {"mean": 10.0, "max": 10, "n": 1}
    assert totals.window["recompute"].mean == 11.0
