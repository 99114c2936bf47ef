"""Starts a trial's process: forked from a template that has imported its framework, or anew.

Anew where a process must be like that of `python -m harness.training` in every respect (exclusive
timings), where the framework may have touched a device (GPUs), where no fork is safe (macOS), and
where a template refuses.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Protocol

__all__ = ["Order", "Process", "Processes", "kept_processes"]


@dataclass(frozen=True)
class Order:
    """An attempt that wants a process.

    Arguments:
        spec: Path of the trial's spec.json.
        root: The run root.
        attempt_id: Name of the attempt.
        backend: Name of the trial's backend.
        cpus: Cores of the trial.
        fresh: The process is not forked.
        exclusive: Run while no other trial runs on this machine.
        may_retry: Commit nothing if memory runs out.
        abrupt: The process is killed when whoever waits for it dies, and writes no checkpoint.
        environment: Variables that it is given beside those of this process.
    """

    spec: str
    root: str
    attempt_id: str
    backend: str
    cpus: int
    fresh: bool = False
    exclusive: bool = False
    may_retry: bool = False
    abrupt: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """Those of `python -m harness.training`, but for the parent."""
        asked = {
            "--exclusive": self.exclusive,
            "--may-retry": self.may_retry,
            "--abrupt": self.abrupt,
        }
        given = [self.spec, "--root", self.root, "--attempt", self.attempt_id, "--quiet"]
        return given + [name for name, is_asked in asked.items() if is_asked]


class Process(Protocol):
    """A trial's process."""

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code, negative for a signal; None if it runs on after the time."""

    def ask(self) -> None:
        """Asks it to write a checkpoint and stop."""

    def kill(self) -> None:
        """Kills it and all that it started."""


class Processes:
    """Starts the processes of trials, one at a time, and keeps templates for the next ones."""

    def __init__(self) -> None:
        # Orders of one executor have one environment.
        self._templates: dict[tuple[str, int], _Template] = {}

    def start(self, order: Order, output: IO[bytes]) -> Process:
        """Starts a process.

        Arguments:
            order: What it runs.
            output: Takes what it prints before it has a log.
        """
        key = order.backend, order.cpus
        template = self._templates.get(key)
        if template is not None and template.ended and not template.refuses:
            del self._templates[key]
            template = None
        if order.fresh or (template is not None and template.refuses):
            return _Spawned(order, output)
        if template is None:
            template = self._templates[key] = _Template(*key, order.environment)
        return _Forked(template, order, output)

    def close(self) -> None:
        """Ends the templates."""
        for template in self._templates.values():
            template.close()
        self._templates.clear()


@cache
def kept_processes() -> Processes:
    """Those of this process, whose templates last as long as it does."""
    return Processes()


def _command(module: str, *arguments: str) -> list[str]:
    # -P: files of the working directory are not taken for modules.
    return [sys.executable, "-P", "-m", module, *arguments]


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class _Spawned:
    """A fresh process, in a group of its own: Ctrl-C reaches it once, through this process, and a
    kill reaches all that it started.
    """

    def __init__(self, order: Order, output: IO[bytes]) -> None:
        arguments = [*order.arguments(), "--parent", str(os.getpid())]
        self._process = subprocess.Popen(
            _command("harness.training", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **order.environment},
            process_group=0,
        )

    def wait(self, timeout_s: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def ask(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        _kill_group(self._process.pid)
        self._process.wait()


class _Template:
    """This side of a process of `harness.training.template`."""

    def __init__(self, backend: str, cores: int, environment: Mapping[str, str]) -> None:
        self._channel, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                _command("harness.training.template", str(other.fileno()), backend, str(cores)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env={**os.environ, **environment},
                process_group=0,
            )
        self._heard = b""
        self.refuses = self.ended = False

    def request(self, arguments: Sequence[str], output: IO[bytes]) -> None:
        message = json.dumps(list(arguments)).encode()
        with suppress(OSError):
            socket.send_fds(self._channel, [message], [output.fileno()])

    def hear(self, timeout_s: float) -> dict[str, int | str] | None:
        """The next answer; None if there is none within the time, or none will come any more."""
        end = time.monotonic() + timeout_s
        while b"\n" not in self._heard and not self.ended:
            ready, _, _ = select.select([self._channel], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            try:
                more = self._channel.recv(4096)
            except OSError:
                more = b""
            self._heard += more
            self.ended = not more
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, int | str] | None = json.loads(line) if line else None
        return answer

    def close(self) -> None:
        self.ended = True
        self._channel.close()
        self._process.kill()
        self._process.wait()


class _Forked:
    """A child of a template; a fresh process in its place if the template makes none."""

    def __init__(self, template: _Template, order: Order, output: IO[bytes]) -> None:
        self._template, self._order, self._output = template, order, output
        self._pid: int | None = None
        self._code: int | None = None
        self._asked = False
        self._instead: _Spawned | None = None
        template.request(order.arguments(), output)

    def wait(self, timeout_s: float) -> int | None:
        if self._instead is not None:
            return self._instead.wait(timeout_s)
        end = time.monotonic() + timeout_s
        while self._code is None:
            answer = self._template.hear(max(0.0, end - time.monotonic()))
            if answer is not None and "pid" in answer:
                self._pid = int(answer["pid"])
                if self._asked:
                    self.ask()
            elif answer is not None and "code" in answer:
                self._code = int(answer["code"])
            elif answer is not None or self._template.ended:
                return self._without_template()
            else:
                return None
        return self._code

    def _without_template(self) -> int | None:
        """What becomes of the trial when its template refuses or is gone."""
        if self._pid is not None:
            # Its child may be saving yet, which the next attempt would not wait for.
            _kill_group(self._pid)
            self._code = -signal.SIGKILL
            return self._code
        self._template.refuses = True
        self._template.close()
        self._instead = _Spawned(self._order, self._output)
        if self._asked:
            self._instead.ask()
        return None

    def ask(self) -> None:
        self._asked = True
        if self._instead is not None:
            self._instead.ask()
        elif self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        if self._instead is not None:
            self._instead.kill()
        elif self._pid is not None:
            _kill_group(self._pid)
        else:
            self._template.close()
            self._code = -signal.SIGKILL
