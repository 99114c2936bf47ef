"""Writes again what is published: every report, the index pages, README's table.

    python reports/published/make.py    # make published

Records are read, nothing is run, and no data and no clock has a part in it: what is committed
stays as it is, to the byte, where the drawing libraries are those of constraints.txt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness_reports import write_index
from harness_reports.overview import Recorded, render_overview, render_suites

from harness.commands.publish import published_plan, write_published
from harness.records.files import replace
from harness.records.frame import history, load

CHECKOUT = Path(__file__).resolve().parents[2]
PUBLISHED = Path("reports/published")
README, BEGIN, END = "README.md", "<!-- published: begin -->", "<!-- published: end -->"
_HEAD = """# Published results

What was measured, with the records: each folder is a run root. Made by `make published` from the
records alone; [index.html](index.html) is the same with charts.

    harness verify --sample 5 --root reports/published/gradients    # run five of them again
    harness merge reports/published/power --into runs               # go on from its checkpoints:
    harness run suites/published/power.yaml --root runs
    harness publish suites/published/power.yaml --root runs --to reports/published/power
"""


def suites() -> Iterator[tuple[str, Path]]:
    """The suite files that have a published folder, and that folder, as commands name them."""
    for path in sorted(Path("suites/published").glob("*.yaml")):
        if (folder := PUBLISHED / path.stem).is_dir():
            yield path.as_posix(), folder


def recorded() -> list[Recorded]:
    """The published suites with their records."""
    made = []
    for suite, folder in suites():
        plan = published_plan(suite, folder)
        ids = [planned.trial.id for planned in plan.trials]
        made.append(Recorded(folder, plan, load(folder, ids), history(folder, ids)))
    return made


def readme_with(table: str, text: str) -> str:
    """README with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}{END}{after}"


def pages() -> dict[Path, str]:
    """Texts that are made of all suites, by their files."""
    of_all = recorded()
    table = render_overview(of_all)
    return {
        PUBLISHED / README: f"{_HEAD}\n{render_suites(of_all, PUBLISHED)}",
        Path(README): readme_with(table, Path(README).read_text(encoding="utf-8")),
    }


def main() -> None:
    """Writes everything."""
    os.chdir(CHECKOUT)
    for suite, folder in suites():
        print(write_published(suite, folder))
    write_index(PUBLISHED)
    for path, text in pages().items():
        replace(path, text.encode())


if __name__ == "__main__":
    main()
