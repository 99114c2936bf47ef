"""Random kills of runs, each of which the same command again must bring to the same end.

    python tests/reliability/kills.py [--count 10] [--executor inline] [--backend fake] [--seed 0]

A run of two trials is killed at a random moment: its driver, a trial, all of them at once, or
`harness sync` after it, by SIGKILL, or the driver by SIGTERM. Then the same command runs to its
end, and is compared with a run that nobody disturbed: one record a trial, the same numbers, the
mirror equal to the records, no process left. Temporary files that a killed writer leaves are
counted: they are swept when they are an hour old, since somebody might still be writing them.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fakes"))

from fakes import environment, timeless

from harness.errors import HarnessError
from harness.records import frame
from harness.records import mlflow as mirror
from harness.records.folder import read_records

__all__ = ["VICTIMS", "Storm"]

VICTIMS = ("driver", "trial", "all", "sync", "SIGTERM of the driver")
_MARK = "HARNESS_STORM"
_PATIENCE_S = 300.0
_GONE_S = 30.0
_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")
_HARNESS = "import sys; from harness.cli import main; main()"

_SUITE = """name: storm
trials:
  - dataset: moons
    backend: {backend}
    seed: [0, 1]
    regularizer: none
    solver: {{name: rk4_38, steps: 2}}
    model: {{layer: concat, hidden: [4], end_time: {{value: 0.5}}}}
    training: {{iterations: {steps}, batch: 10, validate_every: 50, validation_rows: 50}}
    evaluation: {{trace: exact, rows: 50, batch: 50}}
resources: {{cpus: 1, timeout_minutes: 10}}
"""
_STEPS = {"fake": 150, "torch": 400, "jax": 3000}


class Storm:
    """Runs that are killed, beside one that is not.

    Arguments:
        folder: Where everything is written.
        executor: `inline` or `ray`.
        backend: `fake` (numpy only), `torch` or `jax`.
    """

    def __init__(self, folder: Path, executor: str, backend: str) -> None:
        self.folder, self.executor = folder, executor
        self.suite = folder / "storm.yaml"
        self.suite.write_text(_SUITE.format(backend=backend, steps=_STEPS[backend]))
        self.env = environment(folder / "site", sleep_s=0.01)
        self.env |= {_MARK: str(folder), "HARNESS_CHECKPOINT_SECONDS": "0.2"}
        self.env.pop("MLFLOW_TRACKING_URI", None)
        self.left = 0
        """Temporary files of killed writers, which are swept when they are an hour old."""
        began = time.monotonic()
        self._finish(folder / "calm")
        self.takes_s = time.monotonic() - began
        self.calm = self._numbers(folder / "calm")

    def kill(self, number: int, victim: str, moment: float) -> str | None:
        """Kills one run and brings it to its end; returns what was wrong then.

        Arguments:
            number: Names its folder.
            victim: One of `VICTIMS`.
            moment: When, as a share of what the calm run took.
        """
        root = self.folder / f"storm-{number}"
        if victim == "sync":
            self._finish(root)
            (root / "mlflow.db").unlink(missing_ok=True)
            process = self._start("sync", "--root", str(root))
            time.sleep(moment * 8)
        else:
            process = self._run(root)
            time.sleep(moment * self.takes_s)
        how = signal.SIGTERM if victim.startswith("SIGTERM") else signal.SIGKILL
        for each in self._victims(process, victim):
            with suppress(ProcessLookupError):
                os.kill(each, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
        if not self._gone():
            names = sorted(_command(p).replace("\0", " ")[:60] for p in self._processes())
            return f"{len(names)} processes are left: {names}"
        try:
            self._finish(root)
            return self._wrong(root)
        except (HarnessError, subprocess.SubprocessError) as error:
            return str(error).splitlines()[0]

    def _victims(self, process: subprocess.Popen[bytes], victim: str) -> list[int]:
        if victim == "all":
            return list(self._processes())
        if victim == "trial":
            marks = ("-m\0harness.training", "ray::trial-")
            trials = [p for p in self._processes() if any(m in _command(p) for m in marks)]
            return trials or [process.pid]
        return [process.pid]

    def _wrong(self, root: Path) -> str | None:
        if self._numbers(root) != self.calm:
            return "other numbers"
        mirror.sync(root)
        if not mirror.load(root).equals(frame.load(root)):
            return "the mirror differs from the records"
        self.left += sum(1 for path in root.rglob(".*") if _ASIDE.fullmatch(path.name))
        return None

    def _numbers(self, root: Path) -> dict[str, Any]:
        return {r.trial.id: timeless(dict(r.result)) for r in read_records(root, None)}

    def _run(self, root: Path) -> subprocess.Popen[bytes]:
        how = ["--executor", self.executor, "--no-report"]
        how += ["--cpus", "2"] if self.executor == "ray" else []
        return self._start("run", str(self.suite), "--root", str(root), *how)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", _HARNESS, *arguments],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def _finish(self, root: Path) -> None:
        code = self._run(root).wait(_PATIENCE_S)
        if code:
            raise subprocess.SubprocessError(f"the undisturbed run ends with exit code {code}")

    def _processes(self) -> Iterator[int]:
        """Processes of this storm, by a variable of their environment."""
        mark = f"{_MARK}={self.folder}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    yield int(path.parent.name)

    def _gone(self) -> bool:
        end = time.monotonic() + _GONE_S
        while any(True for _ in self._processes()):
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def main() -> int:
    """Prints a table; returns 1 if a run did not come to its end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--executor", choices=("inline", "ray"), default="inline")
    parser.add_argument("--backend", choices=tuple(_STEPS), default="fake")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    kills, wrong = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        storm = Storm(Path(name), given.executor, given.backend)
        for number in range(given.count):
            victim, moment = VICTIMS[number % len(VICTIMS)], chance.uniform(0.05, 1.0)
            kills[victim] += 1
            what = storm.kill(number, victim, moment)
            if what:
                wrong[victim] += 1
                print(f"kill {number}, {victim} at {moment:.3f}: {what}", file=sys.stderr)
    print("| executor | backend | killed | kills | wrong |\n|---|---|---|--:|--:|")
    for victim, count in kills.items():
        row = (given.executor, given.backend, victim, str(count), str(wrong[victim]))
        print(f"| {' | '.join(row)} |")
    print(f"\n{storm.left} temporary files were left for the sweep of the next hour.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
