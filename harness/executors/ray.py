"""Spreads trials over the cores and GPUs of a Ray cluster, local or joined.

A trial is a task whose worker starts a process for it, as the inline executor does, and Ray
retries nothing: it would retry memory failures for ever. Ray holds no state that matters; records
do.

Nodes of a joined cluster share the file system of the run root and have the harness installed.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.executors import worker
from harness.executors.attempts import order_of
from harness.executors.ending import Cause, Ended
from harness.executors.nodes import ANSWER_S, asked_of, not_ready, proven, told
from harness.executors.observer import Observer, Stop
from harness.executors.reaper import MARK, reaped
from harness.executors.retries import Deadline, Retries
from harness.planning.plan import PlannedTrial
from harness.process.cores import usable_cores
from harness.records.folder import TrialFolder
from harness.records.trained import TrainedFolder
from harness.training.run_trial import new_attempt_id

__all__ = ["open_cluster", "require_room", "run_ray"]

_POLL_S = 0.3
_DRAIN_S = 30.0
_WINDOW = 64
_CLUSTERS = 3
"""How many clusters of this machine's a run starts, should they die."""
_LONGEST_SOCKET = 103
"""Bytes in the path of a Unix socket, of the systems that allow fewest."""
_SOCKET_BYTES = len("/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store.1")
_Need = tuple[float, float]


@dataclass
class _Running:
    """An attempt that was handed to Ray."""

    planned: PlannedTrial
    attempt_id: str
    deadline: Deadline
    hung: bool = False


def run_ray(
    trials: Sequence[PlannedTrial],
    root: Path,
    observer: Observer,
    stop: Stop,
    *,
    address: str | None = None,
    cpus: int | None = None,
    exclusive: bool = False,
) -> None:
    """Runs trials until all have a result or a stop is requested.

    Arguments:
        trials: The trials; their spec.json is written.
        root: The run root, absolute.
        observer: Follows the trials.
        stop: Says when to stop.
        address: A Ray cluster to join; None starts one on this machine.
        cpus: Cores of the local cluster; None means all.
        exclusive: One trial at a time on each node.

    Raises:
        HarnessError: Ray is not installed, the cluster does not answer, a node of it lacks what
            trials need, this machine can never give a trial what it asks for, or its Ray node
            died again and again.
    """
    retries = Retries(root, observer, stop)
    left = list(trials)
    for _ in range(_CLUSTERS):
        with open_cluster(address, cpus) as ray:
            # Ray has taken SIGTERM, and would end this process with a stack of C++ frames.
            stop.take_signals()
            # A local cluster has inherited what this process knows.
            environment = {} if address is None else told()
            driver = _Driver(ray, root, observer, stop, retries, exclusive, environment)
            if address is None:
                require_room(ray.cluster_resources(), left)
            else:
                _require_ready_nodes(ray, left, root)
            left = driver.run(left)
        if not left or stop.requested:
            return
        observer.note("the Ray node of this machine died; another is started, and trials go on")
    raise HarnessError(
        f"the Ray node of this machine died {_CLUSTERS} times; run the same command again when it "
        "has more memory free, or with --executor inline"
    )


def require_room(have: Mapping[str, float], trials: Sequence[PlannedTrial]) -> None:
    """Raises HarnessError if a trial asks for more than there is: Ray would wait for ever.

    Arguments:
        have: What the cluster has, as Ray names it.
        trials: The trials.
    """
    for planned in trials:
        for name, need in zip(("CPU", "GPU"), _need(planned), strict=True):
            available = have.get(name, 0)
            if need > available:
                raise HarnessError(
                    f"trial {planned.trial.id} asks for {need:g} {name}s but this run has "
                    f"{available:g}; lower 'resources' in the suite, raise --cpus, or join a "
                    "cluster with --address"
                )


