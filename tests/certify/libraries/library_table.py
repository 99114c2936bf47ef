"""Writes docs/certify.md: the kit's findings on libraries with a likelihood of their own.

Each library runs in a process of its own, so that torch and jax never share one:
`make certify`, or `python tests/certify/libraries/library_table.py docs/certify.md`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@dataclass(frozen=True)
class Library:
    """One column of the table.

    Arguments:
        name: Its heading.
        packages: Whose versions are printed.
        framework: What its field computes in.
        build: `module:function` in this folder.
        estimated: The same for the estimated trace.
    """

    name: str
    packages: tuple[str, ...]
    framework: str
    build: str
    estimated: str


LIBRARIES = (
    Library(
        "scipy, by hand",
        ("scipy",),
        "numpy",
        "scipy_by_hand:build",
        "scipy_by_hand:build_estimated",
    ),
    Library(
        "torchdiffeq, by hand",
        ("torchdiffeq", "torch"),
        "torch",
        "torchdiffeq_by_hand:build",
        "torchdiffeq_by_hand:build_estimated",
    ),
    Library(
        "diffrax, by hand",
        ("diffrax", "jax"),
        "jax",
        "diffrax_by_hand:build",
        "diffrax_by_hand:build_estimated",
    ),
    Library("zuko", ("zuko",), "torch", "zuko_cnf:build", "zuko_cnf:build_estimated"),
    Library(
        "torchdyn", ("torchdyn",), "torch", "torchdyn_cnf:build", "torchdyn_cnf:build_estimated"
    ),
    Library(
        "flow_matching, defaults",
        ("flow_matching",),
        "torch",
        "flow_matching_ode:build",
        "flow_matching_ode:build_estimated",
    ),
    Library(
        "flow_matching, dopri5",
        ("flow_matching",),
        "torch",
        "flow_matching_ode:build_dopri5",
        "flow_matching_ode:build_dopri5_estimated",
    ),
    Library(
        "torchflows, defaults",
        ("torchflows",),
        "torch",
        "torchflows_cnf:build",
        "torchflows_cnf:build_estimated",
    ),
    Library(
        "torchflows, dopri5",
        ("torchflows",),
        "torch",
        "torchflows_cnf:build_dopri5",
        "torchflows_cnf:build_estimated",
    ),
)

Findings = Mapping[str, Mapping[str, str]]


def findings_of(library: Library, folder: Path) -> tuple[Findings, str]:
    """The findings by what was checked, and the summary.

    Raises:
        RuntimeError: The kit refused its input, or could not run.
    """
    file = folder / f"{library.name}.json"
    command = [sys.executable, "-m", "harness.certify", library.build]
    command += ["--framework", library.framework, "--estimated", library.estimated]
    done = subprocess.run(
        [*command, "--name", library.name, "--json", str(file)],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout or done.stderr, flush=True)
    if not file.exists():
        raise RuntimeError(f"{library.name}: {done.stderr.strip()}")
    certificate: Mapping[str, Any] = json.loads(file.read_text())
    return {row["what"]: row for row in certificate["findings"]}, certificate["summary"]


def page(libraries: Sequence[Library], findings: Sequence[Findings], summaries: list[str]) -> str:
    """The page in Markdown."""
    text = (HERE / "page.md").read_text().rstrip()
    packages = sorted({package for library in libraries for package in library.packages})
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    whats = list(findings[0])
    head = ["what", *(library.name for library in libraries)]
    table = [head, ["---"] * len(head)]
    table += [[what, *(found[what]["verdict"] for found in findings)] for what in whats]
    lines = [text, "", f"With {versions}.", "", *(f"| {' | '.join(row)} |" for row in table)]
    for library, found, summary in zip(libraries, findings, summaries, strict=True):
        lines += ["", f"## {library.name}", "", f"{summary[0].upper()}{summary[1:]}.", ""]
        lines += ["| what | expected | got | verdict | note |", "|---|--:|--:|---|---|"]
        for row in found.values():
            cells = (row[key] for key in ("what", "expected", "got", "verdict", "note"))
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main(target: Path) -> None:
    """Runs all libraries and writes the page."""
    with tempfile.TemporaryDirectory() as folder:
        found = [findings_of(library, Path(folder)) for library in LIBRARIES]
    target.write_text(page(LIBRARIES, [row for row, _ in found], [text for _, text in found]))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
