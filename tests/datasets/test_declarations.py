"""What a declaration says of the shape is what loading finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.datasets import registry as datasets
from harness.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is derived here is not left in the user's cache."""
    folder: Path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE_DIR", str(folder))
        yield


@pytest.mark.parametrize("name", datasets.names())
def test_the_declared_shape_is_the_loaded_one(name: str) -> None:
    declared = datasets.declare(name)
    if not declared.available:
        pytest.skip(f"{name}: {declared.reason}")
    loaded = datasets.load(name)
    info = loaded.info
    assert declared.event_shape in (None, info.event_shape)
    assert declared.test_rows in (None, loaded.sizes()["test"])
    assert declared.likelihood == info.likelihood


def test_test_rows_that_are_known_without_the_data() -> None:
    # Papamakarios et al. (arXiv:1705.07057), table of the datasets.
    published = {
        "power": 204_928,
        "gas": 105_206,
        "hepmass": 174_987,
        "miniboone": 3_648,
        "bsds300": 250_000,
    }
    assert {name: datasets.declare(name).test_rows for name in published} == published


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
