"""A contender in a process of its own: `python -m harness.timing.worker ROOT TRIAL --cores 0,1`.

It answers when it is ready, and then each line of standard input, a JSON object whose `do` names a
method of what it serves; an answer is a line, `{"error": ...}` if it failed. A process each,
because torch and jax do not share one, a process has one precision, and the memory of each is to
be known.

As in a trial, only the standard library is imported until the process is pinned to its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.errors import HarnessError
from harness.process.cores import pin
from harness.process.home import settle_home
from harness.records.folder import TrialFolder
from harness.records.readers import read_choices
from harness.trial import GradientName, Trial

if TYPE_CHECKING:
    from harness.datasets.base import Dataset
    from harness.interface import Arrays, Model

_Answer = dict[str, Any]


def main() -> None:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m harness.timing.worker")
    parser.add_argument("root", type=Path, help="run root")
    parser.add_argument("trial", help="id of a finished trial")
    parser.add_argument("--cores", required=True, help="as 0,1")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--reference", action="store_true", help="compute the reference only")
    given = parser.parse_args()
    cores = tuple(map(int, given.cores.split(",")))
    settle_home()
    pin(cores, given.device)
    with _answers() as say:
        served: list[object] = []

        def opened() -> _Answer:
            one, ready = _opened(
                given.root, given.trial, len(cores), given.device, given.reference
            )
            served.append(one)
            return ready

        say(_answer(opened))
        for line in sys.stdin:
            asked = json.loads(line)
            method = getattr(served[0], asked.pop("do"))
            say(_answer(method, **asked))


@contextmanager
def _answers() -> Iterator[Callable[[_Answer], None]]:
    """Keeps standard output for answers: what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield lambda answer: print(json.dumps(answer), file=answers, flush=True)


def _answer(method: Callable[..., _Answer], **asked: Any) -> _Answer:  # noqa: ANN401
    from harness.measuring.evaluator import SolveFailed

    try:
        return method(**asked)
    except (HarnessError, SolveFailed) as error:
        return {"error": str(error)}
    except Exception as error:
        # Whatever a framework raises becomes the sentence of a record.
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def _opened(
    root: Path, trial_id: str, cores: int, device: str, reference: bool
) -> tuple[object, _Answer]:
    """Opens a model as its trial did; and says where it runs and what was chosen."""
    from harness.backends import get_backend
    from harness.datasets import registry as datasets
    from harness.measuring.reference import reference_of
    from harness.process.environment import describe, with_choices

    trial, choices = _settled(TrialFolder(root, trial_id))
    spec = reference_of(trial) if reference else trial
    backend = get_backend(trial.backend)
    prepared = backend.prepare(spec, cores)
    dataset = datasets.load(trial.dataset.name, trial.dataset.digest)
    model = backend.open(spec, dataset.info, device, None if reference else choices)
    if reference:
        return _Reference(trial, dataset, model), {}
    kind: Any = device
    environment = describe(trial.precision, backend.framework, prepared, cores, kind)
    return _Timed(trial, dataset, model), {
        "gradient": trial.gradient,
        "choices": dict(choices),
        "environment": with_choices(environment, trial.gradient, choices),
    }


def _settled(folder: TrialFolder) -> tuple[Trial, Mapping[str, str]]:
    """A trial with everything decided, as its attempts had it."""
    trial, _ = folder.read_spec()
    gradient, choices = read_choices(folder.choices, typing.get_args(GradientName))
    resolved = replace(trial, gradient=cast(GradientName, gradient), identity=trial.id)
    return resolved, choices


class _Timed:
    """What a contender may be asked."""

    def __init__(self, trial: Trial, dataset: Dataset, model: Model) -> None:
        from harness.timing.contender import Contender

        self._model = model
        self._contender = Contender(trial, dataset, model)

    def first_step(self) -> _Answer:
        return {"seconds": self._contender.first_step()}

    def save(self, path: str) -> _Answer:
        """Writes the arrays that the model has now."""
        from harness.records.arrays import seal

        Path(path).write_bytes(seal(self._model.arrays(), {}))
        return {}

    def begin(self, path: str) -> _Answer:
        """Takes over the arrays of a file."""
        return {"seconds": self._contender.begin(_arrays(path))}

    def round(self, number: int, repeats: Mapping[Any, int]) -> _Answer:
        from dataclasses import asdict

        from harness.process.machine import Meter

        meter = Meter()
        answer = self._contender.round(number, repeats)
        return {**answer, "usage": asdict(meter.read())}

    def log_prob(self) -> _Answer:
        return {"log_prob": self._contender.log_prob()}

    def memory(self) -> _Answer:
        """What a training step takes, and what the process has taken."""
        from harness.process.memory import peak_host_bytes

        peak = peak_host_bytes()
        return {
            "step_bytes": self._contender.step_bytes(),
            "peak_host_bytes": peak,
            "peak_device_bytes": self._model.peak_device_bytes(),
        }


class _Reference:
    """What computes the reference may be asked."""

    def __init__(self, trial: Trial, dataset: Dataset, model: Model) -> None:
        from harness.measuring.reference import evaluated_rows

        self._trial, self._model = trial, model
        self._x = evaluated_rows(trial, dataset.rows("test", trial.evaluation.rows).x)

    def log_prob(self, path: str) -> _Answer:
        """The reference for the arrays of a file."""
        from harness.measuring.reference import doubled, log_prob

        self._model.load_arrays(doubled(_arrays(path)))
        return {"log_prob": log_prob(self._model, self._trial, self._x, reference=True)}


def _arrays(path: str) -> Arrays:
    from harness.records.arrays import unpack

    return unpack(Path(path))


if __name__ == "__main__":
    main()
