"""What a trial leaves behind, and the mirror of it."""

from harness.records.files import commit

__all__ = ["commit"]
