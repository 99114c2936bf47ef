"""Entry points: one name, one plugin."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

import pytest

from harness import backends
from harness.errors import BackendError
from harness.plugins import plugins

GROUP = "harness.backends"


@pytest.fixture(autouse=True)
def _none_remembered() -> Iterator[None]:
    plugins.cache_clear()
    yield
    plugins.cache_clear()


def register(monkeypatch: pytest.MonkeyPatch, *targets: str) -> None:
    points = [metadata.EntryPoint("mine", target, GROUP) for target in targets]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)


def test_a_name_that_two_packages_claim_is_an_error_of_the_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch, "a:Backend", "b:Backend")
    with pytest.raises(BackendError, match="two packages register a backend named 'mine': a:Ba"):
        backends.backend_names()


def test_a_package_that_is_listed_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "a:Backend", "a:Backend")
    assert backends.backend_names() == ["mine"]


def test_a_backend_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "collections:Counter")
    with pytest.raises(BackendError, match=r"Counter is not a harness\.interface\.Backend"):
        backends.get_backend("mine")
