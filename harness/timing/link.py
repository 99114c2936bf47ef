"""The other end of a worker: starts it, asks it, and ends it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from harness.caches import COMPILED_DIR
from harness.records.files import scrub

__all__ = ["Failed", "Link"]

_POLL_S = 0.2


class Failed(Exception):
    """A contender has no numbers; the message says which, and why."""


class Link:
    """A worker and its answers.

    Arguments:
        root: The run root.
        trial_id: The trial whose model it opens.
        name: What messages call it.
        cores: The cores that it is pinned to.
        device: Where the model is.
        folder: Receives its log.
        compiled: Where what it compiles is kept.
        patience_s: Seconds after which an answer no longer comes.
        check: Called while it waits; raises to stop.
        reference: It computes the reference.
    """

    def __init__(
        self,
        root: Path,
        trial_id: str,
        name: str,
        cores: Sequence[int],
        device: Literal["cpu", "gpu"],
        folder: Path,
        compiled: Path,
        patience_s: float,
        check: Callable[[], None],
        *,
        reference: bool = False,
    ) -> None:
        self._name, self._patience_s, self._check = name, patience_s, check
        self._log = folder / f"{name.replace(' ', '-')}.txt"
        # -P: files of the working directory are not taken for modules.
        command = [sys.executable, "-P", "-m", "harness.timing.worker", str(root), trial_id]
        command += ["--cores", ",".join(map(str, cores)), "--device", device]
        command += ["--reference"] if reference else []
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(compiled, device),
                # A group of its own: Ctrl-C is for whoever asks.
                process_group=0,
            )
        try:
            self.ready = self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **what: Any) -> dict[str, Any]:  # noqa: ANN401
        """Asks for a method of the worker; returns its answer.

        Raises:
            Failed: It failed, died, or gives no answer.
        """
        stdin = self._process.stdin
        if stdin is None:
            raise AssertionError("a worker has a standard input")
        try:
            stdin.write((json.dumps({"do": do, **what}) + "\n").encode())
            stdin.flush()
        except OSError:
            raise Failed(self._death()) from None
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # What it did not read is lost with it.
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _read(self) -> dict[str, Any]:
        stdout = self._process.stdout
        if stdout is None:
            raise AssertionError("a worker has a standard output")
        end = time.monotonic() + self._patience_s
        while not select.select([stdout], [], [], _POLL_S)[0]:
            self._check()
            if time.monotonic() > end:
                raise Failed(f"{self._name}: no answer in {self._patience_s / 60:.3g} minutes")
        line = stdout.readline()
        if not line:
            raise Failed(self._death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self._name}: {scrub(answer['error'])}")
        return answer

    def _death(self) -> str:
        """What it died of: the last line that it printed, and its exit code."""
        code = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        said = f": {scrub(lines[-1])}" if lines else ""
        return f"{self._name}: its process ended with exit code {code}{said}"


def _environment(compiled: Path, device: str) -> dict[str, str]:
    environment = {
        **os.environ,
        COMPILED_DIR: str(compiled),
        "TORCHINDUCTOR_CACHE_DIR": str(compiled / "inductor"),
    }
    if device == "gpu":
        # jax would take most of the memory of the device that the other backend shares.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return environment
