"""Every message about a broken suite file, held against `suite_messages.txt`.

After an intended change write the snapshot anew and read the difference:
`python tests/suites/test_suite_messages.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.cli import main

SNAPSHOT = Path(__file__).with_name("suite_messages.txt")
GOOD = """\
name: good
trials:
  - dataset: moons
    backend: torch
    solver: dopri5
"""


def block(line: str) -> str:
    return GOOD + f"    {line}\n"


def top(line: str) -> str:
    return f"{line}\n{GOOD}"


CASES: Mapping[str, str | bytes] = {
    "integer of 400 digits": block(f"seed: {'9' * 400}"),
    "unknown key in an optional block": block("model: {batch_norm: {decai: 0.1}}"),
    "unknown key in sample metrics": block("evaluation: {sample_metrics: {row: 1}}"),
    "include that no file can be called": top(f"include: [{'x' * 300}.yaml]"),
    "include with a NUL": top('include: ["a\\0b.yaml"]'),
    "too few rounds": top("timing: {rounds: 5}"),
    "rounds as text": top('timing: {rounds: "20"}'),
    "no time for timing": top("timing: {budget_seconds: 0}"),
    "typo in timing": top("timing: {budget: 60, round: 10}"),
    "timing that is no mapping": top("timing: [20, 600]"),
    "underscore in a number": block("training: {iterations: 1_000}"),
    "exponent in a whole number": block("training: {iterations: 1e3}"),
    "time for minutes": top("resources: {timeout_minutes: 1:30}"),
    "decimal comma": block("training: {optimizer: {lr: 0,001}}"),
    "typo in a solver of torchdiffeq": GOOD.replace("dopri5", '{library: "torchdiffeq:dopri55"}'),
    "typo in a solver of diffrax": GOOD.replace("dopri5", '{library: "diffrax:Dopri55"}'),
    "learning rate beyond float32": block("training: {optimizer: {lr: 1e300}}"),
    "weight below float32": block("regularizer: {rnode.kinetic: 1e-60}"),
    "rtol below float32": GOOD.replace("dopri5", "{name: dopri5, rtol: 1e-12}"),
    "rtol below float32 in an evaluation": block(
        "evaluation: {solver: {name: dopri5, rtol: 1e-12}}"
    ),
    "atol below float32": GOOD.replace("dopri5", "{name: dopri5, atol: 1e-60}"),
    "atol below float32 in an evaluation": block(
        "evaluation: {solver: {name: dopri5, atol: 1e-60}}"
    ),
    "adjoint's first step for a fixed-step solver": GOOD.replace(
        "dopri5", "{name: rk4_38, steps: 4, backward_first_step: heuristic}"
    ),
    "include of a file in a file": top("include: [suite.yaml/other.yaml]"),
    "two mistakes around a filter": block("sed: 1").replace(
        "trials:", 'exclude: [{when: "seed=", reason: x}]\ntrials:'
    ),
    "batch norm of one row": block("model: {batch_norm: {}}\n    training: {batch: 1}"),
    "unknown key at the top": top("trails: []"),
    "unknown key in a block": block("sed: [0, 1]"),
    "unknown key in the model": block("model: {hiden: [64]}"),
    "unknown key two levels down": block("training: {optimizer: {lrr: 0.1}}"),
    "typo in a solver": GOOD.replace("dopri5", "dopri"),
    "typo in a solver's name": GOOD.replace("dopri5", "{name: rk4, steps: 8}"),
    "steps for an adaptive solver": GOOD.replace("dopri5", "{name: dopri5, steps: 8}"),
    "rtol for a fixed-step solver": GOOD.replace("dopri5", "{name: euler, steps: 8, rtol: 1e-5}"),
    "fixed-step solver without steps": GOOD.replace("dopri5", "[euler, {name: euler}]"),
    "solver without a name": GOOD.replace("dopri5", "{rtol: 1e-5}"),
    "solver that is a number": GOOD.replace("dopri5", "5"),
    "stratified rows": block("training: {stratified: true}").replace("moons", "digits"),
    "nonlinear output without a hypernet": block("model: {posterior: {nonlinear_output: true}}"),
    "first step": GOOD.replace("dopri5", "{name: dopri5, first_step: hairer}"),
    "first step too large": GOOD.replace("dopri5", "{name: dopri5, first_step: 2}"),
    "end for a fixed-step solver": GOOD.replace("dopri5", "{name: rk4_38, steps: 8, end: stop}"),
    "warm in an evaluation": block(
        "evaluation: {solver: {name: dopri5, first_step: warm}, trace: exact}"
    ),
    "library that is none of the two": GOOD.replace("dopri5", '{library: "scipy:RK45"}'),
    "library solver as a name": GOOD.replace("dopri5", '"diffrax:Kvaerno5"'),
    "norm for a library solver": GOOD.replace(
        "dopri5", '{library: "diffrax:Kvaerno5", norm: mixed, name: x}'
    ),
    "number of strides": block("model: {hidden: [8, 8], strides: [1, 1]}"),
    "stride of 3": block("model: {strides: [1, 3, 1, 1]}"),
    "scales without strides": block("model: {scales: 3}"),
    "spectral norm of a hypernet": block("model: {layer: hyper, spectral_norm: true}"),
    "spectral norm of zeros": block("model: {spectral_norm: true, zero_last: true}"),
    "images for a convolution": block("model: {hidden: [8], strides: [1, 1]}"),
    "scales that do not divide": "name: x\ntrials:\n"
    "  - dataset: [digits, mnist]\n    backend: torch\n    solver: dopri5\n"
    "    model: {hidden: [8], strides: [1, 1], scales: 4}\n",
    "strides that change the shape": GOOD.replace("moons", "mnist")
    + "    model: {hidden: [8], strides: [2, 1]}\n",
    "autoencoder of densities": block("model: {posterior: {latent: 8}}"),
    "density of an autoencoder's images": GOOD.replace("moons", "omniglot"),
    "autoencoder with a convolutional flow": GOOD.replace("moons", "omniglot")
    + "    model: {hidden: [8], strides: [1, 1], posterior: {}}\n",
    "all weights for a layer that is not concat": GOOD.replace("moons", "omniglot")
    + "    model: {posterior: {amortization: hyper}}\n",
    "bottleneck of a linear net": block("model: {hidden: []}\n    training: {trace: bottleneck}"),
    "bottleneck in an evaluation": block(
        "model: {hidden: []}\n    evaluation: {trace: bottleneck}"
    ),
    "bottleneck and a penalty on the Jacobian": block(
        "training: {trace: bottleneck}\n    regularizer: [none, {jacobian_sum: 0.1}]"
    ),
    "warm and tpr": GOOD.replace("dopri5", "[dopri5, {name: dopri5, first_step: warm}]")
    + "    regularizer: {tpr: 5}\n",
    "unknown objective": block("objective: [likelihood, flow_maching]"),
    "objective without a name": block("objective: {path: vp}"),
    "objective that is a number": block("objective: 3"),
    "unknown path and coupling": block(
        "objective: {name: flow_matching, path: straight, coupling: ot}"
    ),
    "path of a likelihood": block("objective: {name: likelihood, path: vp}"),
    "sigma_min of another path": block(
        "objective: {name: flow_matching, path: vp, sigma_min: 0.1}"
    ),
    "sigma_min too large": block("objective: {name: flow_matching, sigma_min: 1}"),
    "probes of an exact trace": block(
        "training: {trace: exact, probes: 2}\n    evaluation: {trace: exact, probes: 2}"
    ),
    "probes and a penalty on the Jacobian": block(
        "training: {probes: 2}\n    regularizer: {rnode.jacobian: 0.1}"
    ),
    "no probes": block("training: {probes: 0}"),
    "draws of an exact trace": block("evaluation: {trace: exact, draws: 5}"),
    "hutch++ with a third of a vector": block(
        "training: {trace: hutch++}\n    evaluation: {trace: hutch++, probes: 4}"
    ),
    "steer beyond the start": block(
        "model: {end_time: {value: 0.5}}\n    regularizer: {steer: 0.5}"
    ),
    "tf32 without a GPU": block("precision: [float32, tf32]"),
    "patience without validations": block(
        "training: {validate_every: 0, patience: {drops: [20, 10], stop: 30}}"
    ),
    "warm-up of no KL term": block("training: {schedule: {kl_warmup: 100}}"),
    "sample metrics of images": GOOD.replace("moons", "[moons, mnist, omniglot]")
    + "    evaluation: {sample_metrics: {}}\n",
    "measurements of autoencoders for densities": block(
        "evaluation: {image_metrics: true, importance_samples: 5}"
    ),
    "importance weights of an estimate": GOOD.replace("moons", "omniglot")
    + "    model: {posterior: {}}\n"
    + "    evaluation: {importance_samples: 5, trace: hutchinson}\n",
    "sample metrics beyond the time limit": GOOD.replace("moons", "[moons, hepmass, miniboone]")
    + "    evaluation: {sample_metrics: {exact_emd_rows: 20000}}\n",
    "more rows than the distances take": block("evaluation: {sample_metrics: {rows: 30000}}"),
    "sample metrics as a switch": block("evaluation: {sample_metrics: true}"),
    "impossible in many places": "name: x\ntrials:\n"
    "  - dataset: [moons, digits]\n    backend: torch\n    solver: dopri5\n"
    "    model: [{hidden: [8], strides: [1]}, {scales: 2}, {hidden: []}]\n"
    "    regularizer: [{steer: 2, seed: 1}, {steer: 2}]\n"
    "    training: {trace: bottleneck, batch: x}\n    precision: tf32\n",
    "text where a number belongs": block('training: {iterations: "1000"}'),
    "words where a number belongs": block("training: {iterations: many}"),
    "fraction where a whole number belongs": block("training: {iterations: 1.5}"),
    "number where text belongs": block("precision: 32"),
    "true where a number belongs": block("seed: true"),
    "list where a number belongs": block("training: {batch: [100, 200]}"),
    "number where a list belongs": block("model: {hidden: 64}"),
    "wrong item in a list": block("model: {hidden: [64, 0, x]}"),
    "number where a mapping belongs": block("model: {end_time: 0.5}"),
    "nothing where a value belongs": block("seed:"),
    "negative tolerance": GOOD.replace("dopri5", "{name: dopri5, rtol: -1e-5}"),
    "text as a weight": block('regularizer: {rnode.kinetic: "0.1"}'),
    "zero learning rate": block("training: {optimizer: {lr: 0}}"),
    "infinite weight": block("regularizer: {rnode.kinetic: .inf}"),
    "negative seed": block("seed: [0, -1]"),
    "empty list on an axis": block("seed: []"),
    "empty list of trials": "name: x\ntrials: []\n",
    "no trials": "name: x\n",
    "no name": GOOD.replace("name: good\n", ""),
    "bad name": GOOD.replace("name: good", "name: My Suite"),
    "block that is text": "name: x\ntrials: [moons]\n",
    "trials that are a mapping": "name: x\ntrials: {dataset: moons}\n",
    "missing axes": "name: x\ntrials:\n  - {seed: 0}\n",
    "unknown dataset": GOOD.replace("moons", "moon"),
    "dataset that is a number": GOOD.replace("moons", "8"),
    "unknown backend": GOOD.replace("torch", "pytorch"),
    "unknown layer": block("model: {layer: concat_squash}"),
    "unknown protocol": block("training: {protocol: papper}"),
    "unknown gradient": block("gradient: backprop"),
    "regularizer that no backend has": block("regularizer: {rnode.kinetik: 0.01}"),
    "regularizer that is a word": block("regularizer: rnode.kinetic"),
    "unknown solver of the evaluation": block("evaluation: {solver: {name: rk5, steps: 2}}"),
    "exclusion that matches nothing": top("exclude: [{when: backend=jax, reason: slow}]"),
    "exclusion without a reason": top("exclude: [{when: backend=torch}]"),
    "unknown field in an exclusion": top("exclude: [{when: bakend=jax, reason: slow}]"),
    "malformed exclusion": top("exclude: [{when: 'backend=jax &', reason: slow}]"),
    "gate with an unknown metric": top("gates: [{when: seed=0, metric: nll, below: 3}]"),
    "gate below an unknown metric": top(
        "gates: [{when: seed=0, metric: test_nll, below: gauss_nll}]"
    ),
    "gate that matches nothing": top("gates: [{when: seed=7, metric: test_nll, below: 3}]"),
    "resources": top("resources: {cpus: 0, gpu: 1, timeout_minutes: soon}"),
    "budget": top("budget: {gpu_hours: -1}"),
    "included file that is missing": top("include: [other.yaml]"),
    "file that includes itself": top("include: suite.yaml"),
    "duplicate key": GOOD + "name: again\n",
    "syntax error": "name: x\ntrials: [\n  - dataset: moons\n",
    "unclosed quote": 'name: "x\n',
    "tab for indentation": "name: x\ntrials:\n\t- dataset: moons\n",
    "tag": "name: !!python/name:os.system x\n",
    "empty file": "",
    "only a comment": "# a suite\n",
    "not a mapping": "- dataset: moons\n",
    "not UTF-8": "name: x\ndescription: caf\u00e9\n".encode("latin-1"),
    "thousands of nested brackets": "trials: " + "[" * 5000,
    "recursive alias": "name: x\ntrials: &a [*a]\n",
    "three mistakes at once": "name: X\ntrials:\n"
    "  - {dataset: moons, backend: torch, solver: dopri, seed: x}\n",
    "mistakes in defaults and block": "name: x\n"
    "defaults: {backend: [torch, jacks], precision: f32}\n"
    "trials:\n  - {dataset: moons, solver: dopri5, precision: float32}\n",
}


def message_of(content: str | bytes) -> tuple[int, str]:
    """Exit code and standard error of `harness plan suite.yaml`, in a fresh working directory."""
    errors = io.StringIO()
    raw = content if isinstance(content, bytes) else content.encode()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stderr(errors),
    ):
        Path("suite.yaml").write_bytes(raw)
        sys.argv = ["harness", "plan", "suite.yaml"]
        with pytest.raises(SystemExit) as caught:
            main()
    assert isinstance(caught.value.code, int)
    # Which datasets there are is not the matter here.
    text = re.sub(r"(  known: ).*\bmoons\b.*", r"\1(datasets)", errors.getvalue())
    return caught.value.code, text


def snapshot() -> dict[str, str]:
    parts = re.split(r"^=== (.*)\n", SNAPSHOT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    monkeypatch.setattr(sys, "argv", sys.argv)


@pytest.mark.parametrize("case", CASES)
def test_message(case: str) -> None:
    code, text = message_of(CASES[case])
    assert code == 2
    assert text == snapshot()[case].rstrip("\n") + "\n"


def test_every_message_has_the_one_form() -> None:
    found = snapshot()
    assert found.keys() == CASES.keys()
    for case, text in found.items():
        assert re.match(r"suite\.yaml(:\d+:\d+)?: \S", text), case
        assert "Traceback" not in text, case


def test_a_missing_file_and_a_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toys.yaml").touch()
    for argument, expected in {
        "toy.yaml": "toy.yaml: no such file\n  known: toys.yaml\n  did you mean 'toys.yaml'?\n",
        "./": ".: a folder, not a file\n",
        "quikstart": "quikstart: no built-in suite of this name\n",
    }.items():
        monkeypatch.setattr(sys, "argv", ["harness", "plan", argument])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith(expected)


def test_the_good_file_is_good() -> None:
    assert message_of(GOOD) == (0, "")


def test_what_float32_cannot_hold_float64_can() -> None:
    wide = GOOD.replace("dopri5", "{name: dopri5, rtol: 1e-12}")
    lines = ("precision: float64", "regularizer: {rnode.kinetic: 1e-60}")
    assert message_of(wide + "".join(f"    {line}\n" for line in lines)) == (0, "")


def test_an_endless_file_is_not_read_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "plan", "/dev/zero"])
    with pytest.raises(SystemExit):
        main()
    assert "larger than 1,000,000 bytes" in capsys.readouterr().err


if __name__ == "__main__":
    os.environ.pop("HARNESS_DATA_DIR", None)
    texts = [f"=== {case}\n{message_of(content)[1]}" for case, content in CASES.items()]
    SNAPSHOT.write_text("\n".join(texts), encoding="utf-8")
