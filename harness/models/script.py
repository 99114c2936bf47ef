"""`harness script`: a trial's test likelihood in one page that does without the harness.

For the maintainers of a library: its own public calls, the trial's weights and rows, and the
number of the record. The templates lie beside this file, one a framework; what a trial decides
(its layer, nonlinearity, solver) is filled in as code, so that a page shows what it computes and
nothing else.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any, NoReturn

import numpy as np

from harness.architecture.arrays import SPECTRAL
from harness.datasets import registry as datasets
from harness.errors import AnswerError, Problem
from harness.interface import Array, Arrays
from harness.labels import solver_label
from harness.models.opening import arrays_of
from harness.models.solver_calls import diffrax_call, torchdiffeq_call
from harness.records.arrays import pack
from harness.records.folder import find_trial
from harness.trial import LayerName, NonlinearityName, Trial

__all__ = ["Script", "page", "script"]


@dataclass(frozen=True)
class Script:
    """A script and what it reads.

    Arguments:
        text: The Python file.
        arrays: The safetensors file: arrays of the model, `rows` and `log_volume`.
    """

    text: str
    arrays: bytes


def script(root: Path, beginning: str, file: str, backend: str | None = None) -> Script:
    """Writes the script of a trial that has been tested.

    Arguments:
        root: The run root.
        beginning: Id of the trial, or its beginning.
        file: Python expression of the path from which the script reads its arrays.
        backend: `torch` or `jax`; None: the one that trained.

    Raises:
        AnswerError: The trial has no test likelihood, or is more than a page.
        InputError: There is no such trial.
        DataError: Its data are not there.
        RecordError: A record is damaged.
    """
    folder = find_trial(root, beginning)
    trial, _ = folder.read_spec()
    framework = backend or trial.backend
    _require_a_page(trial, framework)
    arrays = _divided(trial, arrays_of(folder, trial))
    metric = ((folder.read_result() or {}).get("metrics") or {}).get("test_nll")
    if metric is None:
        _refuse(trial, "its record has no test likelihood", "run its suite to the end")
    dataset = datasets.load(trial.dataset.name, trial.dataset.digest)
    chunks = list(dataset.chunks("test", trial.evaluation.batch, trial.evaluation.rows))
    rows = np.concatenate([chunk.x.reshape(len(chunk.x), -1) for chunk in chunks])
    tensors: dict[str, Array] = {
        **arrays,
        "rows": rows.astype(trial.dtype),
        "log_volume": np.concatenate([chunk.log_volume for chunk in chunks]),
    }
    text = page(trial, framework, rows=len(rows), file=file, record=float(metric["value"]))
    return Script(text, pack(tensors, {"trial_id": trial.id}))


def page(trial: Trial, framework: str, *, rows: int, file: str, record: float) -> str:
    """The Python file of a trial that fits on a page.

    Arguments:
        trial: The trial.
        framework: `torch` or `jax`.
        rows: Rows of its test.
        file: Python expression of the path of the arrays.
        record: The test likelihood of its record, in nats.
    """
    model = trial.model
    normed = model.batch_norm is not None
    code = {
        "layer": _LAYERS[model.layer],
        "nonlinearity": _nonlinearity(model.nonlinearity, framework),
        "norm": _NORM if normed else "",
        "first": 'norm("norm0/", ' if normed else "",
        "later": 'norm(f"norm{block + 1}/", ' if normed else "",
        "close": ")" if normed else "",
        **_CALLS[framework](trial.evaluation_solver),
    }
    facts = {
        "trial": trial.id,
        "dataset": trial.dataset.name,
        "solver_text": solver_label(trial.evaluation_solver),
        "rows": rows,
        "batch": trial.evaluation.batch,
        "hidden": len(model.hidden),
        "blocks": model.blocks,
        "residual": " - z" if model.residual else "",
        "x64": trial.dtype == "float64",
        "record": repr(record),
        "file": file,
        "imports": _imports(framework, " ".join(map(str, code.values()))),
    }
    template = Path(__file__).with_name("templates") / f"{framework}.txt"
    return _filled(template.read_text("utf-8"), {**code, **facts, **_versions(framework)})


_LAYERS: Mapping[LayerName, str] = {
    "blend": 'start = w[p + "weight0"] @ h + w[p + "bias0"]\n'
    'return (1 - t) * start + t * (w[p + "weight1"] @ h + w[p + "bias1"])',
    "concat": 'return w[p + "weight"][:, 1:] @ h + w[p + "weight"][:, 0] * t + w[p + "bias"]',
    "concat_v2": 'return w[p + "weight"] @ h + w[p + "bias"] + w[p + "time_weight"] * t',
    "concatcoord": 'return w[p + "weight"][:, 1:] @ h + w[p + "weight"][:, 0] * t + w[p + "bias"]',
    "concatsquash": 'gate = sigmoid(w[p + "gate_weight"] * t + w[p + "gate_bias"])\n'
    'return gate * (w[p + "weight"] @ h + w[p + "bias"]) + w[p + "time_weight"] * t',
    "hyper": 'a = tanh(w[p + "hyper0_weight"] * t + w[p + "hyper0_bias"])\n'
    'a, n = w[p + "hyper1_weight"] @ a + w[p + "hyper1_bias"], len(h) + 1\n'
    "return a[len(a) // n :].reshape(-1, len(h)) @ h + a[: len(a) // n]",
    "ignore": 'return w[p + "weight"] @ h + w[p + "bias"]',
    "squash": 'gate = sigmoid(w[p + "gate_weight"] * t + w[p + "gate_bias"])\n'
    'return gate * (w[p + "weight"] @ h + w[p + "bias"])',
}
"""The linear layers of `harness.architecture.layers`, of one row h."""

_NONLINEARITIES: Mapping[NonlinearityName, str] = {
    "elu": "elu(h)",
    "identity": "h",
    "relu": "relu(h)",
    "softplus": "softplus(h)",
    "square": "h * h",
    "swish": 'h * sigmoid(w["swish_beta"] * h)',
    "tanh": "tanh(h)",
}

_NORM = """\
def norm(p, z, a):
    gain = w[p + "log_scale"] - 0.5 * log(w[p + "running_var"] + 1e-4)
    return (z - w[p + "running_mean"]) * exp(gain) + w[p + "shift"], a - gain.sum()

