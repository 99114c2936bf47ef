"""The entry point of the backend: what it supports, how a process is prepared, how models open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, final

from harness.architecture.matching import unmatched
from harness.caches import made_cache
from harness.errors import BackendError
from harness.interface import Backend, DataInfo, Model, Unsupported
from harness.specs.solver import impossible_gradient
from harness.trial import Trial
from harness_torch.allocator import keep_freed_memory
from harness_torch.execution import choose_execution
from harness_torch.libraries import unsupported_gradient, unsupported_solver

if TYPE_CHECKING:
    from harness_torch.solve.engines import Engine

__all__ = ["TorchBackend"]


@final
class TorchBackend(Backend):
    """FFJORD in torch: own Runge-Kutta loop, forward-mode divergence."""

    name = "torch"
    framework = ("torch", "torchdiffeq")

    def supports(self, trial: Trial) -> Unsupported | None:
        """Every model, regularizer and tableau is supported, what flow matching can train, and
        what torchdiffeq can do.
        """
        reason = unmatched(trial)
        if reason is not None:
            return Unsupported(reason)
        evaluation = trial.evaluation_solver, trial.evaluation.engine or trial.engine
        for solver, engine in ((trial.solver, trial.engine), evaluation):
            reason = unsupported_solver(solver, engine)
            if reason is not None:
                return Unsupported(reason)
        for solver, engine in trial.differentiated:
            reason = impossible_gradient(trial.gradient, solver, engine) or unsupported_gradient(
                trial.gradient, solver, engine
            )
            if reason is not None:
                return Unsupported(reason)
        return None

    def preload(self, cores: int) -> None:
        """Imports torch, and its compiler, which deterministic mode imports."""
        _set_variables(cores)
        import torch._inductor  # noqa: F401

        import harness_torch.model  # noqa: F401

    def prepare(self, trial: Trial, cores: int) -> Mapping[str, Any]:
        """Sets threads, determinism and matmul precision; see `Backend.prepare`."""
        cache = _set_variables(cores)
        import torch

        torch.set_num_threads(cores)
        # Allowed once a process and only before the first parallel region: a second trial in the
        # same process (tests, the inline executor) finds it set.
        with contextlib.suppress(RuntimeError):
            torch.set_num_interop_threads(1)
        torch.use_deterministic_algorithms(True)
        # Deterministic mode otherwise fills every fresh tensor with NaN before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        kept = keep_freed_memory()
        tf32 = trial.precision == "tf32"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = False
        gpu = torch.cuda.is_available()
        return {
            "torch": torch.__version__,
            "torchdiffeq": metadata.version("torchdiffeq"),
            "cuda": torch.version.cuda if gpu else None,
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "keeps_freed_memory": kept,
            "engine": trial.engine,
            "compilation_cache": cache,
        }

    def choose(self, trial: Trial, data: DataInfo, device: str, cores: int) -> Mapping[str, str]:
        """Returns `execution`: `compiled` or `eager`; see `Backend.choose`."""
        return choose_execution(trial, data, cores)

    def open(
        self, trial: Trial, data: DataInfo, device: str, choices: Mapping[str, str] | None = None
    ) -> Model:
        """Builds the model on `device`; see `Backend.open`.

        Raises:
            BackendError: `device` is "gpu" and torch finds none, or the precision needs one.
        """
        import torch

        from harness_torch.model import TorchModel

        if device == "gpu" and not torch.cuda.is_available():
            raise BackendError(
                f"torch {torch.__version__} finds no GPU here. Run the trial with 'gpus: 0', or "
                "install a build of torch for this machine's CUDA driver"
            )
        if device == "cpu" and trial.precision == "tf32":
            raise BackendError("precision 'tf32' needs a GPU: use 'float32', or run on one")
        execution = (choices or {}).get("execution")
        if execution is None:
            execution = self.choose(trial, data, device, torch.get_num_threads())["execution"]
        return TorchModel(trial, data, device, _engine(trial, execution))


def _engine(trial: Trial, execution: str) -> Engine:
    if trial.engine != "library" and execution == "compiled":
        from harness_torch.solve.compiled import CompiledEngine

        return CompiledEngine(
            {trial.training.batch, trial.training.validation_batch, trial.evaluation.batch}
        )
    from harness_torch.solve.engines import get_engine

    return get_engine(trial.engine)


def _set_variables(cores: int) -> str | None:
    """Sets what torch reads when it is imported, and later; returns the compilation cache."""
    # Read by cuBLAS when its first handle is made; without it deterministic mode raises.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cores))
    return _compilation_cache()


def _compilation_cache() -> str | None:
    """Where inductor keeps what it compiles; its own variable goes first."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and (made := made_cache("inductor")):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(made)
    return os.environ.get("TORCHINDUCTOR_CACHE_DIR")
