"""What the kit found: one row a check, a table of them, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.text import columns, counted

__all__ = ["Certificate", "Finding", "Verdict"]

Verdict = Literal["ok", "FAIL", "not run"]

LEAST_SHARE = 0.5
"""Of the checks, at least so many must have run: less certifies nothing."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Arguments:
        what: What was checked.
        expected: The value of the closed form, with its unit where it has one.
        got: The value of the library.
        verdict: Whether they agree.
        note: By how much they differ, what the fault looks like, or why the check was not run.
    """

    what: str
    expected: str
    got: str
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True)
class Certificate:
    """All findings on one library.

    Arguments:
        subject: The builder that was checked.
        framework: `torch`, `jax` or `numpy`.
        tolerance: Largest error of log p in float64 that is accepted, in nats.
        findings: One for each check.
    """

    subject: str
    framework: str
    tolerance: float
    findings: Sequence[Finding]

    def count(self, verdict: Verdict) -> int:
        """How many findings have this verdict."""
        return sum(finding.verdict == verdict for finding in self.findings)

    @property
    def certifies_nothing(self) -> bool:
        """Whether too few checks ran to say anything."""
        ran = len(self.findings) - self.count("not run")
        return ran < LEAST_SHARE * len(self.findings)

    @property
    def ok(self) -> bool:
        """Whether enough checks ran and none failed."""
        return not self.count("FAIL") and not self.certifies_nothing

    @property
    def exit_code(self) -> int:
        """0 if all is well, 1 otherwise."""
        return 0 if self.ok else 1

    def __str__(self) -> str:
        """The table, and the verdict in the last line."""
        rows = [(f.what, f.expected, f.got, f.verdict, f.note) for f in self.findings]
        table = columns(rows, ("what", "expected", "got", "verdict", "note"))
        head = f"{self.subject}, {self.framework}, log p to {self.tolerance:g} nats"
        return f"{head}\n\n{table}\n\n{self.summary}"

    @property
    def summary(self) -> str:
        """One sentence: the counts, and what they amount to."""
        ran = len(self.findings) - self.count("not run")
        counts = (
            f"{counted(ran, 'check')} of {len(self.findings)} ran, {self.count('FAIL')} failed"
        )
        if self.count("FAIL"):
            return f"not certified: {counts}"
        if self.certifies_nothing:
            return f"certifies nothing: {counts}; at least {LEAST_SHARE:.0%} must run"
        return f"certified: {counts}"

    def to_json(self) -> Mapping[str, Any]:
        """Plain values, for tools."""
        return {**asdict(self), "summary": self.summary, "ok": self.ok}
