from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path
from typing import Any

import pytest

from harness.process.environment import describe, hardware_fingerprint, with_choices
from harness.records.files import scrub


def _describe(cores: int = 1, **prepared: object) -> dict[str, Any]:
    return describe("float32", ("numpy",), {"threads": cores, **prepared}, cores, "cpu")


def test_nothing_names_the_user_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "swordfish")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={Path.home()}/dump --xla_foo=1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    found = _describe()
    text = json.dumps(found)
    assert "swordfish" not in text
    assert "/somewhere" not in text
    assert found["variables"]["XLA_FLAGS"] == "--xla_dump_to=~/dump --xla_foo=1"
    values = [str(value) for value in found.values()]
    for secret in (platform.node(), getpass.getuser()):
        assert secret not in values


def test_numerics_fingerprint_follows_what_changes_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = _describe()
    assert _describe()["numerics_fingerprint"] == first["numerics_fingerprint"]
    assert _describe(2)["numerics_fingerprint"] != first["numerics_fingerprint"]
    assert _describe(torch="9.9")["numerics_fingerprint"] != first["numerics_fingerprint"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert _describe()["numerics_fingerprint"] == first["numerics_fingerprint"]
    monkeypatch.setenv("XLA_FLAGS", "--xla_foo=1")
    assert _describe()["numerics_fingerprint"] != first["numerics_fingerprint"]
    other = describe("float64", ("numpy",), {"threads": 1}, 1, "cpu")
    assert other["numerics_fingerprint"] != first["numerics_fingerprint"]


TUNED = {
    "EQX_ON_ERROR": "raise",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "KMP_AFFINITY": "disabled",
    "NVIDIA_TF32_OVERRIDE": "1",
    "RAY_worker_niceness": "15",
    "XLA_FLAGS": "--xla_foo=1",
}


@pytest.mark.parametrize("name", TUNED)
def test_what_tunes_a_process_is_recorded_and_part_of_both_fingerprints(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in TUNED:
        monkeypatch.delenv(other, raising=False)
    before = _describe()
    monkeypatch.setenv(name, TUNED[name])
    after = _describe()
    assert after["variables"][name] == TUNED[name]
    for kind in ("hardware_fingerprint", "numerics_fingerprint"):
        assert after[kind] != before[kind]
    # Whoever asks before there is a framework gets the same answer.
    assert hardware_fingerprint(1, None) == after["hardware_fingerprint"]


def test_what_a_trial_sets_itself_leaves_timings_comparable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    before = _describe()["hardware_fingerprint"]
    monkeypatch.setenv("EQX_ON_ERROR", "nan")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    monkeypatch.setenv("RAY_JOB_ID", "0100")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    found = _describe()
    assert found["hardware_fingerprint"] == before
    assert "10.0.0.7" not in json.dumps(found)
    assert "RAY_JOB_ID" not in found["variables"]


def test_choices_are_part_of_the_numerics_fingerprint_and_of_nothing_else() -> None:
    found = _describe()
    chosen = [
        with_choices(found, gradient, choices)
        for gradient in ("direct", "checkpoint")
        for choices in ({}, {"compile": "yes"})
    ]
    assert len({each["numerics_fingerprint"] for each in chosen}) == 4
    assert {each["hardware_fingerprint"] for each in chosen} == {found["hardware_fingerprint"]}
    assert chosen[1]["gradient"] == "direct"
    assert chosen[1]["choices"] == {"compile": "yes"}


def test_hardware_fingerprint_is_the_same_for_all_frameworks() -> None:
    prints = {
        describe("float32", ("numpy",), prepared, 1, "cpu")["hardware_fingerprint"]
        for prepared in ({"device": "cpu"}, {"device_kind": "Epyc"})
    }
    assert len(prints) == 1
    gpus = {
        describe("float32", ("numpy",), prepared, 1, "gpu")["hardware_fingerprint"]
        for prepared in ({"device": "NVIDIA X"}, {"device_kind": "NVIDIA X"})
    }
    assert len(gpus) == 1
    assert gpus != prints


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/data/x", "~/data/x"),
        ("File '/Users/ada/x', line 3", "File '~/x', line 3"),
        ("/usr/lib/python3", "/usr/lib/python3"),
    ],
)
def test_home_folders_are_scrubbed(text: str, expected: str) -> None:
    assert scrub(text) == expected
    assert scrub({"a": {"b": text}}) == {"a": {"b": expected}}
