"""`harness merge`: what it prints."""

from __future__ import annotations

from harness.records.merge import Merged
from harness.text import counted

__all__ = ["merged_text"]


def merged_text(merged: Merged) -> str:
    """A line of totals, then one for each conflict."""
    totals = [f"{counted(len(merged.taken), 'trial')} taken"]
    if merged.same:
        totals.append(f"{len(merged.same):,} there already with the same numbers")
    if merged.conflicts:
        totals.append(f"{counted(len(merged.conflicts), 'conflict')}, the first of each is kept:")
    return "\n".join([", ".join(totals), *(f"  {line}" for line in merged.conflicts)])
