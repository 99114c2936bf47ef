"""Commands that work on records: what is recorded is verified, compared and handed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.completion import complete_trial
from harness.commands.terminal import (
    Executor,
    Json,
    Root,
    Suite,
    Where,
    as_json_text,
    not_with_json,
    say,
)
from harness.records.folder import DEFAULT_ROOT

__all__ = ["ON_RECORDS"]


def verify_records(
    trials: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of recorded trials, or their beginnings; none means all.",
            autocompletion=complete_trial,
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
    where: Where = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many trials, first those not verified yet."),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Run them in another backend than their own.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Keep what is run again in this folder.")
    ] = None,
    executor: Annotated[
        Executor, typer.Option(help="inline runs one trial after the other, ray spreads them.")
    ] = Executor.inline,
    as_json: Json = False,
) -> None:
    """Run recorded trials again and say how that compares.

    The same bits, within the tolerance, statistically the same or not the same, and the first
    step at which the curves part; ROOT/verified has it, and the report. Exit code 1 if a trial
    does not agree as far as it must.
    """
    from harness.commands.verify import Choice, exit_code, verification_json, verify
    from harness.executors.run import Execution

    choice = Choice(tuple(trials or ()), where, sample, backend)
    how = Execution(executor.value, mirror=False)
    with not_with_json(as_json):
        verifications = verify(root, choice, how, scratch, say)
    if as_json:
        say(as_json_text(verification_json(verifications or ())))
    raise typer.Exit(exit_code(verifications))


def evaluate_trials(
    trials: Annotated[
        list[str],
        typer.Argument(help="Ids of trials, or their beginnings.", autocompletion=complete_trial),
    ],
    settings: Annotated[
        list[str],
        typer.Option("--set", help="A change of the evaluation, as evaluation.trace=exact."),
    ],
    root: Root = DEFAULT_ROOT,
    executor: Annotated[
        Executor, typer.Option(help="inline runs in this process, ray spreads trials.")
    ] = Executor.inline,
) -> None:
    """Score recorded trials in another way, without training them again."""
    from harness.commands.evaluate import evaluate
    from harness.executors.run import Execution

    code = evaluate(trials, root, settings, Execution(executor.value), say=say)
    raise typer.Exit(code)


def compare_roots(
    first: Annotated[Path, typer.Argument(help="Run root that is compared with.")],
    second: Annotated[Path, typer.Argument(help="Run root that is judged.")],
    where: Where = None,
    across: Annotated[
        str | None,
        typer.Option(help="Where the sides differ by intention, as backend=torch,jax."),
    ] = None,
    speed_margin: Annotated[
        float, typer.Option(min=0.0, help="Step times that differ by less are the same.")
    ] = 0.01,
    quality_margin: Annotated[
        float | None,
        typer.Option(
            min=1e-9, help="In nats; default a tenth of the spread over seeds, at least parity."
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Chance of a false alarm.")
    ] = 0.05,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit code 3 if anything is worse beyond its margin.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two run roots: quality and speed per setting and in sum, paired by seed."""
    from harness.commands.compare import (
        GATE_BROKEN,
        compare,
        comparison_json,
        comparison_text,
    )
    from harness.comparison.sides import Margins

    margins = Margins(speed_margin, quality_margin, alpha)
    comparison = compare(first, second, margins, where=where, across=across)
    say(as_json_text(comparison_json(comparison)) if as_json else comparison_text(comparison))
    if gate and comparison.regressions():
        raise typer.Exit(GATE_BROKEN)


def export_records(
    root: Annotated[
        Path, typer.Argument(envvar="HARNESS_ROOT", help="Folder of records and reports.")
    ] = DEFAULT_ROOT,
    to: Annotated[Path, typer.Option(help="Folder that the files are written to.")] = Path(
        "export"
    ),
    formats: Annotated[
        str, typer.Option("--format", help="Some of csv, parquet, latex, json, ro-crate.")
    ] = "csv,parquet,latex,json,ro-crate",
    where: Where = None,
    license: Annotated[
        str | None, typer.Option(help="Address of the licence of the results, for the RO-Crate.")
    ] = None,
) -> None:
    """Write records in the forms that other programs read.

    Parquet and CSV with one row a trial, LaTeX tables for booktabs, one JSON a result as the
    model-index of model cards, and RO-Crate 1.2 metadata for the whole folder.
    """
    from harness.commands.export import export, formats_of
    from harness.text import counted

    files = export(root, to, formats_of(formats), where=where, license=license)
    say(f"{counted(len(files), 'file')} written to {to}")


def publish_suite(
    suite: Suite,
    to: Annotated[Path, typer.Option(help="The folder, beside the code perhaps.")],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Copy the records of a suite to a folder that is kept with the code, with a report.

    Specs, results, thinned curves, and of trials that have begun the checkpoint up to 1 MB; then
    the report and tables (CSV, LaTeX). The folder is a run root: after harness merge FOLDER --into
    ROOT, harness run goes on from its checkpoints.
    """
    from harness.commands.publish import publication_text, publish

    say(publication_text(publish(suite, root, to), to))


ON_RECORDS: Mapping[str, Callable[..., None]] = {
    "evaluate": evaluate_trials,
    "verify": verify_records,
    "compare": compare_roots,
    "export": export_records,
    "publish": publish_suite,
}
"""By name of the command."""