@contextmanager
def open_cluster(address: str | None, cpus: int | None) -> Iterator[Any]:
    """Ray, connected to a cluster, or to one of this machine's that ends with the block.

    Raises:
        HarnessError: Ray is not installed, or the cluster cannot be reached.
    """
    # Read when Ray is imported or its processes start, on every node.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", DO_NOT_TRACK="1")
    os.environ.setdefault("RAY_task_oom_retries", "0")
    try:
        import ray
    except ImportError as error:
        raise HarnessError(
            "the ray executor needs ray, which is not installed. Run: pip install "
            "'cnf-harness[ray]', or choose --executor inline"
        ) from error
    options: dict[str, Any] = {"address": address or "local"}
    if address is None:
        options |= {"num_cpus": cpus or len(usable_cores()), "include_dashboard": False}
        options |= _short_folder()
    with reaped() if address is None else nullcontext():
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises plain ones, e.g. if a node is too slow to start
            place = f"the Ray cluster at {address}" if address else "a local Ray cluster"
            fix = _remedy(str(error), address)
            raise HarnessError(f"{place} cannot be reached: {error}; {fix}") from error
        # What this process starts from here on is not the cluster's.
        os.environ.pop(MARK, None)
        # Ray prints a paragraph for every process that dies; the observer gets a line instead.
        ray._private.worker._worker_logs_enabled = False
        try:
            yield ray
        finally:
            ray.shutdown()


def _remedy(said: str, address: str | None) -> str:
    """What to do about an error of `ray.init`."""
    for words, fix in _REMEDIES.items():
        if words in said.lower():
            return fix
    if address is None:
        return "try again when the machine is less busy, or --executor inline"
    return f"'ray status --address {address}' says whether it runs and lets this machine in"


_REMEDIES = {
    "version mismatch": "install the cluster's versions of Ray and Python",
    "token": "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file of the cluster's token",
    "af_unix": "set RAY_TMPDIR to a folder of a shorter path",
    "socket path": "set RAY_TMPDIR to a folder of a shorter path",
}


def _short_folder() -> dict[str, str]:
    """An option of `ray.init` where the temporary folder is too long for Ray's sockets."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(os.fsencode(folder)) + _SOCKET_BYTES <= _LONGEST_SOCKET:
        return {}
    return {"_temp_dir": f"/tmp/ray-{os.getuid()}"}


def _hidden_folder() -> str:
    """The working directory, unless this process finds modules in it; empty then."""
    here = os.path.abspath(os.curdir)
    return "" if here in map(os.path.abspath, filter(None, sys.path)) else here


def _require_ready_nodes(ray: Any, trials: Sequence[PlannedTrial], root: Path) -> None:  # noqa: ANN401
    """Raises HarnessError if a node that can run trials lacks something, by node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(worker)
    ask = ray.remote(num_cpus=0, max_retries=0)(worker.answer)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    said: dict[str, list[str]] = {}
    with proven(root) as proof:
        asked = asked_of(trials, proof)
        references = {
            f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})": ask.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(asked, _hidden_folder())
            for node in nodes
        }
        end = time.monotonic() + ANSWER_S
        for name, reference in references.items():
            try:
                said[name] = ray.get(reference, timeout=max(0.0, end - time.monotonic()))
            except ray.exceptions.GetTimeoutError:
                said[name] = [f"no answer within {ANSWER_S:.0f} s"]
            except ray.exceptions.RayError as error:
                last = str(error).strip().splitlines()[-1]
                said[name] = [f"{last} (is this version of the harness installed there?)"]
    if (refusal := not_ready(said)) is not None:
        raise refusal


