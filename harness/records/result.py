"""What result.json says: how a trial ended, and everything that was found out until then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.records.files import now
from harness.records.folder import TrialFolder
from harness.records.readers import SCHEMA_VERSION
from harness.records.status import Status

__all__ = ["Result"]

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """The end of a trial, as far as its last attempt came.

    Arguments:
        status: How it ended.
        message: Why, or what is worth knowing.
        metrics: `{name: {"value", "unit", "n", ...}}`.
        timing: Seconds by name, single or as quartiles; what others took of the `machine` while
            it trained; and the mode, `exclusive` or `shared`.
        nfe: Evaluations of the dynamics in training, test and sampling.
        memory: Largest number of bytes, of the host and of the device (its allocator's); and
            `above`, of the host by phase, above what the process held before training or
            measuring began.
        environment: Where the attempt ran (`harness.process.environment`).
    """

    status: Status
    message: str | None = None
    metrics: Values = field(default_factory=dict)
    timing: Values = field(default_factory=dict)
    nfe: Values = field(default_factory=dict)
    memory: Values = field(default_factory=dict)
    environment: Values = field(default_factory=dict)

    def commit(self, folder: TrialFolder, attempt_id: str) -> bool:
        """Commits the result of a trial; False if another was committed before.

        Arguments:
            folder: The trial.
            attempt_id: Its last attempt.
        """
        return folder.commit_result(
            {
                "schema_version": SCHEMA_VERSION,
                "trial_id": folder.trial_id,
                "status": self.status.value,
                "message": self.message,
                "attempts": len(folder.attempts()),
                "attempt_id": attempt_id,
                "finished_ms": now(),
                "metrics": self.metrics,
                "timing": self.timing,
                "nfe": self.nfe,
                "memory": self.memory,
                "environment": self.environment,
            }
        )
