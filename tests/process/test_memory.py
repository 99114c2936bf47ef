"""Memory by phase, above what the process held before."""

from __future__ import annotations

import sys

import pytest

from harness.process.memory import Footprint, memory_above, peak_host_bytes

linux = pytest.mark.skipif(sys.platform != "linux", reason="counters of Linux")
MIB = 2**20


def _hold(size: int) -> None:
    bytearray(size)[::4096] = b"1" * (size // 4096)


@linux
def test_each_phase_has_its_own_peak_and_the_process_keeps_its_largest() -> None:
    before = peak_host_bytes()
    footprint = Footprint()
    for phase, size in (("training", 300), ("validation", 80), ("training", 40)):
        footprint.enter(phase)
        _hold(size * MIB)
    footprint.enter(None)
    _hold(200 * MIB)
    footprint.enter(None)
    assert footprint.above.keys() == {"training", "validation"}
    # The page tables and the interpreter take a little more; a phase is not charged for another.
    assert 290 * MIB < footprint.above["training"] < 350 * MIB
    assert 75 * MIB < footprint.above["validation"] < 130 * MIB
    assert peak_host_bytes() >= max(before, 300 * MIB)


@linux
def test_memory_that_a_phase_has_freed_does_not_count_in_the_next() -> None:
    footprint = Footprint()
    footprint.enter("training")
    # Pieces of the heap, not mapped one by one: freed, they stay with the process.
    litter = [bytes(1000) for _ in range(100_000)]
    kept = bytes(1000)
    del litter
    footprint.enter("validation")
    footprint.enter(None)
    assert len(kept) == 1000
    assert footprint.above["training"] > 90 * MIB
    assert footprint.above["validation"] < 20 * MIB


@linux
def test_a_call_is_not_charged_for_what_was_there() -> None:
    kept = bytearray(50 * MIB)
    kept[::4096] = b"1" * (len(kept) // 4096)
    above = memory_above(lambda: _hold(100 * MIB))
    assert above is not None
    assert 95 * MIB < above < 130 * MIB


def test_without_the_system_s_counters_no_phase_has_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(key: str) -> int:
        raise FileNotFoundError(key)

    monkeypatch.setattr("harness.process.memory._status", absent)
    footprint = Footprint()
    footprint.enter("training")
    footprint.enter(None)
    assert footprint.above == {}
    assert memory_above(lambda: None) is None
