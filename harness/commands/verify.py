"""`harness verify`: runs recorded trials again, elsewhere, and says how that compares."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness import backends
from harness.commands.run import INTERRUPTED
from harness.commands.show import show
from harness.comparison.agreement import Agreement, judge
from harness.comparison.evidence import gather
from harness.comparison.spread import seed_spread
from harness.datasets import registry as datasets
from harness.errors import HarnessError, InputError, Problem
from harness.executors.run import Execution
from harness.executors.run import run as run_trials
from harness.labels import trial_name
from harness.planning.plan import Plan, PlannedTrial, require_backends
from harness.records.files import now, scrub
from harness.records.files import replace as write
from harness.records.folder import Damaged, Record, TrialFolder, read_records
from harness.records.status import Status
from harness.records.verified import Verification, read_verifications, write_verification
from harness.records.version import __version__
from harness.suites.filters import fields_of, parse_filter
from harness.text import columns, counted
from harness.trial import SEMANTICS_VERSION, Trial

__all__ = ["Choice", "verify"]


@dataclass(frozen=True)
class Choice:
    """Which recorded trials are run again, and where.

    Arguments:
        trial_ids: Their ids, or beginnings of ids; none means all.
        where: Only those that match this filter.
        sample: At most so many of them, first those that nobody has verified.
        backend: Another backend to run them in; None means their own.
    """

    trial_ids: Sequence[str] = ()
    where: str | None = None
    sample: int | None = None
    backend: str | None = None


def verify(
    root: Path,
    choice: Choice,
    how: Execution,
    scratch: Path | None = None,
    say: Callable[[str], None] = print,
) -> list[Verification] | None:
    """Runs recorded trials again in another run root and records what came out in this one.

    Arguments:
        root: The run root.
        choice: Which trials, and in which backend.
        how: Who runs them.
        scratch: Run root of the repetitions, which is kept; None means one that is removed.
        say: Prints a text of one or more lines.

    Returns:
        The verifications, None if the run was interrupted; those that came so far are recorded.

    Raises:
        InputError: No recorded trial is meant, or the backend does not support one.
        BackendNotInstalled: A framework is not installed.
        RecordError: Records are damaged; it is raised after all others have been verified.
    """
    damaged = Damaged()
    records, others = _chosen(root, choice, damaged)
    repeated = [(record, _again(record.trial, choice.backend)) for record in records]
    possible = [pair for pair in repeated if _obstacle(*pair) is None]
    took = sum(_seconds(record) for record, _ in possible) / 3600
    say(f"runs {counted(len(possible), 'trial')} again, {took:.2g} h when recorded")
    with _scratch(root, scratch) as place:
        plan = _plan(possible, root, place)
        require_backends(plan)
        finished = run_trials(plan, place, how)
        verifications = []
        for record, again in repeated:
            with damaged:
                verification = _verification(root, place, record, again, others)
                if verification is not None:
                    write_verification(root, verification)
                    verifications.append(verification)
    say(_text(verifications, {record.trial.id: record.trial for record in records}))
    damaged.refuse()
    return verifications if finished else None


def exit_code(verifications: Sequence[Verification] | None) -> int:
    """0 if all agree as far as they must, 1 if not, 130 if interrupted."""
    if verifications is None:
        return INTERRUPTED
    return 0 if all(each.is_kept for each in verifications) else 1


def _chosen(root: Path, choice: Choice, damaged: Damaged) -> tuple[list[Record], Sequence[Record]]:
    """The records to repeat, and all records, whose seeds say what noise is."""
    everything: list[Record] = []
    with damaged:
        everything.extend(read_records(root))
    final = [each for each in everything if Status(each.result["status"]).is_final]
    records = final
    if choice.trial_ids:
        wanted = {show(name, root).trial.id for name in choice.trial_ids}
        records = [each for each in final if each.trial.id in wanted]
    if choice.where is not None:
        matches = parse_filter(choice.where).matches
        records = [
            each
            for each in records
            if matches({**fields_of(each.trial, "finished"), "id": (each.trial.id,)})
        ]
    if not records:
        damaged.refuse()
        raise InputError(
            [
                Problem(
                    "verify",
                    f"no finished trial under {root / 'trials'} is meant",
                    fix="`harness status SUITE` lists the trials of a suite; --root names another "
                    "run root",
                )
            ]
        )
    if choice.sample is not None:
        results = {each.trial.id: str(each.result["attempt_id"]) for each in records}
        known = {each.trial_id for each in read_verifications(root, results)}
        # Ids are hashes: their order is as good as a draw, and the same each time.
        records.sort(key=lambda each: (each.trial.id in known, each.trial.id))
        records = records[: choice.sample]
    return records, everything


def _again(trial: Trial, backend: str | None) -> Trial:
    """The trial as this version identifies it, which may be another id than a record's."""
    return replace(trial, backend=backend or trial.backend)


