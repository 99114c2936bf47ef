"""What is published with the code is what its records say today: `make published` mends it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from harness_reports import write_index
from harness_reports.page.markdown import render_markdown

from harness.commands.export import export
from harness.commands.publication import LARGEST_CHECKPOINT
from harness.commands.publish import FORMATS, published_page
from harness.records.folder import read_records, trial_ids

CHECKOUT = Path(__file__).parents[2]
PUBLISHED = Path("reports/published")
SUITES = sorted(
    path.stem
    for path in (CHECKOUT / "suites/published").glob("*.yaml")
    if (CHECKOUT / PUBLISHED / path.stem).is_dir()
)
FIX = "make published, and commit what it writes"
LARGEST = 10_000_000
"""Bytes of all that is published."""


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    # The pages name records by their paths in it.
    monkeypatch.chdir(CHECKOUT)


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", CHECKOUT / PUBLISHED / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SUITES)
def test_the_report_is_that_of_its_records(name: str, tmp_path: Path) -> None:
    folder = PUBLISHED / name
    page = published_page(f"suites/published/{name}.yaml", folder)
    committed = (folder / "report.md").read_text(encoding="utf-8")
    assert committed == render_markdown(page), FIX
    if any(read_records(folder)):
        for path in export(folder, tmp_path, FORMATS):
            assert (folder / "export" / path.name).read_bytes() == path.read_bytes(), FIX


def test_pages_of_all_suites_are_current(make: ModuleType, tmp_path: Path) -> None:
    for path, text in make.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: {FIX}"
    for name in SUITES:
        place = tmp_path / name
        place.mkdir()
        (place / "summary.json").write_bytes((PUBLISHED / name / "summary.json").read_bytes())
    index = write_index(tmp_path).read_text(encoding="utf-8")
    assert (PUBLISHED / "index.html").read_text(encoding="utf-8") == index, FIX


def test_findings_name_what_is_there() -> None:
    text = Path("docs/findings.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(\.\./(reports/published/[^)]+)\)", text)
    assert len(named) > 5
    assert [path for path in named if not Path(path).is_file()] == []


def test_what_is_published_is_small_and_holds_no_data() -> None:
    files = [path for path in PUBLISHED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    kinds = {".md", ".html", ".json", ".jsonl", ".csv", ".tex", ".svg", ".py", ".safetensors"}
    for path in files:
        if "__pycache__" in path.parts:
            continue
        assert path.suffix in kinds, path
        if path.suffix == ".safetensors":
            assert path.name == "checkpoint.safetensors"
            assert path.stat().st_size <= LARGEST_CHECKPOINT


def test_every_published_suite_has_all_its_trials(make: ModuleType) -> None:
    assert sorted(path.stem for path in Path("suites/published").glob("*.yaml")) == SUITES
    for _, folder in make.suites():
        assert trial_ids(folder), folder
