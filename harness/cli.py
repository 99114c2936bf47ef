"""The command line. Each command calls one public function; what it needs is imported inside."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness.commands.completion import complete_suite
from harness.commands.on_models import ON_MODELS
from harness.commands.on_records import ON_RECORDS
from harness.commands.terminal import (
    Executor,
    Json,
    Rerun,
    Root,
    ShardText,
    Suite,
    TrialId,
    Where,
    not_with_json,
)
from harness.commands.terminal import as_json_text as _json
from harness.commands.terminal import say as _print
from harness.errors import HarnessError, InputError, Problem, sentence_of
from harness.process.home import settle_home
from harness.records.folder import DEFAULT_ROOT
from harness.records.version import __version__

__all__ = ["app", "main"]

_HELP = """Compare continuous normalizing flows across frameworks, solvers and regularizers.

A suite is a YAML file, or the name of a built-in one: `harness run quickstart`.

\b
Exit codes:
  0    all trials ended ok
  1    some trials failed
  2    invalid input, or something is not installed
  3    a gate was not kept
  130  interrupted
"""

app = typer.Typer(
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Source(StrEnum):
    """Where a report reads records."""

    records = "records"
    mlflow = "mlflow"


def main() -> NoReturn:
    """Runs the command line; what a user can mend is printed without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # Python has None for one that was closed before it started.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        settle_home()
        app(prog_name="harness")
    except (HarnessError, OSError) as error:
        _complain(error)
        sys.exit(2)
    sys.exit(0)


def _complain(error: HarnessError | OSError) -> None:
    """Prints an error where it is seen; where nobody listens the exit code says it."""
    place = "harness"
    if isinstance(error, OSError):
        place = error.filename or place
    text = sentence_of(error, place) if isinstance(error, OSError) else str(error)
    with suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