"""


def _nonlinearity(name: NonlinearityName, framework: str) -> str:
    # Above its default threshold torch returns x itself, wrong by 2e-9.
    if (name, framework) == ("softplus", "torch"):
        return "softplus(h, threshold=40)"
    return _NONLINEARITIES[name]


_CALLS = {"jax": diffrax_call, "torch": torchdiffeq_call}


def _require_a_page(trial: Trial, framework: str) -> None:
    """Raises an AnswerError for what no page can hold."""
    if framework not in ("jax", "torch"):
        _refuse(trial, f"there is no script for the backend '{framework}'", "--backend torch")
    if trial.model.posterior is not None or trial.model.strides is not None:
        _refuse(trial, "only flows of linear layers fit on a page, no images, no autoencoders")
    if trial.evaluation.trace != "exact":
        _refuse(
            trial,
            f"its test likelihood is an estimate (trace {trial.evaluation.trace})",
            f"harness evaluate {trial.id} --set evaluation.trace=exact, and the script of that",
        )
    try:
        _CALLS[framework](trial.evaluation_solver)
    except LookupError as error:
        _refuse(
            trial,
            str(error.args[0]),
            "the other framework (--backend), or harness evaluate with another solver",
        )


def _divided(trial: Trial, arrays: Arrays) -> Arrays:
    """The arrays that the dynamics see: those under spectral norm are divided by it."""
    kept = {name: a for name, a in arrays.items() if name[-2:] not in ("_u", "_v")}
    if not trial.model.spectral_norm:
        return kept
    for name, array in kept.items():
        if name.rpartition("/")[2] in SPECTRAL:
            flat = array.reshape(len(array), -1).astype(np.float64)
            sigma: Any = np.linalg.norm(flat)
            if array.ndim > 1:
                sigma = arrays[f"{name}_u"] @ flat @ arrays[f"{name}_v"]
            kept[name] = (array / sigma).astype(array.dtype)
    return kept


def _versions(framework: str) -> dict[str, str]:
    names = ("torch", "torchdiffeq") if framework == "torch" else ("jax", "diffrax")
    versions = {}
    for name in names:
        # Whoever writes a script need not be able to run it.
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "(any version)"
    return versions


_HOMES = {
    "jax": {"jax.nn": ("elu", "relu", "sigmoid", "softplus"), "jax.numpy": ("exp", "log", "tanh")},
    "torch": {
        "torch": ("exp", "log", "sigmoid", "tanh"),
        "torch.nn.functional": ("elu", "relu", "softplus"),
    },
}
"""Where the functions of the snippets come from."""


def _imports(framework: str, code: str) -> str:
    """Imports of the functions that occur in code."""
    lines = []
    for home, names in _HOMES[framework].items():
        used = [name for name in names if re.search(rf"\b{name}\(", code)]
        lines += [f"from {home} import {', '.join(used)}"] if used else []
    return "\n".join(lines)


def _filled(template: str, values: Mapping[str, object]) -> str:
    """The template with its placeholders filled in; a line that is one has a text of any number of
    lines in its place, indented as it is.
    """
    lines: list[str] = []
    for line in template.splitlines():
        alone = re.fullmatch(r"( *)\$(\w+)", line)
        if alone:
            lines += textwrap.indent(str(values[alone[2]]), alone[1]).splitlines()
        else:
            lines.append(Template(line).substitute(values))
    return "\n".join(lines) + "\n"


def _refuse(trial: Trial, message: str, fix: str | None = None) -> NoReturn:
    raise AnswerError([Problem(f"trial {trial.id}", message, fix=fix)])
