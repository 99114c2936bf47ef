"""Names, shapes, counts, initial values and noise slots of a model."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.architecture.arrays import array_specs, initial_arrays, parameter_count
from harness.architecture.noise import draw, needs_probe, noise_slots
from harness.architecture.transforms import Block, transforms
from harness.errors import BackendError
from harness.interface import DataInfo, Likelihood
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    DatasetRef,
    EndTime,
    Evaluation,
    ModelSpec,
    Posterior,
    Training,
    Trial,
)

INERT = EndTime(1.0, "inert")


def of(event_shape: tuple[int, ...], likelihood: Likelihood = "density") -> DataInfo:
    return DataInfo("any", event_shape, likelihood)


def trial(**changes: Any) -> Trial:  # noqa: ANN401
    return replace(
        Trial(DatasetRef("moons", "0" * 16), "torch", AdaptiveSolver("dopri5")), **changes
    )


# FFJORD (arXiv:1810.01367), table 4: hidden layers, width a dimension, flow steps; counts include
# one end time a flow step.
@pytest.mark.parametrize(
    ("width", "hidden", "factor", "blocks", "concat", "concatsquash"),
    [
        pytest.param(6, 3, 10, 5, 41_465, 43_325, id="POWER"),
        pytest.param(8, 3, 20, 5, 273_685, 278_565, id="GAS"),
        pytest.param(21, 2, 10, 10, 538_030, 546_850, id="HEPMASS"),
        pytest.param(43, 2, 20, 1, 817_087, 820_613, id="MINIBOONE"),
        pytest.param(63, 3, 20, 2, 6_683_294, 6_698_666, id="BSDS300"),
    ],
)
def test_parameter_counts_of_the_paper(
    width: int, hidden: int, factor: int, blocks: int, concat: int, concatsquash: int
) -> None:
    for layer, count in (("concat", concat), ("concatsquash", concatsquash)):
        model = ModelSpec(
            layer=layer,  # type: ignore[arg-type]
            hidden=(factor * width,) * hidden,
            blocks=blocks,
            end_time=INERT,
        )
        assert parameter_count(model, of((width,))) == count


@pytest.mark.parametrize(
    ("mode", "trainable", "count"),
    [("fixed", False, 0), ("inert", False, 1), ("trained", True, 1)],
)
def test_end_time_modes(mode: Any, trainable: bool, count: int) -> None:  # noqa: ANN401
    model = ModelSpec(hidden=(5,), end_time=EndTime(0.25, mode))
    (end,) = [spec for spec in array_specs(model, of((2,))) if spec.name.endswith("sqrt_end_time")]
    assert (end.name, end.shape, end.value) == ("block0/sqrt_end_time", (), 0.5)
    assert end.trainable is trainable
    without = parameter_count(replace(model, end_time=EndTime()), of((2,)))
    assert parameter_count(model, of((2,))) - without == count


def test_names_and_shapes_of_concatsquash() -> None:
    specs = array_specs(ModelSpec(layer="concatsquash", hidden=(5,), blocks=2), of((2,)))
    layers = {
        "layer0/weight": (5, 2),
        "layer0/bias": (5,),
        "layer0/gate_weight": (5,),
        "layer0/gate_bias": (5,),
        "layer0/time_weight": (5,),
        "layer1/weight": (2, 5),
        "layer1/bias": (2,),
        "layer1/gate_weight": (2,),
        "layer1/gate_bias": (2,),
        "layer1/time_weight": (2,),
        "sqrt_end_time": (),
    }
    expected = [(f"block{b}/{name}", shape) for b in (0, 1) for name, shape in layers.items()]
    assert [(spec.name, spec.shape) for spec in specs] == expected


def test_names_and_shapes_of_concat() -> None:
    specs = array_specs(ModelSpec(layer="concat", hidden=(5,)), of((2,)))
    assert [(spec.name, spec.shape) for spec in specs] == [
        ("block0/layer0/weight", (5, 3)),
        ("block0/layer0/bias", (5,)),
        ("block0/layer1/weight", (2, 6)),
        ("block0/layer1/bias", (2,)),
        ("block0/sqrt_end_time", ()),
    ]


# FFJORD, table 2 and section 4.2: three hidden layers of 64 filters, two blocks before and after
# each squeeze, three scales for MNIST and four for CIFAR10; one end time a block.
@pytest.mark.parametrize(
    ("event_shape", "scales", "blocks", "count"),
    [
        pytest.param((1, 28, 28), 3, 10, 800_646, id="MNIST"),
        pytest.param((3, 32, 32), 4, 14, 1_358_882, id="CIFAR10"),
    ],
)
def test_parameter_counts_of_the_multiscale_models(
    event_shape: tuple[int, ...], scales: int, blocks: int, count: int
) -> None:
    model = ModelSpec(
        "concat", (64,) * 3, "softplus", 2, INERT, strides=(1, 1, 1, 1), scales=scales
    )
    assert sum(isinstance(s, Block) for s in transforms(model, event_shape)) == blocks
    assert parameter_count(model, of(event_shape)) == count


def test_a_net_flattens_the_event() -> None:
    (block,) = transforms(ModelSpec(hidden=(7, 9)), (2, 3))
    assert isinstance(block, Block)
    assert block.shape == (6,)
    assert [(x.inputs, x.outputs) for x in block.layers] == [
        ((6,), (7,)),
        ((7,), (9,)),
        ((9,), (6,)),
    ]
    assert (block.bottleneck, block.bottleneck_shape) == (1, (7,))


def test_strides_halve_and_double_the_image() -> None:
    model = ModelSpec("concatcoord", (5, 6, 7), strides=(1, 2, -2, 1))
    (block,) = transforms(model, (2, 8, 4))
    assert isinstance(block, Block)
    assert [x.outputs for x in block.layers] == [(5, 8, 4), (6, 4, 2), (7, 8, 4), (2, 8, 4)]
    assert (block.bottleneck, block.bottleneck_shape) == (2, (6, 4, 2))
    shapes = {s.name: s.shape for s in array_specs(model, of((2, 8, 4)))}
    assert shapes["block0/layer0/weight"] == (5, 5, 3, 3)
    assert shapes["block0/layer1/weight"] == (6, 8, 4, 4)
    assert shapes["block0/layer2/weight"] == (7, 9, 4, 4)
    bounds = {s.name: s.bound for s in array_specs(model, of((2, 8, 4)))}
    # The fan-in of a transposed convolution, as PyTorch counts it: outputs times area.
    assert bounds["block0/layer2/weight"] == pytest.approx((7 * 16) ** -0.5)
    assert bounds["block0/layer2/bias"] == pytest.approx((7 * 16) ** -0.5)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (ModelSpec(hidden=(4,), strides=(1, 2)), (1, 8, 8), "must return the shape"),
        (ModelSpec(hidden=(4,), strides=(2, -2)), (1, 7, 8), "must return the shape"),
        (ModelSpec(hidden=(4,), strides=(1, 1)), (64,), "needs data of shape"),
        (ModelSpec(hidden=(4,), strides=(1, 1), scales=3), (1, 6, 8), "comes down to 3x4"),
    ],
)
def test_a_model_that_does_not_fit_its_data(
    model: ModelSpec, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        transforms(model, shape)


def test_stages_of_a_multiscale_model_with_norms() -> None:
    model = ModelSpec(
        hidden=(4,), strides=(1, 1), scales=2, blocks=1, batch_norm=BatchNorm(lag=0.5)
    )
    assert [(type(s).__name__, s.shape) for s in transforms(model, (1, 4, 6))] == [
        ("Norm", (1, 4, 6)),
        ("Block", (1, 4, 6)),
        ("Norm", (1, 4, 6)),
        ("Squeeze", (1, 4, 6)),
        ("Block", (4, 2, 3)),
        ("Norm", (4, 2, 3)),
        ("FactorOut", (4, 2, 3)),
        ("Block", (2, 2, 3)),
        ("Norm", (2, 2, 3)),
    ]
    names = [s.name for s in array_specs(model, of((1, 4, 6))) if s.name.startswith("norm3/")]
    assert names == [
        f"norm3/{name}" for name in ("log_scale", "shift", "running_mean", "running_var", "steps")
    ]


def test_hypernets_and_zero_last_layers() -> None:
    model = ModelSpec("hyper", (5,), zero_last=True)
    specs = {s.name.removeprefix("block0/"): s for s in array_specs(model, of((2,)))}
    assert specs["layer0/hyper1_weight"].shape == (5 + 10, 8)
    assert (specs["layer0/hyper1_weight"].bound, specs["layer0/hyper1_bias"].std) == (None, 0.01)
    assert specs["layer1/hyper1_bias"].std is None
    image = array_specs(ModelSpec("hyper", (3,), strides=(1, 1)), of((2, 4, 4)))
    assert {s.name: s.shape for s in image}["block0/layer0/hyper0_bias"] == (3 + 3 * 2 * 9,)


def test_arrays_of_an_autoencoder() -> None:
    posterior = Posterior(latent=8, amortization="low_rank", rank=3)
    model = ModelSpec("concat", (5,), blocks=2, posterior=posterior)
    shapes = {s.name: s.shape for s in array_specs(model, of((1, 28, 20), "categorical"))}
    assert shapes["encoder/layer0/gate_weight"] == (32, 1, 5, 5)
    assert shapes["encoder/layer5/weight"] == (256, 64, 7, 5)
    assert shapes["encoder/variance/weight"] == (8, 256)
    # U [8, 3], V [3, 5], bias [5]; U [5, 3], V [3, 8], bias [8].
    assert shapes["encoder/block1/bias"] == (24 + 15 + 5 + 15 + 24 + 8,)
    assert shapes["decoder/layer0/weight"] == (64, 8, 7, 5)
    assert shapes["decoder/head1/weight"] == (256, 256, 1, 1)
    assert shapes["block1/layer0/weight"] == (5, 9)
    binary = {s.name: s.shape for s in array_specs(model, of((1, 28, 28)))}
    assert binary["decoder/head0/weight"] == (1, 32, 1, 1)
    spec = trial(model=model)
    assert noise_slots(spec, (1, 28, 28), "train", 4)["posterior"].shape == (4, 8)
    assert noise_slots(spec, (1, 28, 28), "train", 4)["probe/1"].shape == (4, 8)
    assert noise_slots(spec, (1, 28, 28), "sample", 4)["base"].shape == (4, 8)


def test_a_hyper_posterior_brings_all_weights() -> None:
    model = ModelSpec("concat", (5,), posterior=Posterior(8, "hyper"))
    shapes = {s.name: s.shape for s in array_specs(model, of((1, 28, 28)))}
    assert not any(name.startswith("block0/layer") for name in shapes)
    assert shapes["encoder/block0/bias"] == (5 + 9 * 5 + 8 + 6 * 8,)


def test_an_autoencoder_needs_images() -> None:
    with pytest.raises(BackendError, match="multiples of 4"):
        array_specs(ModelSpec(posterior=Posterior()), of((1, 28, 30)))


def test_one_swish_beta_for_all_layers() -> None:
    model = ModelSpec(hidden=(5, 5), nonlinearity="swish", blocks=2)
    betas = [s for s in array_specs(model, of((2,))) if "beta" in s.name]
    assert [(s.name, s.shape, s.trainable, s.value) for s in betas] == [
        ("swish_beta", (), True, 1.0)
    ]


def test_spectral_norm_keeps_unit_vectors_that_are_no_parameters() -> None:
    model = ModelSpec(hidden=(5,), spectral_norm=True)
    plain = replace(model, spectral_norm=False)
    assert parameter_count(model, of((2,))) == parameter_count(plain, of((2,)))
    arrays = initial_arrays(trial(model=model, precision="float64"), of((2,)))
    assert arrays["block0/layer0/weight_u"].shape == (5,)
    assert np.linalg.norm(arrays["block0/layer0/weight_v"]) == pytest.approx(1, abs=1e-15)
    assert "block0/layer0/gate_weight_u" not in arrays


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    ("layer", "precision", "expected"),
    [
        ("concat", "float32", "f41b0d159a79ab0e"),
        ("concat", "float64", "00331834e990b49c"),
        ("concatsquash", "float32", "56bcbe1262441b2b"),
        ("concatsquash", "float64", "c1a704af73cc108e"),
    ],
)
def test_golden_initial_values(layer: Any, precision: Any, expected: str) -> None:  # noqa: ANN401
    model = ModelSpec(layer=layer, hidden=(16, 16), blocks=2, end_time=EndTime(0.5))
    arrays = initial_arrays(trial(model=model, precision=precision, seed=1), of((3,)))
    assert fingerprint(arrays) == expected


def test_initial_values_fill_their_bounds() -> None:
    model = ModelSpec(hidden=(64, 64))
    arrays = initial_arrays(trial(model=model), of((4,)))
    for spec in array_specs(model, of((4,))):
        value = arrays[spec.name]
        assert value.shape == spec.shape
        if spec.bound is None:
            np.testing.assert_array_equal(value, np.float32(spec.value))
        else:
            assert np.abs(value).max() <= spec.bound
            if value.size >= 256:
                assert np.abs(value).max() > 0.9 * spec.bound
    assert dict.fromkeys(arrays) == {spec.name: None for spec in array_specs(model, of((4,)))}


def test_bounds_are_those_of_a_linear_layer() -> None:
    bounds = {spec.name: spec.bound for spec in array_specs(ModelSpec(hidden=(16,)), of((4,)))}
    assert bounds["block0/layer0/weight"] == bounds["block0/layer0/bias"] == 0.5
    assert bounds["block0/layer1/weight"] == bounds["block0/layer1/bias"] == 0.25
    assert bounds["block0/layer1/gate_weight"] == bounds["block0/layer1/time_weight"] == 1.0
    concat = {
        s.name: s.bound for s in array_specs(ModelSpec(layer="concat", hidden=(8,)), of((3,)))
    }
    assert concat["block0/layer0/weight"] == concat["block0/layer0/bias"] == 0.5


def test_initial_values_depend_on_seed_and_name_only() -> None:
    small, large = ModelSpec(hidden=(8,)), ModelSpec(hidden=(8,), blocks=2)
    arrays = initial_arrays(trial(model=small), of((2,)))
    wide = initial_arrays(trial(model=large, backend="jax"), of((2,)))
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, wide[name])
    other = initial_arrays(trial(model=small, seed=1), of((2,)))
    assert (arrays["block0/layer0/weight"] != other["block0/layer0/weight"]).any()


def test_float32_values_are_the_rounded_float64_values() -> None:
    single = initial_arrays(trial(), of((2,)))
    double = initial_arrays(trial(precision="float64"), of((2,)))
    for name, value in double.items():
        np.testing.assert_array_equal(single[name], value.astype(np.float32))


@pytest.mark.parametrize(
    ("trace", "regularizer", "probed"),
    [
        ("exact", {}, False),
        ("exact", {"rnode.kinetic": 0.01}, False),
        ("exact", {"rnode.jacobian": 0.01}, True),
        ("hutchinson", {}, True),
        ("hutchinson", {"rnode.kinetic": 0.01, "rnode.jacobian": 0.01}, True),
        ("exact", {"ffjord.jfrob": 0.01, "jacobian_sum": 0.01}, True),
    ],
)
def test_training_slots(trace: Any, regularizer: Any, probed: bool) -> None:  # noqa: ANN401
    spec = trial(
        model=ModelSpec(blocks=3), training=Training(trace=trace), regularizer=regularizer
    )
    slots = noise_slots(spec, (2,), "train", 10)
    assert needs_probe(trace, tuple(regularizer)) is probed
    assert sorted(slots) == (["probe/0", "probe/1", "probe/2"] if probed else [])
    assert all(slot.shape == (10, 2) and slot.law == "gaussian" for slot in slots.values())


def test_slots_of_the_bottleneck_and_of_times() -> None:
    spec = trial(
        model=ModelSpec(hidden=(5, 3)),
        training=Training(trace="bottleneck", probe="rademacher"),
        regularizer={"steer": 0.5, "tpr": 5.0},
    )
    slots = noise_slots(spec, (2,), "train", 10)
    assert {k: (v.shape, v.law) for k, v in slots.items()} == {
        "probe/0": ((10, 3), "rademacher"),
        "end_time/0": ((), "uniform"),
        "tpr_times/0": ((2,), "uniform"),
    }


def test_evaluation_ignores_regularizers() -> None:
    spec = trial(regularizer={"rnode.jacobian": 0.01}, evaluation=Evaluation(trace="exact"))
    assert noise_slots(spec, (2,), "evaluate", 10) == {}
    probed = replace(spec, evaluation=Evaluation(trace="hutchinson"))
    assert list(noise_slots(probed, (2,), "evaluate", 10)) == ["probe/0"]


def test_sampling_needs_the_base_only() -> None:
    spec = trial(training=Training(probe="rademacher"), model=ModelSpec(blocks=2))
    slots = noise_slots(spec, (2, 2), "sample", 10)
    assert {name: (slot.shape, slot.law) for name, slot in slots.items()} == {
        "base": ((10, 2, 2), "gaussian")
    }


def test_drawn_noise_comes_from_its_stream_in_its_type() -> None:
    for probe, precision in itertools.product(("gaussian", "rademacher"), ("float32", "float64")):
        spec = trial(training=Training(probe=probe), precision=precision)  # type: ignore[arg-type]
        slots = noise_slots(spec, (2,), "train", 10)
        noise = draw(slots, seed=4, step=9, dtype=precision, prefix="train/")["probe/0"]
        stream = Stream(4, "train/probe/0", 9)
        if probe == "rademacher":
            assert noise.dtype == np.int8
            np.testing.assert_array_equal(noise, stream.rademacher((10, 2)))
        else:
            assert noise.dtype == np.dtype(precision)
            np.testing.assert_array_equal(noise, stream.normal((10, 2)).astype(precision))
