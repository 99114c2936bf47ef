"""What a declaration says of the shape is what loading finds."""

from __future__ import annotations

import pytest

from harness import datasets
from harness.errors import InputError


@pytest.mark.parametrize("name", datasets.names())
def test_the_declared_shape_is_the_loaded_one(name: str) -> None:
    declared = datasets.declare(name)
    if not declared.available:
        pytest.skip(f"{name}: {declared.reason}")
    info = datasets.load(name).info
    assert declared.event_shape in (None, info.event_shape)
    assert declared.likelihood == info.likelihood


def test_shapes_that_are_known_without_the_data() -> None:
    shapes = {name: datasets.declare(name).event_shape for name in datasets.names()}
    assert shapes["moons"] == (2,)
    assert shapes["power"] == (6,)
    assert shapes["mnist"] == shapes["mnist-partial"] == (1, 28, 28)
    assert shapes["cifar10"] == (3, 32, 32)
    # Preparing fewer rows may keep other columns.
    assert shapes["gas-partial"] is None
    with pytest.raises(InputError):
        datasets.declare("power-whole")
