"""Compares the stored benchmarks of two commits; with one, prints its tables again.

    python compare.py COMMIT [COMMIT]

A commit is the beginning of its hash; its last stored run counts. Machines drift between runs, so
the verdict rests on the ratios to the yardstick, which ran beside: `faster` and `slower`
mean that the quartiles of the two runs do not overlap.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from table import LEGEND, format_table

Rows = dict[tuple[str, str], dict[str, Any]]
"""By workload and contender."""


def load(commit: str, folder: Path = Path(".benchmarks")) -> Rows:
    """The last stored run of a commit."""
    for path in sorted(folder.rglob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True):
        stored = json.loads(path.read_text())
        if stored["commit_info"]["id"].startswith(commit):
            return {
                (found["params"]["workload"], found["params"]["contender"]): found["extra_info"]
                for found in stored["benchmarks"]
            }
    raise SystemExit(f"no run of commit {commit} under {folder}; `make bench` at it stores one")


def compare(before: Rows, after: Rows) -> list[str]:
    """One line a contender of either run."""
    lines = [f"{'':40}{'x yardstick':>20}{'change':>10}{'MB':>14}{'error nats':>20}"]
    for key in [*before, *(key for key in after if key not in before)]:
        name = " ".join(key)
        if key not in before or key not in after:
            lines.append(f"{name:40}only in the {'first' if key in before else 'second'} run")
            continue
        old, new = before[key], after[key]
        was, now = old["x_yardstick"], new["x_yardstick"]
        verdict = "same"
        if was["q75"] < now["q25"]:
            verdict = "faster"
        elif now["q75"] < was["q25"]:
            verdict = "slower"
        lines.append(
            f"{name:40}{was['median']:>8.2f} -> {now['median']:<8.2f}"
            f"{100 * (now['median'] / was['median'] - 1):>+9.0f}%"
            f"{_megabytes(old):>7} -> {_megabytes(new):<4}"
            f"{old['error_nats']:>9.1e} -> {new['error_nats']:.1e}  {verdict}"
        )
    return lines


def _megabytes(row: dict[str, Any]) -> str:
    return "?" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e6:.0f}"


def main(commit: str, other: str | None = None) -> None:
    rows = load(commit)
    if other is not None:
        print("\n".join(compare(rows, load(other))))
        return
    for workload in dict.fromkeys(workload for workload, _ in rows):
        print(f"\n{workload}")
        print(format_table((name, row) for (of, name), row in rows.items() if of == workload))
    print(LEGEND)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
