"""Damaged inputs of every kind, each of which must be read or refused in a sentence.

    python tests/reliability/fuzz.py [--count 500] [--seed 0]

`count` inputs of each kind are made by random damage to valid ones. A traceback, a read of more
than ten seconds or a file outside the folder is a fault, and is printed with what repeats it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.registry import declare, load
from harness.errors import HarnessError, RecordError
from harness.planning.plan import plan
from harness.records.folder import TrialFolder
from harness.records.frame import history
from harness.records.frame import load as load_records
from harness.records.readers import read_choices, read_lines, read_spec
from harness.specs.resources import Resources
from harness.suites.filters import parse_filter
from harness.training.checkpoint import Checkpoint
from harness.training.totals import Totals
from harness.trial import DatasetRef, FixedSolver, Trial

__all__ = ["KINDS", "fuzz"]

_SLOW_S = 10

_SUITE = """name: one
defaults: {backend: torch, solver: {name: rk4_38, steps: 2}}
trials:
  - dataset: moons
    seed: [0, 1]
    regularizer: {rnode.kinetic: 0.01}
    model: {layer: concat, hidden: [4, 4], end_time: {value: 0.5}}
    training: {iterations: 5, batch: 10, optimizer: {lr: 1e-3}}
  - {dataset: {name: mine, standardize: true}, evaluation: {rows: 20}}
gates: [{metric: test_nll, below: 3.0, when: "dataset=moons"}]
resources: {cpus: 1, timeout_minutes: 10}
"""

_TOKENS = (
    *(b"1e999", b"-1", b"9" * 400, b"NaN", b"null", b"{}", b"[]", b"[" * 300, b'{"a":' * 80),
    *(
        b"\x00",
        b"\xff\xfe",
        b'"\\ud800"',
        b"true",
        b"1:30",
        b"0x10",
        b"&a *a",
        b"<<: ",
        b"!!python",
    ),
    *(b"..", b"/etc/passwd", b"\n", b",", b"=", b"(", b"\xe2\x80\xa8", b"1_000", b"inf", b"~"),
)


def _damaged(raw: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut, doubled, or replaced by what parsers find hard."""
    for _ in range(chance.randint(1, 2)):
        start = chance.randrange(len(raw) + 1)
        end = min(len(raw), start + chance.randint(0, 40))
        piece = raw[start:end]
        raw = chance.choice(
            (
                raw[:start]
                + bytes(byte ^ 1 << chance.randrange(8) for byte in piece[:1])
                + raw[start + 1 :],
                raw[:start],
                raw[:start] + raw[end:],
                raw[:end] + piece + raw[end:],
                raw[:start] + chance.choice(_TOKENS) + raw[end:],
                raw[:start] + chance.randbytes(chance.randint(1, 20)) + raw[start:],
            )
        )
    return raw


