"""What is said of own data with the plan."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fakes import fake_trial

from harness.commands.plan_text import plan_text
from harness.planning.data_remarks import data_remarks
from harness.planning.plan import plan
from harness.trial import Trial

ROWS = np.random.Generator(np.random.PCG64(0)).normal(size=(200, 3))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def _said(folder: Path, columns: dict[str, np.ndarray], name: str = "mine") -> list[str]:
    rows = np.column_stack(list(columns.values()))
    text = "\n".join(",".join(map(repr, row)) for row in rows.tolist())
    (folder / "mine.csv").write_text(",".join(columns) + "\n" + text + "\n")
    trial: Trial = fake_trial(name)
    return data_remarks([trial, trial])


A, B, C = ROWS.T
FINE = {"a": A, "b": B}


@pytest.mark.parametrize(
    ("columns", "remark"),
    [
        ({**FINE, "c": 0 * A + 7}, "column 'c' is constant, a copy"),
        ({**FINE, "c": A + 2 * B}, "column 'c' is constant, a copy, or a combination of others"),
        ({**FINE, "n": np.round(3 * C)}, "column 'n' is of whole numbers: .*dequantize: true"),
        ({**FINE, "c": 1e6 * C}, "columns 'c', '.' are of scales that differ .*standardize: true"),
        ({**FINE, "t": 1e9 + C}, "column 't' is far from 0 .*float32 cannot tell"),
        ({**FINE, "c": 1e39 * C}, "column 'c' is beyond the range of float32"),
    ],
)
def test_trouble_is_named_by_column(
    folder: Path, columns: dict[str, np.ndarray], remark: str
) -> None:
    said = " ; ".join(_said(folder, columns))
    assert re.search(f"dataset 'mine': {remark}", said), said


def test_nothing_is_said_of_what_is_fine_or_mended(folder: Path) -> None:
    assert _said(folder, {**FINE, "c": C}) == []
    assert _said(folder, {**FINE, "c": 1e6 * C}, "mine+standardized") == []
    assert _said(folder, {**FINE, "n": np.round(3 * C)}, "mine+dequantized") == []
    assert data_remarks([fake_trial("moons")]) == []


def test_a_suite_prepares_own_data_and_the_plan_says_its_remarks(folder: Path) -> None:
    _said(folder, {**FINE, "n": np.round(3 * C)})
    suite = folder / "one.yaml"
    suite.write_text(
        "name: one\ntrials:\n"
        "  - dataset: [mine, {name: mine, standardize: true, test_fraction: 0.2}]\n"
        "    backend: torch\n    solver: dopri5\n"
    )
    made = plan(suite, folder / "runs", check_backends=False)
    names = [planned.trial.dataset.name for planned in made.trials]
    assert names == ["mine", "mine+standardized+test0.2"]
    assert len({planned.trial.id for planned in made.trials}) == 2
    assert "dataset 'mine': column 'n' is of whole numbers" in plan_text(made)