class _Driver:
    def __init__(
        self,
        ray: Any,  # noqa: ANN401  (a module)
        root: Path,
        observer: Observer,
        stop: Stop,
        retries: Retries,
        exclusive: bool,
        environment: Mapping[str, str],
    ) -> None:
        self._ray, self._root = ray, root
        self._observer, self._stop = observer, stop
        self._exclusive, self._environment = exclusive, environment
        ray.cloudpickle.register_pickle_by_value(worker)
        self._task = ray.remote(max_retries=0)(worker.run_one)
        self._hidden = _hidden_folder()
        self._retries = retries
        self._node = ray._private.worker._global_node
        self._queues: dict[_Need, deque[PlannedTrial]] = {}
        self._running: dict[Any, _Running] = {}

    def run(self, trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """Runs trials until all have ended, a stop is requested or this machine's node dies.

        Returns:
            What has not ended because the node died, or was not begun when a stop was requested.
        """
        for planned in trials:
            self._queues.setdefault(_need(planned), deque()).append(planned)
        while (any(self._queues.values()) or self._running) and not self._stop.requested:
            if self._node_died():
                break
            self._fill()
            self._collect(_POLL_S)
            self._kill_hung()
            self._observer.refresh()
        if self._running and not self._node_died():
            self._drain()
        running = [running.planned for running in self._running.values()]
        return running + [planned for queue in self._queues.values() for planned in queue]

    def _node_died(self) -> bool:
        """True if a process of the node that this run started is gone; Ray goes on without it."""
        return self._node is not None and bool(self._node.dead_processes())

    def _fill(self) -> None:
        """Keeps a bounded number of tasks of each kind with Ray, a few more than it can run."""
        have = self._ray.cluster_resources()
        nodes = sum(1 for node in self._ray.nodes() if node["Alive"])
        for need, queue in self._queues.items():
            rooms = [have.get(k, 0) / n for k, n in zip(("CPU", "GPU"), need, strict=True) if n]
            window = nodes if self._exclusive else min(_WINDOW, 2 * int(min(rooms)) + 1)
            here = sum(1 for running in self._running.values() if _need(running.planned) == need)
            while here < window and (planned := self._next(queue)) is not None:
                self._submit(planned)
                here += 1

    def _next(self, queue: deque[PlannedTrial]) -> PlannedTrial | None:
        """Takes the first trial whose model is trained or is not being trained by another."""
        busy = {running.planned.trial.training_id for running in self._running.values()}
        for index, planned in enumerate(queue):
            training_id = planned.trial.training_id
            if training_id not in busy or TrainedFolder(self._root, training_id).record.exists():
                del queue[index]
                return planned
        return None

    def _submit(self, planned: PlannedTrial) -> None:
        attempt_id = new_attempt_id()
        order = order_of(
            planned,
            self._root,
            attempt_id,
            exclusive=self._exclusive,
            may_retry=self._retries.has_memory_retry(planned.trial.id),
            # Ray kills a worker to have its memory or its cores at once.
            abrupt=True,
            environment=self._environment,
        )
        cpus, gpus = _need(planned)
        task = self._task.options(
            num_cpus=cpus,
            num_gpus=gpus,
            scheduling_strategy="SPREAD" if self._exclusive else "DEFAULT",
            name=f"trial-{planned.trial.id}",
        )
        reference = task.remote(asdict(order), self._hidden)
        attempt = TrialFolder(self._root, planned.trial.id).attempt(attempt_id)
        self._running[reference] = _Running(planned, attempt_id, Deadline(planned, attempt))
        self._observer.submitted(planned, attempt)

    def _collect(self, timeout_s: float) -> None:
        if not self._running:
            return
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        for reference in ready:
            ended = self._ended(reference, self._running[reference])
            if ended.cause is Cause.DIED and self._node_died():
                # No fault of the trial, which may not even have begun.
                return
            running = self._running.pop(reference)
            if self._retries.settle(running.planned, running.attempt_id, ended):
                # To the front: what it has done so far is in the cache of the file system.
                self._queues[_need(running.planned)].appendleft(running.planned)

    def _ended(self, reference: Any, running: _Running) -> Ended:  # noqa: ANN401
        exceptions = self._ray.exceptions
        try:
            cause, detail = self._ray.get(reference)
            return Ended(Cause[cause], detail)
        except exceptions.RayError as error:
            if running.hung:
                return Ended(Cause.HUNG, "")
            if isinstance(error, exceptions.OutOfMemoryError):
                return Ended(Cause.MEMORY, "")
            if isinstance(error, exceptions.RayTaskError):
                return Ended(Cause.RAISED, str(error).strip().splitlines()[-1])
            return Ended(Cause.DIED, type(error).__name__)

    def _kill_hung(self) -> None:
        for reference, running in self._running.items():
            if not running.hung and running.deadline.is_over():
                running.hung = True
                self._ray.cancel(reference, force=True)

    def _drain(self) -> None:
        """Asks running trials to write a checkpoint and stop; kills those that do not."""
        self._observer.note(
            "stopping: running trials write a checkpoint (Ctrl-C again kills them)"
        )
        for reference in self._running:
            self._ray.cancel(reference, force=False)
        end = time.monotonic() + _DRAIN_S
        while self._running and not self._stop.insisted and time.monotonic() < end:
            self._collect(_POLL_S)
            self._observer.refresh()
        for reference in self._running:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(reference, force=True)


def _need(planned: PlannedTrial) -> _Need:
    return float(planned.resources.cpus), planned.resources.gpus
