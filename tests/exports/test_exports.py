"""`harness export`: what other programs read says what the records say."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from finished_run import Records, write_records

from harness.commands.export import FORMATS, export, formats_of
from harness.errors import InputError
from harness.exports.columns import describe_columns
from harness.exports.latex import escaped
from harness.records.folder import TrialFolder
from harness.records.status import Status


@pytest.fixture(scope="module")
def exported(records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("export")
    files = export(records.root, to, license="https://spdx.org/licenses/CC-BY-4.0")
    assert sorted(files) == sorted(path for path in to.rglob("*") if path.is_file())
    return to


def test_the_tables_are_the_frame(exported: Path, frame: pd.DataFrame) -> None:
    for read in (
        pd.read_parquet(exported / "trials.parquet"),
        pd.read_csv(exported / "trials.csv", dtype={"trial_id": str, "attempt_id": str}),
    ):
        assert list(read.columns) == list(frame.columns)
        assert list(read["trial_id"]) == list(frame["trial_id"])
        for column in ("metrics.test_nll", "timing.step_s.median", "nfe.train.forward.mean"):
            # Every digit: a table that is rounded is another table.
            pd.testing.assert_series_equal(read[column], frame[column], check_exact=True)


def test_texts_and_numbers_in_one_column_become_texts(
    records: Records,
    tmp_path: Path,
) -> None:
    root = write_records(tmp_path / "runs").root
    path = next((root / "trials").glob("*/result.json"))
    result = json.loads(path.read_text())
    result["environment"]["cores"] = "two"
    path.write_text(json.dumps(result))
    export(root, tmp_path / "out", ["parquet"])
    cores = pd.read_parquet(tmp_path / "out" / "trials.parquet")["environment.cores"]
    assert set(cores) == {"2", "two"}


def test_every_column_is_described(exported: Path) -> None:
    with open(exported / "columns.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open(exported / "trials.csv", newline="", encoding="utf-8") as file:
        assert [row["name"] for row in rows] == next(csv.reader(file))
    assert all(row["description"] for row in rows)
    units = {row["name"]: row["unit"] for row in rows}
    assert units["metrics.test_nll"] == units["metrics.test_nll.sem"] == "nats"
    assert units["timing.step_s.median"] == units["timing.train_s"] == "s"
    assert units["timing.step_s.n"] == units["metrics.test_nll.n"] == ""
    assert units["memory.peak_host_bytes"] == "bytes"
    assert units["finished_ms"] == "ms"


def test_a_metric_of_another_version_has_a_description() -> None:
    (found,) = describe_columns(["metrics.invented"])
    assert found.description


def test_latex_has_a_table_a_dataset_with_mean_and_spread(
    exported: Path,
    frame: pd.DataFrame,
) -> None:
    text = (exported / "results.tex").read_text()
    tables = re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.DOTALL)
    ok = frame[frame["status"] == "ok"]
    assert len(tables) == ok["dataset"].nunique()
    for table in tables:
        for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
            assert table.count(rule) == 1
        match = re.search(r"\\begin\{tabular\}\{([lr]+)\}", table)
        assert match
        body = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", line)) for line in body} == {len(match[1])}
    one = ok[(ok.dataset == "8gaussians") & (ok.backend == "torch") & (ok.regularizer == "none")]
    values = one[one.solver.str.startswith("dopri5")]["metrics.test_nll"]
    assert rf"${values.mean():.3f} \pm {values.std():.3f}$" in text
    assert r"8gaussians" in text


def test_nothing_in_a_name_means_anything_to_tex() -> None:
    assert escaped("a_b%{c}") == r"a\_b\%\{c\}"
    assert escaped("\\x^~") == r"\textbackslash{}x\textasciicircum{}\textasciitilde{}"


def test_each_result_is_a_model_index(exported: Path, records: Records) -> None:
    found = {path.stem: json.loads(path.read_text()) for path in (exported / "results").iterdir()}
    results = {
        p.trial.id: TrialFolder(records.root, p.trial.id).read_result()
        for p in records.plan.trials
    }
    ok = {name for name, r in results.items() if r and r["status"] == Status.OK.value}
    assert found.keys() == ok
    for trial_id, card in found.items():
        (model,) = card["model-index"]
        (result,) = model["results"]
        # What the schema requires of each.
        assert isinstance(model["name"], str)
        assert result["task"]["type"]
        assert result["dataset"]["type"]
        assert result["dataset"]["name"]
        for metric in result["metrics"]:
            assert metric["type"]
            assert isinstance(metric["value"], int | float)
        values = {metric["type"]: metric["value"] for metric in result["metrics"]}
        recorded = results[trial_id]
        assert recorded is not None
        assert values["test_nll"] == recorded["metrics"]["test_nll"]["value"]
        assert card["cnf-harness"]["trial_id"] == trial_id


def test_the_crate_describes_every_file(exported: Path) -> None:
    """Structure of RO-Crate 1.2: the rules that its specification states with MUST."""
    document = json.loads((exported / "ro-crate-metadata.json").read_text())
    assert document["@context"] == "https://w3id.org/ro/crate/1.2/context"
    graph = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(graph) == len(document["@graph"])
    assert all("@type" in entity for entity in graph.values())
    descriptor = graph["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    crate = graph["./"]
    assert crate["@type"] == "Dataset"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", crate["datePublished"])
    assert crate["name"]
    assert crate["description"]
    assert crate["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    parts = {part["@id"] for part in crate["hasPart"]}
    there = {
        path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()
    }
    assert parts == there - {"ro-crate-metadata.json"}
    for part in parts:
        content = (exported / part).read_bytes()
        assert graph[part]["@type"] == "File"
        assert graph[part]["contentSize"] == str(len(content))
        assert graph[part]["sha256"] == hashlib.sha256(content).hexdigest()
    # Nothing is referred to that is not described, but the specification itself.
    references = set(re.findall(r'\{"@id": "([^"]+)"\}', json.dumps(document["@graph"])))
    assert references - graph.keys() == {"https://w3id.org/ro/crate/1.2"}


def test_a_crate_without_a_licence_says_so(records: Records, tmp_path: Path) -> None:
    export(records.root, tmp_path, ["json", "ro-crate"], where="dataset=digits")
    document = json.loads((tmp_path / "ro-crate-metadata.json").read_text())
    graph = {entity["@id"]: entity for entity in document["@graph"]}
    assert graph[graph["./"]["license"]["@id"]]["name"] == "No licence stated"
    assert "digits" in graph["./"]["description"]
    assert "8gaussians" not in graph["./"]["description"]


def test_a_mistake_is_named(records: Records, tmp_path: Path) -> None:
    assert formats_of("csv, latex,csv") == ("csv", "latex")
    assert set(FORMATS) == {"csv", "parquet", "latex", "json", "ro-crate"}
    with pytest.raises(InputError, match="did you mean 'parquet'"):
        formats_of("parkuet")
    with pytest.raises(InputError, match="no record"):
        export(tmp_path / "absent", tmp_path)
    with pytest.raises(InputError, match="matches"):
        export(records.root, tmp_path, where="seed=77")
