"""Where a trial ran, as an allow-list: nothing here names a user, a machine or a folder of theirs.

Two fingerprints sum it up. Attempts with equal numerics fingerprints compute the same bits;
timings may be compared where the hardware fingerprints are equal, which are of the hardware and of
the variables with which somebody has tuned what runs on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from harness.processor import processor
from harness.records.files import scrub
from harness.records.version import __version__

__all__ = ["describe", "fingerprint", "hardware_fingerprint", "with_choices"]

_VARIABLES = (
    *("CUDA_", "CUBLAS_", "CUDNN_", "DNNL_", "EQX_", "JAX_", "KMP_", "MKL_"),
    *("NVIDIA_TF32_OVERRIDE", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTORCH_", "TORCH", "XLA_"),
)
_RAY = re.compile("RAY_([a-z]|DISABLE_|ENABLE_|EXPERIMENTAL_)")
"""Switches of Ray; its other variables name a job, a node or an address."""
_OURS = (
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "JAX_", "MKL_NUM_THREADS"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"),
    *("EQX_ON_ERROR=nan", "RAY_task_oom_retries=0", "XLA_FLAGS=--xla_gpu_deterministic_ops=true"),
)
"""What a trial's process sets or clears itself, or one value of it: the same in every process."""
_LIBRARIES = ("numpy", "safetensors")
_COMPANIONS = {"jax": ("jaxlib",)}
_SCALARS = (str, int, float, bool)


def describe(
    precision: str,
    framework: Iterable[str],
    prepared: Mapping[str, Any],
    cores: int,
    device: Literal["cpu", "gpu"],
) -> dict[str, Any]:
    """Gathers what the results and the timings of a trial depend on beside its spec.

    Arguments:
        precision: Of the trial.
        framework: Distributions that its backend computes with.
        prepared: What `Backend.prepare` returned.
        cores: Number of cores the trial is pinned to.
        device: Where the model is.

    Returns:
        JSON values; `numerics_fingerprint` and `hardware_fingerprint` among them.
    """
    hardware = _hardware(prepared, device)
    numerics = _numerics(framework, prepared, cores)
    environment = {
        **hardware,
        **numerics,
        "os": platform.system(),
        "kernel": platform.release(),
        **_checkout(),
        "hardware_fingerprint": _kind(hardware, cores),
        "numerics_fingerprint": fingerprint(
            {
                **numerics,
                # Which of several equal GPUs a trial was given changes nothing.
                "variables": _without(numerics["variables"], "CUDA_VISIBLE_DEVICES"),
                "cpu_model": hardware["cpu_model"],
                "isa": hardware["isa"],
                "precision": precision,
            }
        ),
    }
    return {name: scrub(value) for name, value in environment.items()}


def hardware_fingerprint(cores: int, gpu: str | None) -> str:
    """The hardware fingerprint of a process on this machine, before it has a framework.

    Arguments:
        cores: Number of cores it will be pinned to.
        gpu: Name of its GPU as the driver has it; None on the CPU.
    """
    hardware = _hardware({"device": gpu}, "cpu" if gpu is None else "gpu")
    return _kind(hardware, cores)


def _kind(hardware: Mapping[str, Any], cores: int) -> str:
    tuned = _tuning()
    return fingerprint({**hardware, "cores": cores, **({"variables": tuned} if tuned else {})})


def _tuning() -> dict[str, str]:
    """Variables that change how fast a trial is and that its own process has not set."""
    found = {}
    for name, value in _variables().items():
        # The flag that a trial adds to XLA's stands among those that somebody has set.
        words = [word for word in value.split() if not f"{name}={word}".startswith(_OURS)]
        if words:
            found[name] = " ".join(words)
    return found


def _hardware(prepared: Mapping[str, Any], device: Literal["cpu", "gpu"]) -> dict[str, Any]:
    """What two machines must share for timings to be compared."""
    model, isa = processor()
    return {
        "cpu_model": model,
        "isa": isa,
        "machine": platform.machine(),
        "cores_total": os.cpu_count(),
        "memory_total_bytes": _memory(),
        # Both frameworks give the GPU's name as the driver has it, under words of their own.
        "gpu": prepared.get("device_kind", prepared.get("device")) if device == "gpu" else None,
    }


def _numerics(framework: Iterable[str], prepared: Mapping[str, Any], cores: int) -> dict[str, Any]:
    """What two processes must share, beside the processor, to compute the same bits."""
    return {
        **{name: value for name, value in prepared.items() if isinstance(value, _SCALARS)},
        **_versions((*_LIBRARIES, *framework)),
        "python": platform.python_version(),
        "harness": __version__,
        "cores": cores,
        "threads": prepared.get("threads", cores),
        "variables": _variables(),
    }


def with_choices(
    environment: Mapping[str, Any], gradient: str, choices: Mapping[str, str]
) -> dict[str, Any]:
    """Adds the gradient mode and the backend's choices, also to the numerics fingerprint."""
    chosen = {"gradient": gradient, "choices": dict(choices)}
    numerics = {"before": environment["numerics_fingerprint"], **chosen}
    return {**environment, **chosen, "numerics_fingerprint": fingerprint(numerics)}


def fingerprint(values: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of JSON values."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without(values: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if key != name}


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    versions = {}
    for name in distributions:
        for distribution in (name, *_COMPANIONS.get(name, ())):
            try:
                versions[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
    return versions


def _variables() -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_VARIABLES) or _RAY.match(name)
        if not any(word in name for word in ("DIR", "PATH", "_HOST", "ADDRESS"))
    }


def _checkout() -> dict[str, Any]:
    """Commit of the harness's own checkout, if it runs from one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return {}
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "--no-optional-locks", "status", "--porcelain")
    if commit is None or changes is None:
        return {}
    return {"git_commit": commit, "git_dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
