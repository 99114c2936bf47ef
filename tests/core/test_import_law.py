"""The law of imports (pyproject.toml) fails on what it forbids: checked with planted mistakes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "harness",
    "backends/torch/harness_torch",
    "backends/jax/harness_jax",
    "reports/harness_reports",
)
PLANTED = {
    "a low room takes from a high one": (
        "harness/specs/bounds.py",
        "from harness.suites import grid",
        "harness.specs is not allowed to import harness.suites",
    ),
    "a solve takes from what it integrates": (
        "backends/torch/harness_torch/solve/step.py",
        "from harness_torch import field",
        "harness_torch.solve is not allowed to import harness_torch.field",
    ),
    "a page takes from a section": (
        "reports/harness_reports/page/html.py",
        "from harness_reports.sections import results",
        "harness_reports.page is not allowed to import harness_reports.sections",
    ),
    "the likelihood kit takes from a backend's interface": (
        "harness/certify/kit.py",
        "from harness import interface",
        "harness.certify is not allowed to import harness.interface",
    ),
    "a file without a floor": ("harness/nowhere.py", "", "harness.nowhere"),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all packages and of the law."""
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in PACKAGES:
        unread = shutil.ignore_patterns("__pycache__", "*.yaml")
        shutil.copytree(ROOT / package, copy / package, ignore=unread)
    return copy


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails(mistake: str, checkout: Path) -> None:
    place, line, message = PLANTED[mistake]
    file = checkout / place
    before = file.read_text() if file.exists() else None
    file.write_text((before or "") + f"\n{line}\n")
    try:
        paths = [str((checkout / package).parent) for package in PACKAGES]
        done = subprocess.run(
            [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "300"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_text(before)
    assert done.returncode == 1
    assert message in " ".join(done.stdout.split())
