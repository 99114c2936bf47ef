"""A process that has imported a framework and forks a process for each trial.

    python -m harness.training.template SOCKET BACKEND CORES

What a fresh process spends on imports is spent once. Nothing else is shared: the template trains
nothing, touches no device and starts no thread; if an import did, it refuses, since a fork takes
along one thread only, and locks that others held. Its children then do what a process of
`python -m harness.training` does, from their cores on.

Requests come over a socket, a line of JSON each, with the file for what the child prints before it
has a log. Answers are `{"refused": why}`, or `{"pid": n}` and, at the end of the child,
`{"code": n}`, negative for a signal.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.process.cores import pin, usable_cores
from harness.process.home import settle_home
from harness.process.orphan import die_with_parent

__all__ = ["MOST_BYTES", "Template", "threads"]

MOST_BYTES = 65536
"""Of a request."""


def threads() -> int | None:
    """How many threads this process has; None where the system does not say."""
    with suppress(OSError):
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    return None


class Template:
    """Serves the requests of one executor, one child at a time, until it is gone.

    Arguments:
        channel: The socket.
        run: What a child does with the arguments of its request; returns its exit code.
        cores: The cores that a child may choose from.
    """

    def __init__(
        self,
        channel: socket.socket,
        run: Callable[[Sequence[str]], int],
        cores: Sequence[int],
    ) -> None:
        self._channel, self._run, self._cores = channel, run, cores
        # A child that ends interrupts the wait for whoever might be gone.
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Serves until the other end of the socket is closed."""
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._channel, MOST_BYTES, 1)
            if not message:
                return
            count = threads()
            if count != 1:
                self._say(refused=f"{count} threads")
            else:
                self._fork(json.loads(message), descriptors[0])
            for descriptor in descriptors:
                os.close(descriptor)

    def _say(self, **answer: str | int) -> None:
        self._channel.sendall(json.dumps(answer).encode() + b"\n")

    def _fork(self, arguments: Sequence[str], output: int) -> None:
        pid = os.fork()
        if pid == 0:
            _end(lambda: self._child(arguments, output))
        # Both do it, so that neither is ahead of the group.
        with suppress(OSError):
            os.setpgid(pid, pid)
        self._say(pid=pid)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._say(code=os.waitstatus_to_exitcode(status))
                return
            watched = [self._channel.fileno(), self._woken]
            ready, _, _ = select.select(watched, [], [])
            if watched[0] in ready:
                # Nobody asks before the answer: whoever asked is gone, which the child notices
                # when its parent is.
                os._exit(0)
            with suppress(BlockingIOError):
                os.read(self._woken, MOST_BYTES)

    def _child(self, arguments: Sequence[str], output: int) -> int:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with suppress(OSError):
            os.setpgid(0, 0)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        for descriptor in (output, self._woken, self._waker):
            os.close(descriptor)
        self._channel.close()
        if sys.platform == "linux":
            with suppress(PermissionError):
                os.sched_setaffinity(0, self._cores)
        return self._run([*arguments, "--parent", str(os.getppid())])


def _end(run: Callable[[], int]) -> None:
    """Ends this process with the exit code of a call, as an interpreter would but for taking the
    modules apart.
    """
    code: Any = 1
    try:
        code = run()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def _main(descriptor: int, backend: str, cores: int) -> None:
    die_with_parent()
    settle_home()
    usable = usable_cores()
    pin(usable[:cores], "cpu")
    channel = socket.socket(fileno=descriptor)
    # Only now, as in a trial's process: this imports numpy.
    from harness.training.__main__ import main
    from harness.training.attempt import preload

    try:
        preload(backend, cores)
    except Exception as error:
        # A trial's own process says in its record what is wrong.
        refusal: Mapping[str, str] = {"refused": f"{type(error).__name__}: {error}"}
        channel.sendall(json.dumps(refusal).encode() + b"\n")
        return
    Template(channel, main, usable).serve()


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
