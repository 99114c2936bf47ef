"""The exceptions of the harness, and the one form in which a user's mistakes are shown.

HarnessError                 anything a user can mend; shown without a traceback
├── InputError               invalid input: suite, filter, command line (exit code 2)
│   └── AnswerError          a trained model cannot give what it was asked for
├── BackendError             a backend is missing or broke its contract
│   └── BackendNotInstalled  with the pip command that installs it (exit code 2)
├── DataError                a dataset is absent, incomplete or corrupt
├── MetricError              a metric of samples cannot be computed
└── RecordError              a record is damaged
    └── StorageError         the folder of records or reports cannot be written
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "AnswerError",
    "BackendError",
    "BackendNotInstalled",
    "DataError",
    "HarnessError",
    "InputError",
    "MetricError",
    "Problem",
    "RecordError",
    "StorageError",
    "nearest",
    "sentence_of",
]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the entry of `known` that `word` most likely means, the first of equals, or None."""

    def likeness(entry: str) -> float:
        return difflib.SequenceMatcher(None, entry, word).ratio()

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 0.6 else None


@dataclass(frozen=True)
class Problem:
    """One mistake in the input: where it is, what was found, what is accepted, how to mend it.

    Arguments:
        place: `file:line:column`, a command-line option, or a file.
        message: What was found and what was expected.
        source: The line of the file, if there is one.
        column: 1-based column of the offending text in `source`.
        width: Length of the offending text in characters.
        known: Accepted values; the nearest to `found` is suggested.
        found: The offending word, if a suggestion makes sense.
        fix: A sentence or a command that mends it.
    """

    place: str
    message: str
    source: str | None = None
    column: int = 1
    width: int = 1
    known: Sequence[str] = ()
    found: str | None = None
    fix: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}"]
        if self.source is not None:
            lines.append(f"    {self.source}")
            lines.append("    " + " " * (self.column - 1) + "^" * max(1, self.width))
        if self.known:
            lines.append(f"  known: {', '.join(self.known)}")
        suggestion = nearest(self.found, self.known) if self.found else None
        if suggestion:
            lines.append(f"  did you mean '{suggestion}'?")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class HarnessError(Exception):
    """Anything a user can mend; the command line prints it without a traceback."""


class InputError(HarnessError):
    """Invalid input; carries every problem that was found, in one pass."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class AnswerError(InputError):
    """A trained model cannot give what it was asked for."""


class BackendError(HarnessError):
    """A backend is missing or broke its contract."""


class BackendNotInstalled(BackendError):
    """A backend's framework is not installed."""

    def __init__(self, backend: str, missing: str) -> None:
        super().__init__(
            f"backend '{backend}' needs {missing}, which is not installed. "
            f"Run: pip install 'cnf-harness[{backend}]'"
        )


class DataError(HarnessError):
    """A dataset is absent, incomplete or corrupt."""


class MetricError(HarnessError):
    """A metric of samples cannot be computed: not finite, too many rows, or a missing library."""


class RecordError(HarnessError):
    """A record is damaged, or the record store cannot be read or written."""


class StorageError(RecordError):
    """The folder of records, reports or the mirror cannot be written; no trial can go on."""


def sentence_of(error: OSError, place: object) -> str:
    """What the operating system refused, where, why, and the remedy.

    Arguments:
        error: What it raised.
        place: The file or folder as the user knows it.
    """
    reason = error.strerror or type(error).__name__
    cause, remedy = _REFUSALS.get(error.errno or 0, ("failed", ""))
    sentence = f"{place}: {cause} ({reason})"
    return f"{sentence}; {remedy}" if remedy else sentence


_FULL = ("its disk is full", "free some space, and run the same command again")
_CLOSED = ("cannot be written", "make it writable, or name another folder")
_GONE = ("is gone", "it was deleted or renamed meanwhile; run the same command again")
_TAKEN = ("cannot be used", "a file is where a folder should be, or the other way round")
_REFUSALS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _CLOSED),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), _GONE),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), _TAKEN),
}
