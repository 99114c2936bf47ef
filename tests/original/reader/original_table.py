"""Prints what `--original-table` wrote, by kind of model: the largest difference of each quantity.

python original_table.py TORCH.json JAX.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

QUANTITIES = {
    "log p, ELBO": ("log_prob", "elbo_terms/kl", "elbo_terms/reconstruction"),
    "z, samples": ("z", "sample", "reconstruct"),
    "loss, regularizers": ("loss", "nll", "regularizers"),
    "forward": ("forward",),
    "gradient, matched": ("gradient_matched",),
    "gradient, released": ("gradient",),
    "backward, matched": ("backward_matched",),
}


def lines(torch: list[dict[str, Any]], jax: list[dict[str, Any]]) -> Iterable[str]:
    """A Markdown table: kinds x quantities, torch / jax, with the number of cases."""
    yield f"| kind | cases | {' | '.join(QUANTITIES)} |"
    yield "|---" * (len(QUANTITIES) + 2) + "|"
    for kind in dict.fromkeys(row["kind"] for row in torch):
        sides = [[row for row in rows if row["kind"] == kind] for rows in (torch, jax)]
        counts = " / ".join(str(len({row["case"] for row in rows})) for rows in sides)
        cells = [
            " / ".join(_largest(rows, names) for rows in sides) for names in QUANTITIES.values()
        ]
        yield f"| {kind} | {counts} | {' | '.join(cells)} |"


def _largest(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    sizes = [row["size"] for row in rows if row["quantity"] in names and row["bar"] is not None]
    if not sizes:
        return "-"
    return (
        f"{max(sizes):.0f}" if names[0] in ("forward", "backward_matched") else f"{max(sizes):.0e}"
    )


if __name__ == "__main__":
    print("\n".join(lines(*(json.loads(Path(path).read_text()) for path in sys.argv[1:3]))))
