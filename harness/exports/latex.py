"""LaTeX: a table a dataset, for `booktabs`; mean and standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from harness.records.files import replace
from harness.records.status import Status
from harness.statistics import summarize
from harness.trial import AXES

__all__ = ["escaped", "write_latex"]

_NUMBERS = (
    ("metrics.test_nll", r"NLL (nats)", 3, 1.0),
    ("metrics.test_bits_per_dim", r"bits/dim", 3, 1.0),
    ("metrics.test_neg_elbo", r"$-$ELBO (nats)", 2, 1.0),
    ("nfe.train.forward.mean", r"NFE", 1, 1.0),
    ("timing.step_s.median", r"step (ms)", 1, 1000.0),
)
"""Column, heading, digits after the point, factor."""

_ALWAYS = ("backend", "solver", "regularizer")


def write_latex(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes `results.tex`, to be read by a document that uses the package booktabs."""
    path = folder / "results.tex"
    ok = frame[frame["status"] == Status.OK.value]
    tables = [_table(str(name), part) for name, part in ok.groupby("dataset", sort=True)]
    head = "% Needs \\usepackage{booktabs}. Mean and standard deviation over n seeds.\n"
    replace(path, (head + "\n".join(tables)).encode())
    return [path]


def _table(dataset: str, frame: pd.DataFrame) -> str:
    axes = [
        axis
        for axis in AXES
        if axis not in ("dataset", "seed") and (axis in _ALWAYS or frame[axis].nunique() > 1)
    ]
    numbers = [each for each in _NUMBERS if each[0] in frame and frame[each[0]].notna().any()]
    rows = [
        [
            *(escaped(str(value)) for value in key),
            *(_spread(part[column].dropna(), digits, by) for column, _, digits, by in numbers),
            str(len(part)),
        ]
        for key, part in frame.groupby(axes, sort=True)
    ]
    header = [*map(escaped, axes), *(heading for _, heading, _, _ in numbers), "$n$"]
    lines = [
        r"\begin{table}",
        rf"  \caption{{{escaped(dataset)}}}",
        r"  \centering",
        rf"  \begin{{tabular}}{{{'l' * len(axes)}{'r' * (len(numbers) + 1)}}}",
        r"    \toprule",
        _line(header),
        r"    \midrule",
        *map(_line, rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _spread(values: Iterable[float], digits: int, factor: float) -> str:
    summary = summarize(factor * float(value) for value in values)
    if summary is None:
        return "--"
    mean = f"{summary.mean:.{digits}f}"
    if summary.sd is None:
        return f"${mean}$"
    return rf"${mean} \pm {summary.sd:.{digits}f}$"


_ESCAPES = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)


def escaped(text: str) -> str:
    """A text in which no character means anything to TeX."""
    return text.translate(_ESCAPES)
