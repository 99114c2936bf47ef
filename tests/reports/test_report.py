"""The written report: two files that agree, and an HTML file that needs nothing else."""

from __future__ import annotations

import html.parser
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from harness_reports import write_index, write_report

import harness
from harness.commands.report import report
from harness.errors import RecordError
from harness.planning.plan import Plan
from harness.records.frame import history

MEGABYTES = 1.5


@pytest.fixture(scope="session")
def written(
    root: Path,
    plan: Plan,
    frame: pd.DataFrame,
    curves: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("report")
    return write_report(plan, frame, out, root=root, history=curves)


@pytest.fixture(scope="session")
def page(written: Path) -> str:
    return written.read_text(encoding="utf-8")


class Reader(html.parser.HTMLParser):
    """Collects tables, anchors and everything that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = {name: value for name, value in attrs if value}
        self.anchors += [given["id"]] if "id" in given else []
        self.loads += [given["src"]] if "src" in given else []
        if "href" in given:
            (self.links if tag == "a" else self.loads).append(given["href"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


@pytest.fixture(scope="session")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def markdown_rows(text: str) -> list[list[str]]:
    rows = []
    for line in text.splitlines():
        if line.startswith("| ") and not set(line) <= set("|-: "):
            cells = re.split(r"(?<!\\)\|", line.strip())[1:-1]
            plain = [re.sub(r"\\(.)", r"\1", cell.strip().strip("*`")) for cell in cells]
            rows.append(plain)
    return rows


def test_html_and_markdown_hold_the_same_cells(written: Path, read: Reader) -> None:
    found = markdown_rows((written.parent / "report.md").read_text(encoding="utf-8"))
    # Headings differ in how they print units; every body cell is the same.
    bodies = [row for row in read.rows if row in found]
    headings = [row for row in read.rows if row not in found]
    assert len(found) == len(read.rows)
    assert len(bodies) > 100
    assert len(headings) < 15
    heads = ("dataset", "gate", "trial", "reason", "property", "solver")
    assert not [row for row in headings if row[0] not in heads]


def test_nothing_is_loaded_from_anywhere(page: str, read: Reader) -> None:
    assert read.loads
    assert all(source.startswith("data:image/png;base64,") for source in read.loads)
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert not re.search(r"url\((?!data:)", page.split("</style>")[0])


def test_charts_are_inside_and_the_file_is_small(page: str) -> None:
    assert len(page.encode()) < MEGABYTES * 2**20
    # A forest, a front, curves, time to quality and evaluations for each of two datasets.
    assert page.count("<svg") == 10
    assert "unsafe-eval" not in page
    ids = re.findall(r'<clipPath id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_answers_come_first(written: Path, page: str) -> None:
    assert page.index("Do the backends agree?") < page.index("<nav") < page.index("<table")
    text = (written.parent / "report.md").read_text(encoding="utf-8")
    assert text.index("Is the paper reproduced?") < text.index("##")
    assert "Did everything run?" in (written.parent / "summary.json").read_text()


def test_no_heading_is_empty(read: Reader) -> None:
    assert all(all(row) for row in read.rows)


def test_the_index_names_every_suite(written: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(written.parent / "summary.json", tmp_path / name)
    (tmp_path / "two" / "summary.json").write_text("{")
    text = write_index(tmp_path).read_text(encoding="utf-8")
    assert 'href="one/index.html"' in text
    assert "two/index.html" not in text
    assert "Do the backends agree?" in text


def test_every_link_of_the_page_has_its_target(read: Reader) -> None:
    assert len(read.anchors) == len(set(read.anchors))
    assert all(link.startswith("#") for link in read.links)
    assert {link[1:] for link in read.links} <= set(read.anchors)


def test_text_of_records_is_never_markup(page: str, read: Reader) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert read.tags.count("script") == 1


def test_markdown_escapes_what_would_be_markup(written: Path) -> None:
    text = (written.parent / "report.md").read_text(encoding="utf-8")
    assert r"\<script\>alert" in text
    assert r"16.0 GiB \| twice" in text


def test_figures_lie_beside(written: Path) -> None:
    names = {path.name for path in (written.parent / "figures").iterdir()}
    for name in ("curves-8gaussians", "curves-digits", "forest-digits", "nfe-digits"):
        assert {f"{name}.svg", f"{name}.vl.json"} <= names
    assert {"density-8gaussians-torch.png", "samples-digits-jax.png"} <= names
    text = (written.parent / "report.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((figures/[^)]+)\)", text):
        assert (written.parent / target).is_file()


def test_exported_figures_have_real_colours(written: Path) -> None:
    svg = (written.parent / "figures" / "curves-8gaussians.svg").read_text()
    assert "var(" not in svg
    assert "#0072b2" in svg


def test_head_says_what_ran_and_where(page: str) -> None:
    for words in (
        "34 trials: 27 ok",
        "1 out of memory",
        "Invented CPU",
        "torch 2.13.0",
        "harness run synthetic",
        "UTC",
    ):
        assert words in page


def test_private_folders_do_not_reach_the_report(
    plan: Plan, frame: pd.DataFrame, curves: pd.DataFrame, tmp_path: Path
) -> None:
    few = Plan("synthetic", "", plan.trials[:2], source="/home/someone/suites/mine.yaml")
    written = write_report(few, frame, tmp_path, root=None, history=curves[:0])
    text = written.read_text(encoding="utf-8")
    assert "/home/" not in text
    assert "harness run ~/suites/mine.yaml" in text


def test_records_of_other_suites_are_not_read(root: Path, plan: Plan, tmp_path: Path) -> None:
    mine = plan.trials[0].trial.id
    shutil.copytree(root / "trials" / mine, tmp_path / "trials" / mine)
    damaged = tmp_path / "trials" / "0123456789abcdef"
    damaged.mkdir()
    for name in ("spec.json", "result.json", "attempt-1/metrics.jsonl"):
        (damaged / name).parent.mkdir(exist_ok=True)
        (damaged / name).write_text("{" * 3)
    with pytest.raises(RecordError, match="0123456789abcdef"):
        harness.load(tmp_path)
    written = report(Plan("mine", "", plan.trials[:1]), tmp_path)
    assert written == tmp_path / "reports" / "mine" / "index.html"
    assert "1 trial: 1 ok." in written.read_text(encoding="utf-8")
    (tmp_path / "trials" / mine / "result.json").write_text("{")
    with pytest.raises(RecordError, match=mine):
        report(Plan("mine", "", plan.trials[:1]), tmp_path)


def test_a_suite_without_any_record_still_reports(plan: Plan, tmp_path: Path) -> None:
    nothing, empty = harness.load(tmp_path), history(tmp_path, [])
    written = write_report(plan, nothing, tmp_path / "out", root=tmp_path, history=empty)
    text = written.read_text(encoding="utf-8")
    assert "34 trials: 32 not run, 2 skipped" in text
    assert "<svg" not in text
