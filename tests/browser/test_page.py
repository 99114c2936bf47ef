"""A report in headless Chromium without a network, at two widths, light and dark.

Needs node, the npm packages playwright-core and axe-core (`NODE_PATH` names their folder) and
Chromium (`CHROMIUM`, by default /usr/bin/chromium); without them the test is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from finished_run import write_records
from harness_reports import write_report

from harness.records.frame import history, load

CHECK = Path(__file__).parent / "check.mjs"


def _missing() -> str | None:
    folders = [Path(each) for each in os.environ.get("NODE_PATH", "").split(":") if each]
    for package in ("playwright-core", "axe-core"):
        if not any((folder / package).is_dir() for folder in folders):
            return f"the npm package {package} is not in NODE_PATH"
    if shutil.which("node") is None:
        return "node is not installed"
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    return None if Path(chromium).exists() else f"{chromium} is not there"


@pytest.mark.slow
@pytest.mark.skipif(_missing() is not None, reason=str(_missing()))
def test_a_report_in_a_browser(tmp_path: Path) -> None:
    records = write_records(tmp_path / "runs")
    ids = [planned.trial.id for planned in records.plan.trials]
    written = write_report(
        records.plan,
        load(records.root, ids),
        tmp_path / "report",
        root=records.root,
        history=history(records.root, ids),
    )
    done = subprocess.run(
        ["node", str(CHECK), str(written)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert found["axe"] == 4
    assert min(found["sorted"], found["filtered"], found["links"]) > 0
    assert found["bytes"] < 1.5e6
