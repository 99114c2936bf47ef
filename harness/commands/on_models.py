"""Commands that open a trained model: densities, samples, and its test as a page of plain code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.terminal import Root, TrialId, say
from harness.records.folder import DEFAULT_ROOT

__all__ = ["ON_MODELS"]

Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        default_factory=list,
        show_default=False,
        help="A change of the evaluation, as evaluation.trace=exact.",
    ),
]
BackendName = Annotated[
    str | None, typer.Option("--backend", help="Who computes; default the one that trained.")
]


def density_of_points(
    trial: TrialId,
    points: Annotated[Path, typer.Argument(help="Your points: a .csv, .npz or .parquet file.")],
    settings: Settings,
    root: Root = DEFAULT_ROOT,
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .npz or .parquet file for the values.")
    ] = None,
    backend: BackendName = None,
    draws: Annotated[
        int, typer.Option(min=1, help="Draws of the posterior, for the bound of an autoencoder.")
    ] = 1,
) -> None:
    """Compute log p of points of your own under a trained model, in nats.

    Without --out the values are printed, one a line.
    """
    from harness.commands.density import density
    from harness.commands.views import density_text

    densities = density(
        trial, points, root, settings=settings, backend=backend, draws=draws, out=out
    )
    if out is None:
        say("\n".join(f"{value:.17g}" for value in densities.values))
    else:
        say(f"{density_text(densities)}\nwritten: {out}")


def sample_of_model(
    trial: TrialId,
    out: Annotated[Path, typer.Option(help="A .csv, .npz or .parquet file for the samples.")],
    settings: Settings,
    root: Root = DEFAULT_ROOT,
    count: Annotated[int, typer.Option("-n", min=0, help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal samples.")] = 0,
    backend: BackendName = None,
) -> None:
    """Draw samples from a trained model, with their log p."""
    from harness.commands.density import sample
    from harness.commands.views import density_text

    densities = sample(trial, count, out, root, seed=seed, settings=settings, backend=backend)
    lines = [] if densities is None else [density_text(densities)]
    say("\n".join([*lines, f"written: {out}"]))


def script_of_trial(
    trial: TrialId,
    root: Root = DEFAULT_ROOT,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for mwe.py and its arrays; default: print, arrays in the root."),
    ] = None,
    backend: BackendName = None,
) -> None:
    """Print a trial's test as a script of at most 50 lines that does without the harness.

    It computes the recorded number by torchdiffeq or diffrax alone: what a maintainer of these
    libraries needs when numbers differ.
    """
    from harness.commands.script import script

    text = script(trial, root, out=out, backend=backend)
    say(text.rstrip() if out is None else f"written: {out / 'mwe.py'}")


ON_MODELS: Mapping[str, Callable[..., None]] = {
    "density": density_of_points,
    "sample": sample_of_model,
    "script": script_of_trial,
}
"""By name of the command."""
