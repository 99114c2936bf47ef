"""The JSON Schema of suites accepts and refuses what the harness does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.errors import InputError
from harness.reading.yaml import parse_yaml, read_yaml
from harness.suites.builtin import suite_files
from harness.suites.schema import schema
from harness.suites.suite import KEYS, load_suite
from harness.trial import AXES

BLOCK = "{dataset: moons, backend: torch, solver: dopri5"
GATE = "{{when: seed=0, metric: {}, below: 3}}"


@pytest.fixture(scope="module")
def validator() -> Any:  # noqa: ANN401
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def loads(text: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_suite(path)
        except InputError:
            return False
        return True


@pytest.mark.parametrize("name", suite_files())
def test_built_in_suites_fit(name: str, validator: Any) -> None:  # noqa: ANN401
    path = suite_files()[name]
    load_suite(path)
    validator.validate(read_yaml(path).plain())


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (f"name: x\ntrials: [{BLOCK}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, seed: [0, 1], regularizer: [none, {{}}]}}]", True),
        (f"name: x\ntrials: [{BLOCK}, model: {{hidden: [4], end_time: {{value: 2}}}}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, model: {{hidden: [0]}}}}]", False),
        (f"name: x\ntrials: [{BLOCK}, model: {{hiden: [4]}}}}]", False),
        (f"name: x\ntrials: [{BLOCK}, model: {{end_time: {{value: 0}}}}}}]", False),
        (f"name: x\ntrials: [{BLOCK}, seed: -1}}]", False),
        (f"name: x\ntrials: [{BLOCK}, seed: []}}]", False),
        (f"name: x\ntrials: [{BLOCK}, training: {{protocol: paper}}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, training: {{protocol: none}}}}]", False),
        (f"name: x\ntrials: [{BLOCK}, training: {{validation_rows: null}}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, regularizer: {{rnode.kinetic: 0.1}}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, regularizer: {{rnode.kinetic: 0}}}}]", False),
        (f"name: x\ntrials: [{BLOCK}, regularizer: {{ffjord: 1}}}}]", False),
        (f"name: x\ntrials: [{BLOCK}, evaluation: {{solver: {{name: euler, steps: 4}}}}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, evaluation: {{solver: {{name: euler}}}}}}]", False),
        (f"name: x\ntrials: [{BLOCK}, evaluation: {{solver: dopri5}}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, evaluation: {{solver: null}}}}]", True),
        (
            f"name: x\ntrials: [{BLOCK}, evaluation: {{solver: {{library: 'scipy:R'}}}}}}]",
            False,
        ),
        (
            f"name: x\ntrials: [{BLOCK}, evaluation: {{solver: {{library: 'diffrax:F'}}}}}}]",
            False,
        ),
        ("name: x\ntrials: [{dataset: moons, backend: torch, solver: {name: dopri5}}]", True),
        ("name: x\ntrials: [{dataset: moons, backend: torch, solver: euler}]", False),
        (f"name: x\ntrials: [{BLOCK}, engine: library}}]", True),
        (f"name: x\ntrials: [{BLOCK}, engine: torchdiffeq}}]", False),
        (f"name: x\ntrials: [{BLOCK}, gradient: [auto, checkpoint]}}]", True),
        (
            f"name: x\ntrials: [{BLOCK}, model: {{posterior: null, batch_norm: {{lag: 0}}}}}}]",
            True,
        ),
        (f"name: x\ntrials: [{BLOCK}, training: {{patience: {{drops: [3], stop: 9}}}}}}]", True),
        (f"name: x\ntrials: [{BLOCK}, training: {{schedule: {{drops: 3}}}}}}]", False),
        (
            "name: x\ntrials: [{dataset: moons, backend: torch, "
            "solver: {library: 'torchdiffeq:fehlberg2', rtol: 1e-3}}]",
            True,
        ),
        ("name: x\ntrials: [{dataset: moons, backend: torch, solver: {library: scipy}}]", False),
        ("name: x\ntrials: [{dataset: moon, backend: torch, solver: dopri5}]", False),
        (f"name: X\ntrials: [{BLOCK}}}]", False),
        (f"name: x\ntrials: [{BLOCK}}}]\nresources: {{cpus: 2, gpus: 0.5}}", True),
        (f"name: x\ntrials: [{BLOCK}}}]\nresources: {{cpus: 0}}", False),
        (f"name: x\ntrials: [{BLOCK}}}]\nbudget: {{gpu_hours: 3}}", True),
        (f"name: x\ntrials: [{BLOCK}}}]\ngates: [{{when: seed=0, metric: nll, below: 1}}]", False),
        (
            f"name: x\ntrials: [{BLOCK}}}]\n"
            "gates: [{when: seed=0, metric: test_nll, below: gaussian_nll}]",
            True,
        ),
        (f"name: x\ntrials: [{BLOCK}}}]\nexclude: [{{when: seed=0}}]", False),
        (f"name: x\ntrials: [{BLOCK}}}]\ngates: [{GATE.format('val_nll')}]", True),
        # The training curves alone have it.
        (f"name: x\ntrials: [{BLOCK}}}]\ngates: [{GATE.format('val_bits_per_dim')}]", False),
        ("name: x\ntrials: []", False),
        ("name: x", False),
    ],
)
def test_the_schema_agrees_with_the_loader(text: str, fits: bool, validator: Any) -> None:  # noqa: ANN401
    assert loads(text) is fits
    assert validator.is_valid(parse_yaml(text, "s.yaml").plain()) is fits


def test_it_names_every_key_and_axis() -> None:
    found = schema()
    assert tuple(found["properties"]) == KEYS
    assert tuple(found["properties"]["defaults"]["properties"]) == AXES
