"""Records of earlier versions are read as what they were, and never go on as something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.records.readers import read_spec
from harness.training.__main__ import main

FIRST = {
    "schema_version": 1,
    "trial_id": "08bc3add2b7f9972",
    "trial": {
        "dataset": {"name": "8gaussians", "digest": "c2fc164baf480c06"},
        "backend": "torch",
        "solver": {"name": "rk4_38", "steps": 8},
        "model": {
            "layer": "concatsquash",
            "hidden": [64, 64, 64],
            "nonlinearity": "tanh",
            "blocks": 1,
            "end_time": {"value": 0.5, "mode": "fixed"},
            "strides": None,
            "scales": 1,
            "residual": False,
            "batch_norm": None,
            "spectral_norm": False,
            "zero_last": False,
            "posterior": None,
        },
        "regularizer": {},
        "training": {
            "iterations": 200,
            "batch": 100,
            "optimizer": {
                "name": "adam",
                "lr": 0.005,
                "eps": 1e-08,
                "weight_decay": 0.0,
                "clip_norm": None,
            },
            "schedule": {"warmup": 0, "drops": [], "factor": 0.1, "kl_warmup": 0},
            "patience": {"drops": [], "stop": None, "after": 0},
            "trace": "exact",
            "probe": "gaussian",
            "validate_every": 100,
            "validation_rows": None,
            "keep": "best",
            "protocol": None,
        },
        "evaluation": {
            "trace": "exact",
            "batch": 1000,
            "rows": 2000,
            "solver": None,
            "samples": 1000,
            "sample_metrics": None,
            "image_metrics": False,
            "importance_samples": 0,
        },
        "gradient": "auto",
        "engine": "native",
        "precision": "float32",
        "seed": 0,
        "shards": 1,
        "semantics_version": 1,
    },
    "resources": {"cpus": 1, "gpus": 0.0, "timeout_minutes": 10.0},
    "suites": ["quickstart"],
}
"""As version 0.1.0 wrote it."""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "trials" / "08bc3add2b7f9972" / "spec.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(FIRST))
    return path


def test_a_spec_of_the_first_version_keeps_its_identity(spec: Path) -> None:
    trial, resources = read_spec(spec)
    assert (trial.id, trial.semantics_version) == ("08bc3add2b7f9972", 1)
    assert (trial.training.iterations, trial.training.last_batch) == (200, "drop")
    assert resources.timeout_minutes == 10


def test_it_is_not_run_with_other_meaning(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(spec)]) == 2
    assert "a trial of semantics version 1" in capsys.readouterr().err
    assert [path.name for path in spec.parent.iterdir()] == ["spec.json"]
