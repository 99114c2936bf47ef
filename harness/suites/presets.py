"""Presets: what `training.protocol` supplies where a suite is silent, by the kind of its data.

The kind follows from what the dataset declares (`kind_of`): `table`, `toy` (2-D), `image`, `vae`.
`paper` is arXiv:1810.01367 and, where that is silent, the released code; `released-code` is
rtqichen/ffjord, called as its README does. Widths, strides, blocks, scales and the length of a
training differ between the experiments: a suite writes those. So it does with what counts in
epochs, since their length depends on the data: `validate_every`, `schedule.kl_warmup` and
`patience.after` of autoencoders (the warm-up takes 100 epochs), `schedule.drops` of images (the
learning rate drops after 250 of 500 epochs).

All kinds, both protocols: Adam with lr 1e-3, Hutchinson's trace with a Gaussian probe in training,
the exact one in evaluation, the best arrays kept, tolerances 1e-5. The paper's layers are
`concat`, its end times fixed. The code's end times are `inert`; its solves step past the end and
interpolate (`end: interpolate`), see the regularizers in their error norm, and find the first step
of an adjoint solve anew.

`table`: tolerances 1e-6 and 1e-8; a validation every 200 steps, with the trace of
training; the short batch at the end of an epoch is kept; the learning rate is a tenth after
more than 10 validations without gain and a hundredth after more than 20, the end comes after more
than 30. Weight decay 1e-6: the paper counts on it; in the code's own Adam, which also adds eps
before the bias correction, it has no effect (`adam_eps_hat`). The code's layers: `concatsquash`.

`toy`: [0, 0.5]; the exact trace throughout; weight decay 1e-5; 10,000 steps of 100 points, a
validation every 100. The code's layers: `concatsquash`; its batches are stratified.

`image`: Rademacher probes; Hutchinson's trace in evaluation too. The code's batches are of
200, and its learning rate rises over 1000 steps. Layers: `concat`.

`vae`: [0, 0.5], never trained; batches of 100, a short one kept; a latent of 64. The paper: Adam,
lr 1e-3, the end after 100 validations without gain. The code: Adamax, lr 5e-4, eps 1e-7, the end
after 35. Layers: `concat`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from harness.datasets.registry import Declaration
from harness.reading.validation import overlay

__all__ = ["KINDS", "PROTOCOLS", "DataKind", "Preset", "kind_of", "preset"]

DataKind = Literal["image", "table", "toy", "vae"]
Preset = Mapping[str, Mapping[str, Any]]
"""Defaults by axis: model, training, evaluation; `solver` holds those of adaptive ones."""

KINDS: tuple[DataKind, ...] = ("image", "table", "toy", "vae")
PROTOCOLS = ("paper", "released-code")

_COMMON: Preset = {
    "model": {"layer": "concat", "end_time": {"mode": "fixed"}},
    "training": {
        "optimizer": {"name": "adam", "lr": 1e-3},
        "trace": "hutchinson",
        "probe": "gaussian",
        "keep": "best",
    },
    "evaluation": {"trace": "exact"},
    "solver": {"rtol": 1e-5, "atol": 1e-5},
}
_BY_KIND: Mapping[DataKind, Preset] = {
    "table": {
        "training": {
            "optimizer": {"weight_decay": 1e-6},
            "last_batch": "keep",
            "validate_every": 200,
            "schedule": {"factor": 0.1},
            "patience": {"drops": [10, 20], "stop": 30},
        },
        "solver": {"rtol": 1e-6, "atol": 1e-8},
    },
    "toy": {
        "model": {"end_time": {"value": 0.5}},
        "training": {
            "iterations": 10_000,
            "batch": 100,
            "optimizer": {"weight_decay": 1e-5},
            "trace": "exact",
            "validate_every": 100,
        },
    },
    "image": {
        "training": {"probe": "rademacher", "schedule": {"factor": 0.1}},
        "evaluation": {"trace": "hutchinson"},
    },
    "vae": {
        "model": {"end_time": {"value": 0.5}, "posterior": {"latent": 64}},
        "training": {
            "batch": 100,
            "last_batch": "keep",
            "patience": {"stop": 100},
            "validation_trace": "exact",
            "validation_batch": 100,
        },
        "evaluation": {"batch": 100},
    },
}
_ITS_SOLVER: Mapping[str, Any] = {
    "end": "interpolate",
    "regularizers_in_norm": True,
    "backward_first_step": "heuristic",
}
_RELEASED: Mapping[DataKind, Preset] = {
    "table": {
        "model": {"layer": "concatsquash", "end_time": {"mode": "inert"}},
        "training": {"optimizer": {"name": "adam_eps_hat"}},
        "solver": _ITS_SOLVER,
    },
    "toy": {
        "model": {"layer": "concatsquash", "end_time": {"mode": "inert"}},
        "training": {"stratified": True},
        "solver": _ITS_SOLVER,
    },
    "image": {
        "model": {"end_time": {"mode": "inert"}},
        "training": {"batch": 200, "validation_batch": 200, "schedule": {"warmup": 1000}},
        "evaluation": {"batch": 200},
        "solver": {**_ITS_SOLVER, "log_volume_in_state": True},
    },
    "vae": {
        "training": {
            "optimizer": {"name": "adamax", "lr": 5e-4, "eps": 1e-7},
            "patience": {"stop": 35},
        },
        "solver": _ITS_SOLVER,
    },
}


def kind_of(declared: Declaration | None) -> DataKind:
    """The kind of a dataset; one whose shape is not known before it is read counts as a table."""
    if declared is None:
        return "table"
    if declared.likelihood != "density":
        return "vae"
    shape = declared.event_shape or ()
    return "image" if len(shape) == 3 else "toy" if shape == (2,) else "table"


def preset(protocol: str | None, kind: DataKind) -> Preset:
    """Returns the defaults of a protocol for data of a kind; empty without a protocol."""
    if protocol is None:
        return {}
    layers = (_COMMON, _BY_KIND[kind], *([_RELEASED[kind]] if protocol == "released-code" else []))
    defaults: Preset = {}
    for layer in layers:
        defaults = overlay(defaults, layer)
    return defaults
