"""Both backends against the paper's released code: log p, counts, losses, gradients."""

from __future__ import annotations

from typing import Any

import pytest
from cases import Case
from comparison import differences

from harness.interface import Backend, Unsupported


def test_the_backend_gives_the_released_codes_values(
    case: Case, backend: Backend, table: list[dict[str, Any]]
) -> None:
    reason: Unsupported | None = backend.supports(case.trial)
    if reason is not None:
        pytest.skip(f"{backend.name}: {reason.reason}")
    backend.prepare(case.trial, 1)
    found = list(differences(case, backend))
    assert any(each.bar is not None for each in found)
    for each in found:
        table.append({"case": case.id, "kind": case.kind, **each._asdict()})
    wrong = [each for each in found if each.bar is not None and not each.size <= each.bar]
    assert not wrong, "\n".join(f"{d.call}/{d.quantity}: {d.size:.2g}, bar {d.bar}" for d in wrong)
