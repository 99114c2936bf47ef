"""The command line: what it prints, its exit codes, and what it does not import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from fakes import result_json

from harness.cli import main
from harness.metrics.definitions import DEFINITIONS
from harness.records.version import __version__
from harness.suites.presets import PROTOCOLS
from harness.trial import (
    EngineName,
    GradientName,
    LayerName,
    NonlinearityName,
    Optimizer,
    PrecisionName,
    RegularizerName,
    TraceName,
)

COMMANDS = (
    *("plan", "run", "report", "status", "show", "list", "data", "doctor", "sync", "schema"),
    *("archive", "density", "merge", "sample", "script"),
    *("verify", "compare", "export", "publish"),
)


class Shell:
    """Calls the command line in this process."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = self._capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, out, err


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_ROOT", raising=False)
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    return Shell(monkeypatch, capsys)


def test_help_names_the_commands_and_exit_codes(shell: Shell) -> None:
    code, out, _ = shell("--help")
    assert code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", out, re.MULTILINE)
    for exit_code in (0, 1, 2, 3, 130):
        assert re.search(rf"^ +{exit_code} +\w", out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(shell: Shell, command: str) -> None:
    code, out, _ = shell(command, "--help")
    assert code == 0
    assert out.startswith(f"Usage: harness {command}")


def test_version(shell: Shell) -> None:
    assert shell("--version") == (0, f"cnf-harness {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("plan",),
        ("plan", "quickstart", "--nonsense"),
        ("run", "quickstart", "--executor", "slurm"),
        ("run", "quickstart", "--cpus", "0"),
        ("plan", "quickstart", "-k", "bakend=jax"),
        ("plan", "quickstart", "-k", "seed=99"),
        ("plan", "quickstart", "--shard", "5/4"),
        ("data", "no-such-data"),
        ("show", "0123"),
    ],
)
def test_invalid_input_is_exit_code_2_without_a_traceback(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    code, _, err = shell(*arguments)
    assert code == 2
    assert err
    assert "Traceback" not in err


def test_plan_prints_json_and_text(shell: Shell) -> None:
    code, out, _ = shell("plan", "quickstart", "-k", "backend=jax & seed=0", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["suite"] == "quickstart"
    assert {(t["backend"], t["seed"], t["state"]) for t in found["trials"]} == {
        ("jax", 0, "to_run")
    }
    code, out, _ = shell("plan", "quickstart", "-k", "backend=jax & seed=0")
    assert code == 0
    assert out.count("to_run") == len(found["trials"])


def test_plan_shows_the_part_that_a_shard_has(shell: Shell) -> None:
    texts = [shell("plan", "quickstart", "--shard", f"{number}/3")[1] for number in (1, 2, 3)]
    for number, text in enumerate(texts, start=1):
        assert re.search(
            rf"^suite quickstart, shard {number}/3: 1[01] trials: ", text, re.MULTILINE
        )
    _, out, _ = shell("plan", "quickstart", "--json")
    for trial in json.loads(out)["trials"]:
        assert sum(text.count(trial["id"]) for text in texts) == 1


def test_the_root_comes_from_the_option_then_the_environment(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = shell("plan", "quickstart", "--json")
    trial_id = json.loads(out)["trials"][0]["id"]
    record = tmp_path / "elsewhere" / "trials" / trial_id / "result.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps(result_json(trial_id)), encoding="utf-8")

    def finished(*arguments: str) -> int:
        _, out, _ = shell("plan", "quickstart", *arguments)
        return out.count(" finished ")

    assert finished() == 0
    assert finished("--root", "elsewhere") == 1
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path / "elsewhere"))
    assert finished() == 1
    assert finished("--root", "runs") == 0


def test_list_as_json_names_every_kind(shell: Shell) -> None:
    code, out, _ = shell("list", "--json")
    found = json.loads(out)
    assert code == 0
    names = {kind: {entry["name"] for entry in entries} for kind, entries in found.items()}
    assert {"8gaussians", "digits", "power-partial"} <= names["datasets"]
    assert names["backends"] == {"torch", "jax"}
    assert {"dopri5", "rk4_38", "euler"} <= names["solvers"]
    assert {"torchdiffeq:<name>", "diffrax:<Name>"} <= names["solvers"]
    words = {
        "regularizers": RegularizerName,
        "layers": LayerName,
        "nonlinearities": NonlinearityName,
        "traces": TraceName,
        "gradients": GradientName,
        "engines": EngineName,
        "precisions": PrecisionName,
        "optimizers": get_type_hints(Optimizer)["name"],
    }
    for kind, accepted in words.items():
        assert names[kind] == set(get_args(accepted)), kind
    assert names["protocols"] == set(PROTOCOLS)
    assert names["metrics"] == set(DEFINITIONS)
    assert all(entry["summary"] for entries in found.values() for entry in entries)
    assert "quickstart" in names["suites"]
    ready = {entry["name"]: entry["ready"] for entry in found["datasets"]}
    assert ready["digits"]
    assert not ready["power-partial"]


def test_list_as_text_marks_what_is_not_here(shell: Shell) -> None:
    _, out, _ = shell("list")
    assert re.search(r"^-   power-partial .*set HARNESS_DATA_DIR", out, re.MULTILINE)
    assert re.search(r"^    digits ", out, re.MULTILINE)


def test_data_describes_one(shell: Shell) -> None:
    code, out, _ = shell("data", "digits", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["sizes"] == {"train": 1297, "val": 200, "test": 300}
    assert facts["gaussian_bits_per_dim"] == pytest.approx(2.454, abs=0.01)
    _, out, _ = shell("data", "moons")
    assert "train endless" in out


def test_status_of_a_fresh_suite(shell: Shell) -> None:
    code, out, _ = shell("status", "quickstart")
    assert code == 0
    assert out.splitlines()[-2] == "32 trials: 32 to_run"


def test_doctor_finds_this_machine_ready(shell: Shell, tmp_path: Path) -> None:
    code, out, _ = shell("doctor", "--json")
    checks = {check["name"]: check["ok"] for check in json.loads(out)}
    assert code == 0
    assert checks["harness"]
    assert False not in checks.values()
    assert not (tmp_path / "runs").exists()


def test_doctor_complains_of_a_root_that_is_a_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    code, out, _ = shell("doctor")
    assert code == 1
    assert re.search(r"^MISSING +run root +.*not a folder", out, re.MULTILINE)


def test_schema_is_json(shell: Shell) -> None:
    code, out, _ = shell("schema")
    assert code == 0
    assert json.loads(out)["title"] == "Suite of cnf-harness"


@pytest.mark.parametrize("arguments", [("list",), ("plan", "quickstart"), ("schema",)])
def test_a_closed_pipe_ends_quietly(arguments: tuple[str, ...], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("code", ["import harness", "from harness.cli import main; main()"])
def test_nothing_heavy_is_imported(code: str) -> None:
    check = (
        "import atexit, sys\n"
        "sys.argv = ['harness', '--help']\n"
        "heavy = {'torch', 'jax', 'ray', 'mlflow', 'pandas', 'altair', 'numpy', 'pydantic'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check + code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"
