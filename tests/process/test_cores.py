from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.process.cores import lease, usable_cores


def test_leases_are_disjoint_while_cores_last(tmp_path: Path) -> None:
    cores = usable_cores()
    if len(cores) < 2:
        pytest.skip("needs two cores")
    with lease(1, folder=tmp_path, patience=0) as first:
        assert first.own
        assert first.alone()
        with lease(1, folder=tmp_path, patience=0) as second:
            assert second.own
            assert not set(first.cores) & set(second.cores)
            assert not first.alone()
            assert not second.alone()
        assert first.alone()


def test_cores_are_shared_and_said_to_be_when_none_is_free(tmp_path: Path) -> None:
    every = len(usable_cores())
    with lease(every, folder=tmp_path, patience=0) as first:
        assert first.own
        with lease(1, folder=tmp_path, patience=0) as second:
            assert len(second.cores) == 1
            assert not second.own
            assert not second.alone()
    with lease(every + 5, folder=tmp_path, patience=0) as more:
        assert more.cores == usable_cores()


def _hold(folder: str, ready: str) -> None:
    with lease(1, folder=Path(folder)):
        Path(ready).touch()
        time.sleep(60)


def test_a_killed_process_gives_its_cores_back(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    folder = tmp_path / "locks"
    folder.mkdir()
    process = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(str(folder), str(ready))
    )
    process.start()
    while not ready.exists():
        time.sleep(0.02)
    every = len(usable_cores())
    with lease(every, folder=folder, patience=0) as shared:
        assert not shared.own
    process.kill()
    process.join()
    with lease(every, folder=folder, patience=0) as own:
        assert own.own
        assert own.alone()


def _exclusive(folder: str, done: str) -> None:
    with lease(1, folder=Path(folder), exclusive=True):
        Path(done).touch()


def test_exclusive_waits_for_all_others(tmp_path: Path) -> None:
    done = tmp_path / "done"
    folder = tmp_path / "locks"
    folder.mkdir()
    process = multiprocessing.get_context("spawn").Process(
        target=_exclusive, args=(str(folder), str(done))
    )
    with lease(1, folder=folder):
        process.start()
        time.sleep(1.0)
        assert not done.exists()
    process.join(20)
    assert done.exists()


def test_whoever_waits_for_the_machine_can_be_stopped(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    waiting = lease(1, folder=tmp_path, exclusive=True, check=stop)
    with lease(1, folder=tmp_path), pytest.raises(Stopped), waiting:
        pass
    # It holds nothing that keeps others away.
    with lease(1, folder=tmp_path, exclusive=True) as held:
        assert held.alone()


def test_pinning_sets_cores_threads_and_hides_gpus() -> None:
    core = usable_cores()[-1]
    code = (
        f"import os, sys; from harness.process.cores import pin; pin(({core},), 'cpu');"
        "assert 'numpy' not in sys.modules;"
        "print(os.sched_getaffinity(0), *(os.environ[k] for k in"
        " ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'JAX_PLATFORMS')))"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split(" ", 1) == [f"{{{core}}}", "1 1  cpu\n"]
