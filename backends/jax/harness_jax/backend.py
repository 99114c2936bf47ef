"""The entry point of the backend: what it supports, how a process is prepared, how models open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any, final

from harness.architecture.matching import unmatched
from harness.caches import made_cache
from harness.errors import BackendError
from harness.interface import Backend, DataInfo, Model, Unsupported
from harness.specs.solver import impossible_gradient
from harness.trial import Trial
from harness_jax.libraries import unsupported_solver

__all__ = ["JaxBackend"]


@final
class JaxBackend(Backend):
    """Flows in jax: the whole training step is one compiled function."""

    name = "jax"
    framework = ("jax", "diffrax")
    direct_pays = False  # see harness_jax.solve.tape

    def supports(self, trial: Trial) -> Unsupported | None:
        """Every model, regularizer and tableau is supported, what flow matching can train, and
        what diffrax can do.
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
            reason = impossible_gradient(trial.gradient, solver, engine)
            if reason is not None:
                return Unsupported(reason)
        if trial.shards != 1:
            return Unsupported(f"the jax backend runs on one device, not on {trial.shards} shards")
        return None

    def preload(self, cores: int) -> None:
        """Imports jax, whose threads start with its first use of a device."""
        _set_variables()
        import jax.experimental.multihost_utils  # noqa: F401  (compiling imports it)

        import harness_jax.model  # noqa: F401

    def prepare(self, trial: Trial, cores: int) -> Mapping[str, Any]:
        """Sets precision, determinism and the compilation cache.

        jax offers no thread count: its pools follow the cores the process may run on, which the
        executor pins before this is called.
        """
        _set_variables()
        if "library" in (trial.engine, trial.evaluation.engine):
            # Read when equinox is imported: its checks of errors, where they may raise, cost more
            # than a small solve (diffrax's advice on benchmarks).
            os.environ.setdefault("EQX_ON_ERROR", "nan")
        import jax

        settings: Any = jax.config
        settings.update("jax_enable_x64", trial.precision == "float64")
        products = "tensorfloat32" if trial.precision == "tf32" else "highest"
        settings.update("jax_default_matmul_precision", products)
        # Keeps compiled programs between processes, however quick they were to compile.
        cache = made_cache("xla")
        settings.update("jax_compilation_cache_dir", cache and str(cache))
        settings.update("jax_persistent_cache_min_compile_time_secs", 0)
        settings.update("jax_persistent_cache_min_entry_size_bytes", 0)
        devices = jax.devices()
        return {
            "jax": jax.__version__,
            "jaxlib": metadata.version("jaxlib"),
            "diffrax": metadata.version("diffrax"),
            "engine": trial.engine,
            "precision": trial.precision,
            "float32_matmul_precision": products,
            "cores": cores,
            "xla_flags": os.environ["XLA_FLAGS"],
            "device_kind": devices[0].device_kind,
            "device_count": len(devices),
            "platform": devices[0].platform,
        }

    def open(
        self, trial: Trial, data: DataInfo, device: str, choices: Mapping[str, str] | None = None
    ) -> Model:
        """Builds the model on `device`; see `Backend.open`."""
        import jax

        from harness_jax.model import JaxModel

        settings: Any = jax.config
        if settings.jax_enable_x64 != (trial.precision == "float64"):
            raise BackendError(
                f"this process was not prepared for {trial.precision}: one precision a process"
            )
        if device == "cpu" and trial.precision == "tf32":
            raise BackendError("precision 'tf32' needs a GPU: use 'float32', or run on one")
        try:
            devices = jax.devices(device)
        except RuntimeError as error:
            raise BackendError(f"jax finds no device '{device}': {error}") from error
        return JaxModel(trial, data, devices[0], trial.engine)


def _set_variables() -> None:
    """Sets what XLA reads with the first use of a device."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if not any(flag.startswith(_DETERMINISTIC) for flag in flags):
        os.environ["XLA_FLAGS"] = " ".join([*flags, f"{_DETERMINISTIC}=true"])


_DETERMINISTIC = "--xla_gpu_deterministic_ops"