class _Inputs:
    """A valid input of every kind in a folder, and how each is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trial = Trial(
            DatasetRef("moons", declare("moons").digest), "torch", FixedSolver("euler", 2)
        )
        self.record = TrialFolder(folder / "runs", self.trial.id)
        rows = np.random.Generator(np.random.PCG64(0)).normal(size=(40, 2))
        np.savez(folder / "mine.npz", data=rows)
        packed = io.BytesIO()
        np.savez_compressed(packed, train=rows, val=rows, test=rows)
        self._record()
        Checkpoint({"w": rows}, {"v": rows}, {}, Totals(), "0" * 12).write(self.attempt)
        table = "a,b\n" + "".join(f"{a},{b}\n" for a, b in rows.tolist())
        self.valid: Mapping[str, bytes] = {
            "suite": _SUITE.encode(),
            "filter": b'backend=jax & dataset!=bsds300 | !(seed=0) & id="a*"',
            "spec": self.record.spec.read_bytes(),
            "result": self.record.result.read_bytes(),
            "choices": b'{"schema_version": 1, "gradient": "adjoint", "backend": {}}',
            "curves": (self.attempt / "metrics.jsonl").read_bytes(),
            "npz": (folder / "mine.npz").read_bytes(),
            "npz, packed": packed.getvalue(),
            "csv": table.encode(),
            "checkpoint": self._checkpoint.read_bytes(),
        }

    @property
    def attempt(self) -> Path:
        return self.record.attempt("0123456789ab")

    @property
    def _checkpoint(self) -> Path:
        return self.attempt / "checkpoint" / "checkpoint.safetensors"

    def _record(self) -> None:
        self.record.write_spec(self.trial, Resources(), "one")
        self.record.begin("0123456789ab")
        line = {"step": 1, "timestamp_ms": 1, "train_s": 0.1, "loss": 1.5, "nll": 1.5}
        (self.attempt / "metrics.jsonl").write_text(f"{json.dumps(line)}\n" * 5)
        content: dict[str, Any] = {
            "schema_version": 1,
            "trial_id": self.trial.id,
            "status": "ok",
            "message": None,
            "attempts": 1,
            "attempt_id": "0123456789ab",
            "finished_ms": 1,
            "metrics": {"test_nll": {"value": 4.25, "unit": "nats", "n": 20, "sem": 0.1}},
            "timing": {"train_s": 0.5, "mode": "shared"},
            "nfe": {"test": {"forward": {"mean": 8.0}}},
        }
        self.record.commit_result(content)

    def read(self, kind: str, raw: bytes) -> None:
        """Reads a damaged input as the commands do."""
        if kind == "suite":
            path = self._written(self.folder / "one.yaml", raw)
            plan(path, self.folder / "none", check_backends=False)
        elif kind == "filter":
            parse_filter(raw.decode("utf-8", "surrogateescape"))
        elif kind == "spec":
            with self._replaced(self.record.spec, raw):
                read_spec(self.record.spec)
                load_records(self.record.root)
        elif kind == "result":
            with self._replaced(self.record.result, raw):
                load_records(self.record.root)
        elif kind == "choices":
            read_choices(self._written(self.folder / "choices.json", raw), ("adjoint", "direct"))
        elif kind == "curves":
            with self._replaced(self.attempt / "metrics.jsonl", raw):
                read_lines(self.attempt / "metrics.jsonl")
                history(self.record.root, [self.trial.id])
        elif kind == "checkpoint":
            self._checkpoint.write_bytes(raw)
            if Checkpoint.read(self.attempt) is None:
                raise RecordError("the checkpoint before it is taken")
        else:
            name = "table.csv" if kind == "csv" else "array.npz"
            self._written(self.folder / name, raw)
            load(name.partition(".")[0])

    @staticmethod
    def _written(path: Path, raw: bytes) -> Path:
        path.write_bytes(raw)
        return path

    @staticmethod
    def _replaced(path: Path, raw: bytes) -> _Replaced:
        return _Replaced(path, raw)


class _Replaced:
    """A file that holds something else within a block."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self._path, self._raw, self._before = path, raw, path.read_bytes()

    def __enter__(self) -> None:
        self._path.write_bytes(self._raw)

    def __exit__(self, *_: object) -> None:
        self._path.write_bytes(self._before)


KINDS = (
    *("suite", "filter", "spec", "result", "choices", "curves", "npz", "npz, packed", "csv"),
    "checkpoint",
)


def fuzz(
    count: int, seed: int, fault: Callable[[str, int, str], None]
) -> dict[str, tuple[int, int]]:
    """Reads `count` damaged inputs of each kind.

    Arguments:
        count: How many of each kind.
        seed: Of the damage.
        fault: Hears of each fault: the kind, the number of the input, what happened.

    Returns:
        How many were read and how many refused, by kind.
    """
    found = {}
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        os.environ |= {"HARNESS_DATA_DIR": str(folder), "HARNESS_CACHE_DIR": f"{name}/cache"}
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        inputs = _Inputs(folder)
        for kind in KINDS:
            inputs.read(kind, inputs.valid[kind])  # what is whole must be read
            read = refused = 0
            for number in range(count):
                chance = random.Random(f"{seed}/{kind}/{number}")
                raw = _damaged(inputs.valid[kind], chance)
                signal.alarm(_SLOW_S)
                try:
                    inputs.read(kind, raw)
                    read += 1
                except HarnessError:
                    refused += 1
                except Exception:
                    fault(kind, number, traceback.format_exc())
                finally:
                    signal.alarm(0)
            found[kind] = (read, refused)
        outside = {path.name for path in Path(name).iterdir()} - {"data", "cache"}
        if outside:
            fault("all", 0, f"files outside the folder: {sorted(outside)}")
    os.environ.clear()
    os.environ.update(before)
    return found


def _alarm(*_: object) -> None:
    raise TimeoutError(f"more than {_SLOW_S} s")


def main() -> int:
    """Prints a table; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, _alarm)
    faults: list[str] = []

    def fault(kind: str, number: int, what: str) -> None:
        faults.append(kind)
        print(f"{kind}, input {number} of seed {given.seed}:\n{what}", file=sys.stderr)

    found = fuzz(given.count, given.seed, fault)
    print("| input | damaged | read | refused | faults |\n|---|--:|--:|--:|--:|")
    for kind, (read, refused) in found.items():
        print(f"| {kind} | {given.count} | {read} | {refused} | {faults.count(kind)} |")
    return 1 if faults else 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
