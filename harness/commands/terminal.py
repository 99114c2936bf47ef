"""Options that several commands share, and the one way in which they print."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.completion import complete_filter, complete_suite, complete_trial
from harness.errors import StorageError, sentence_of

__all__ = [
    "Executor",
    "Json",
    "Rerun",
    "Root",
    "ShardText",
    "Suite",
    "TrialId",
    "Where",
    "as_json_text",
    "not_with_json",
    "say",
]


class Executor(StrEnum):
    """Who runs the trials."""

    ray = "ray"
    inline = "inline"


Suite = Annotated[
    str,
    typer.Argument(
        help="A suite file, or the name of a built-in suite.", autocompletion=complete_suite
    ),
]
TrialId = Annotated[
    str,
    typer.Argument(
        metavar="TRIAL", help="Id of a trial, or its beginning.", autocompletion=complete_trial
    ),
]
Root = Annotated[Path, typer.Option(envvar="HARNESS_ROOT", help="Folder of records and reports.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--filter",
        "-k",
        help='Only trials that match, as in "backend=jax & dataset!=bsds300"; '
        "operators = != & | ! ( ), * stands for any text.",
        autocompletion=complete_filter,
    ),
]
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N disjoint parts, one for each job of an array.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Rerun = Annotated[bool, typer.Option("--rerun", help="Run finished trials again.")]


@contextmanager
def not_with_json(as_json: bool) -> Iterator[None]:
    """Sends what a block says to standard error, where standard output is for JSON alone."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


def say(text: str) -> None:
    """Prints; goes on quietly when the reader has gone, as with `harness list | head -1`.

    Raises:
        StorageError: What takes the output is full.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        # The interpreter flushes once more at exit; that must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):
            raise StorageError(sentence_of(error, "standard output")) from error


def as_json_text(value: object) -> str:
    """Values as JSON, dataclasses as objects."""
    return json.dumps(value, indent=2, default=_plain)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not plain")
