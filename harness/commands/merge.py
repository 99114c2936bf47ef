"""`harness merge`: what it prints."""

from __future__ import annotations

from harness.records.merge import Merged
from harness.text import counted

__all__ = ["merged_text"]


def merged_text(found: Merged) -> str:
    """A line of totals, then one for each conflict."""
    totals = [f"{counted(len(found.taken), 'trial')} taken"]
    if found.same:
        totals.append(f"{len(found.same):,} there already with the same numbers")
    if found.conflicts:
        totals.append(f"{counted(len(found.conflicts), 'conflict')}, the first of each is kept:")
    return "\n".join([", ".join(totals), *(f"  {line}" for line in found.conflicts)])