def _obstacle(record: Record, again: Trial) -> Agreement | None:
    """Why a trial need not be run again, or cannot be."""
    if record.trial.semantics_version != SEMANTICS_VERSION:
        reason = (
            f"recorded where specs had the meaning of version {record.trial.semantics_version}; "
            f"this one has {SEMANTICS_VERSION}"
        )
        return Agreement("not_run", reason)
    try:
        data = datasets.declare(again.dataset.name)
    except HarnessError as error:
        return Agreement("not_run", f"no data: {error}")
    if (unsupported := backends.get_backend(again.backend).supports(again)) is not None:
        return Agreement("not_run", f"{again.backend} does not support it: {unsupported.reason}")
    if not data.available:
        return Agreement("not_run", f"no data: {data.reason}")
    if data.digest != again.dataset.digest:
        reason = (
            f"the data differ: '{again.dataset.name}' has digest {data.digest} here, the record "
            f"{again.dataset.digest}"
        )
        return Agreement("not_same", reason)
    return None


def _plan(pairs: Sequence[tuple[Record, Trial]], root: Path, scratch: Path) -> Plan:
    """The repetitions, with the choices that the recorded attempts made."""
    planned = []
    for record, again in pairs:
        _, resources = record.folder.read_spec()
        planned.append(PlannedTrial(again, "to_run", None, resources))
        if again.backend == record.trial.backend and record.folder.choices.is_file():
            folder = TrialFolder(scratch, again.id)
            folder.path.mkdir(parents=True, exist_ok=True)
            write(folder.choices, record.folder.choices.read_bytes())
    return Plan("verify", "", tuple(planned), source=str(root))


def _verification(
    root: Path, scratch: Path, record: Record, again: Trial, others: Sequence[Record]
) -> Verification | None:
    """What is to be said of one repetition; None if it was interrupted."""
    trial, obstacle = record.trial, _obstacle(record, again)
    expects_bitwise, spread = False, None
    if obstacle is None:
        folder = TrialFolder(scratch, again.id)
        result = folder.read_result()
        if result is None:
            return None
        recorded = gather(root, trial, record.folder.trial_id)
        repeated = gather(scratch, again, again.id)
        prints = (recorded.fingerprint, repeated.fingerprint)
        expects_bitwise = prints[0] is not None and prints[0] == prints[1]
        spread = seed_spread(trial, others)
        if Status(result["status"]).is_final:
            obstacle = judge(recorded, repeated, trial.dtype, spread)
        else:
            status = result["status"].replace("_", " ")
            obstacle = Agreement("not_run", f"{status}: {result.get('message')}")
    return Verification(
        trial_id=record.folder.trial_id,
        attempt_id=str(record.result["attempt_id"]),
        backend=again.backend,
        expects_bitwise=expects_bitwise,
        spread=spread,
        finished_ms=now(),
        harness=__version__,
        verdict=obstacle.verdict,
        reason=str(scrub(obstacle.reason)),
        parted=obstacle.parted,
        largest=obstacle.largest,
        weights=obstacle.weights,
    )


@contextmanager
def _scratch(root: Path, wanted: Path | None) -> Iterator[Path]:
    """A run root for the repetitions."""
    if wanted is not None:
        if wanted.resolve() == root.resolve():
            message = "names the run root that is verified"
            raise InputError([Problem("--scratch", message, fix="name another folder")])
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    place = Path(tempfile.mkdtemp(prefix="harness-verify-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _seconds(record: Record) -> float:
    timing = record.result.get("timing") or {}
    return sum(timing.get(name) or 0.0 for name in ("train_s", "val_s", "test_s"))


def _text(verifications: Sequence[Verification], trials: dict[str, Trial]) -> str:
    """A line for each verification, then how many have which verdict."""
    rows = []
    for each in verifications:
        parted = f"step {each.parted.step}" if each.parted else "nowhere"
        name = trial_name(trials[each.trial_id])
        verdict = each.verdict.replace("_", " ")
        if each.expects_bitwise and not each.is_kept:
            verdict += " (the same bits were due)"
        rows.append((each.trial_id, name, each.backend, verdict, parted, each.reason))
    header = ("id", "trial", "again in", "verdict", "curves part", "finding")
    kept = sum(each.is_kept for each in verifications)
    total = f"{kept} of {counted(len(verifications), 'trial')} verified"
    return f"{columns(rows, header=header)}\n{total}"


def verification_json(verifications: Sequence[Verification]) -> list[dict[str, object]]:
    """The verifications as plain values."""
    return [{**asdict(each), "kept": each.is_kept} for each in verifications]