@app.callback(invoke_without_command=True)
def _harness(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        _print(f"cnf-harness {__version__}")
        raise typer.Exit


@app.command("plan")
def _plan(
    suite: Suite,
    root: Root = DEFAULT_ROOT,
    where: Where = None,
    rerun: Rerun = False,
    shard: ShardText = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the trials that wait will take.")
    ] = False,
    probe_minutes: Annotated[
        float | None,
        typer.Option(
            "--probe", min=0.01, help="Run each unknown shape for so many minutes first."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the trials of a suite before anything runs.

    For each: whether it is to run, finished, or skipped and why.
    """
    from harness.commands.plan_text import plan_text
    from harness.commands.timing_text import timing_json, timing_lines
    from harness.planning.plan import plan, plan_json
    from harness.planning.shards import part_of, shard_of

    asked = shard_of(shard, where)
    made = plan(suite, root, where, rerun)
    made = made if asked is None else part_of(made, asked)
    if estimate or probe_minutes is not None:
        from harness.commands.estimate import estimate_json, estimate_text, probe
        from harness.commands.run import INTERRUPTED
        from harness.planning.estimate import estimate_plan

        with not_with_json(as_json):
            if probe_minutes is not None and not probe(made, root, probe_minutes):
                raise typer.Exit(INTERRUPTED)
        estimates = estimate_plan(made, root)
        as_values, as_text = estimate_json(made, estimates), estimate_text(made, estimates)
        _print(_json(as_values) if as_json else as_text)
        return
    if as_json:
        _print(_json(plan_json(made) | timing_json(made, root)))
    else:
        _print("\n".join([plan_text(made, asked), *timing_lines(made, root)]))


@app.command("run")
def _run(
    suite: Suite,
    root: Root = DEFAULT_ROOT,
    where: Where = None,
    rerun: Rerun = False,
    shard: ShardText = None,
    executor: Annotated[
        Executor, typer.Option(help="ray spreads trials; inline runs them in this process.")
    ] = Executor.ray,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster; by default a local one is started.")
    ] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPU cores to use; default all.")] = None,
    exclusive: Annotated[
        bool,
        typer.Option(
            "--exclusive", help="One trial at a time on each machine, so that speeds compare."
        ),
    ] = False,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing", help="Go on with timings that an earlier budget did not reach, or failed."
        ),
    ] = False,
    with_report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the report afterwards.")
    ] = True,
    yes: Annotated[
        bool, typer.Option("--yes", help="Start even above the budget of the suite.")
    ] = False,
) -> None:
    """Run a suite, then write its report.

    The same command again resumes what was interrupted and runs only what is new. A job array runs
    it with --shard 1/8 to 8/8, which only run trials, then once without it for timings and report.
    """
    from harness.commands.run import run
    from harness.executors.run import Execution

    how = Execution(executor.value, address, cpus, exclusive)
    code = run(
        suite,
        root,
        how,
        where=where,
        rerun=rerun,
        shard=shard,
        timing=timing,
        with_report=with_report,
        yes=yes,
        say=_print,
    )
    raise typer.Exit(code)


@app.command("report")
def _report(
    suite: Suite,
    root: Root = DEFAULT_ROOT,
    where: Where = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; default ROOT/reports/SUITE.")
    ] = None,
    source: Annotated[
        Source, typer.Option("--from", help="Read the records, or their mirror in MLflow.")
    ] = Source.records,
) -> None:
    """Write the report of a suite from its records, or of a file that `harness archive` wrote."""
    if suite.endswith(".zip"):
        from harness.commands.archive import report_archive

        _print(f"report: {report_archive(Path(suite), out, where)}")
        return
    from harness.commands.report import report
    from harness.planning.plan import plan

    made = plan(suite, root, where, check_backends=False)
    written = report(made, root, out, source.value, command=f"harness report {suite}")
    _print(f"report: {written}")


@app.command("results")
def _results(
    suite: Annotated[
        str | None,
        typer.Argument(
            help="A suite file or a built-in suite; default all that is recorded.",
            autocompletion=complete_suite,
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
    where: Where = None,
) -> None:
    """Print the table of results, and below it what it says of paper, backends and speed."""
    from harness.commands.results import recorded_plan, results
    from harness.planning.plan import plan, select

    if suite is None:
        made = select(recorded_plan(root), root, where)
    else:
        made = plan(suite, root, where, check_backends=False)
    _print(results(made, root))


@app.command("status")
def _status(
    suite: Suite, root: Root = DEFAULT_ROOT, where: Where = None, as_json: Json = False
) -> None:
    """Show where the trials of a suite stand."""
    from harness.commands.status import status
    from harness.commands.timing_text import timing_lines
    from harness.commands.views import status_json, status_text
    from harness.planning.plan import plan

    made = plan(suite, root, where, check_backends=False)
    statuses = status(made, root)
    text = "\n".join([status_text(statuses), *timing_lines(made, root)])
    _print(_json(status_json(statuses)) if as_json else text)


@app.command("show")
def _show(
    trial: TrialId,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Show the spec and the record of one trial."""
    from harness.commands.show import show
    from harness.commands.views import show_json, show_text

    record = show(trial, root)
    _print(_json(show_json(record)) if as_json else show_text(record))


@app.command("list")
def _list(as_json: Json = False) -> None:
    """List all names that a suite can use.

    Datasets, backends, solvers, regularizers, layers, metrics and built-in suites.
    """
    from harness.commands.views import catalogue_text
    from harness.suites.catalogue import catalogue

    kinds = catalogue()
    _print(_json(kinds) if as_json else catalogue_text(kinds))


@app.command("data")
def _data(
    name: Annotated[str | None, typer.Argument(help="Load this one and describe it.")] = None,
    as_json: Json = False,
    suite: Annotated[
        str | None, typer.Option("--fetch", help="Bring all data of this suite here.")
    ] = None,
) -> None:
    """Show which datasets are here, describe one, or fetch those of a suite before its run."""
    from harness.commands.fetch import fetch, fetched_text
    from harness.commands.views import catalogue_text, data_text
    from harness.suites.catalogue import data, dataset_entries

    if suite is not None:
        if name is not None:
            fix = f"remove '{name}', or describe it without --fetch"
            raise InputError([Problem("--fetch", "it is for a suite, not for a dataset", fix=fix)])
        found = tuple(fetch(suite))
        _print(_json(found) if as_json else fetched_text(found))
        if any(each.problem for each in found):
            raise typer.Exit(1)
    elif name is None:
        kinds = {"datasets": dataset_entries()}
        _print(_json(kinds) if as_json else catalogue_text(kinds))
    else:
        facts = data(name)
        _print(_json(facts) if as_json else data_text(facts))


@app.command("doctor")
def _doctor(root: Root = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Check versions, backends and data of this machine."""
    from harness.commands.doctor import doctor
    from harness.commands.views import doctor_text

    checks = doctor(root)
    _print(_json(checks) if as_json else doctor_text(checks))
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


@app.command("sync")
def _sync(root: Root = DEFAULT_ROOT) -> None:
    """Bring the MLflow mirror of the records up to date."""
    from harness.records.mlflow import sync
    from harness.text import counted

    _print(f"{counted(sync(root, say=_print), 'record')} exported to MLflow")


@app.command("merge")
def _merge(
    roots: Annotated[list[Path], typer.Argument(help="Run roots, of other machines perhaps.")],
    into: Annotated[Path, typer.Option(help="The run root that gets all of them.")],
) -> None:
    """Bring the records and trained models of several run roots into one.

    The same trial with the same numbers is one record and a note; with other numbers it is a
    conflict: the first is kept, both are named, and the exit code is 1.
    """
    from harness.commands.merge import merged_text
    from harness.records.merge import merge

    merged = merge(roots, into)
    _print(merged_text(merged))
    if merged.conflicts:
        raise typer.Exit(1)


@app.command("archive")
def _archive(
    root: Annotated[Path, typer.Argument(help="A run root.")] = DEFAULT_ROOT,
    where: Where = None,
    out: Annotated[
        Path | None, typer.Option(help="The zip file; default the root's name, here.")
    ] = None,
) -> None:
    """Write records, curves, samples and trained models to one file for a colleague.

    `harness report FILE.zip` opens it; unpacked it is a run root.
    """
    from harness.commands.archive import archive
    from harness.text import counted

    file = out or Path(f"{root.resolve().name}.zip")
    _print(f"{counted(archive(root, file, where), 'trial')} in {file}: harness report {file}")


@app.command("schema")
def _schema() -> None:
    """Print the JSON Schema of suite files, for editors."""
    from harness.suites.schema import schema

    _print(_json(schema()))


for _name, _command in (*ON_MODELS.items(), *ON_RECORDS.items()):
    app.command(_name)(_command)
