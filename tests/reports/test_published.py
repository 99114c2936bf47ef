"""Published tables: values against the papers, strictness of the files, nothing from memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness_reports.published.library import effects, published, sources
from harness_reports.published.paper_files import read_papers
from harness_reports.published.values import DATASETS, METRICS, PublishedValue
from published_records import target

from harness.errors import InputError

TABULAR = ("power", "gas", "hepmass", "miniboone", "bsds300")
ALL = published(unprintable=True)


def cell(source: str, model: str, dataset: str, metric: str, table: str = "") -> PublishedValue:
    found = [
        v
        for v in ALL
        if (v.source, v.model, v.dataset, v.metric) == (source, model, dataset, metric)
        and table in v.table
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ("power", "−0.46 ± 0.01"),
        ("gas", "−8.59 ± 0.12"),
        ("hepmass", "14.92 ± 0.08"),
        ("miniboone", "10.43 ± 0.04"),
        ("bsds300", "−157.40 ± 0.19"),
    ],
)
def test_ffjord_table_6_is_the_target_and_agrees_with_table_2(dataset: str, text: str) -> None:
    found = target(dataset, "test_nll")
    assert found is not None
    assert str(found) == text
    assert (found.source, found.table, found.model) == ("ffjord", "Table 6", "FFJORD")
    assert (found.spread_kind, found.runs, found.unit) == ("sd_over_runs", 3, "nats")
    plain = cell("ffjord", "FFJORD", dataset, "test_nll", "Table 2")
    assert (plain.value, plain.spread) == (found.value, None)


@pytest.mark.parametrize(
    ("source", "model", "dataset", "metric", "value", "mark"),
    [
        ("ffjord", "FFJORD", "mnist", "test_bits_per_dim", 0.99, "V2"),
        ("ffjord", "FFJORD (encoder-decoder)", "mnist", "test_bits_per_dim", 1.05, "V2"),
        ("ffjord", "FFJORD", "cifar10", "test_bits_per_dim", 3.40, "V2"),
        ("ffjord", "FFJORD", "mnist-static", "test_neg_elbo", 82.82, "V2"),
        ("ffjord", "FFJORD", "freyfaces", "test_neg_elbo_bits_per_dim", 4.39, "V2"),
        ("ffjord", "VAE, IAF", "caltech-silhouettes", "test_neg_elbo", 111.58, "V2"),
        ("paddingflow", "FFJORD", "miniboone", "cd", 24.6, "V"),
        ("paddingflow", "FFJORD", "gas", "emd_3d_reading_approximate", 0.146, "V"),
        ("paddingflow", "FFJORD", "gas", "min_cd", 0.95, "V"),
        ("paddingflow", "FFJORD", "bsds300", "min_emd_3d_reading_approximate", 0.0227, "V"),
        ("paddingflow", "PaddingFlow", "bsds300", "cd", 0.495, "R"),
        ("paddingflow", "FFJORD", "freyfaces", "mmd_l2_recon", 0.834, "V"),
        ("paddingflow", "FFJORD", "mnist-static", "cov_l2_recon", 96.4, "V"),
        ("maf", "Gaussian", "miniboone", "gaussian_nll", 37.24, "R"),
        ("maf", "Gaussian", "bsds300", "gaussian_nll", -96.67, "R"),
        ("maf", "MAF (10)", "gas", "test_nll", -10.08, "V2"),
        ("maf", "MADE MoG", "power", "test_nll", -0.40, "V2"),
        ("tan", "TAN", "hepmass", "test_nll", 13.78, "V"),
        ("nsf", "RQ-NSF (autoregressive)", "miniboone", "test_nll", 9.22, "R"),
        ("nsf", "Glow", "hepmass", "test_nll", 16.99, "R"),
        ("rnode", "RNODE", "cifar10", "test_bits_per_dim", 3.38, "R"),
        ("ot_flow", "FFJORD", "bsds300", "test_nll", -133.94, "M+"),
        ("score_sde", "Flow++", "cifar10", "test_bits_per_dim", 3.29, "V2"),
        ("flow_matching", "Flow Matching, OT path, one draw", "cifar10", "test_bits_per_dim", 3.11,
         "V2"),
    ],
)  # fmt: skip
def test_cells(
    source: str, model: str, dataset: str, metric: str, value: float, mark: str
) -> None:
    tables = {v.table for v in ALL if (v.source, v.model) == (source, model)}
    table = "Table 2" if source == "ffjord" and "Table 2" in tables and "nll" in metric else ""
    found = cell(source, model, dataset, metric, table)
    assert found.value == value
    assert found.mark == mark


def test_what_only_memory_supports_is_never_handed_out() -> None:
    hidden = [v for v in ALL if v.mark == "M"]
    assert hidden
    assert not any(v.printable for v in hidden)
    shown = published()
    assert {v.mark for v in shown} == {"V", "V2", "R", "M+"}
    assert len(shown) + len(hidden) == len(ALL)
    assert all(e.mark in ("V", "V2", "R", "D") for e in effects())


def test_no_value_from_memory_is_a_target() -> None:
    remembered = [v for v in ALL if v.from_memory]
    assert {v.mark for v in remembered} == {"M", "M+"}
    assert not any(v.is_target for v in remembered)


def test_every_dataset_metric_unit_and_direction_is_known() -> None:
    for v in ALL:
        assert v.dataset in DATASETS
        assert (v.unit, v.direction) == (METRICS[v.metric].unit, METRICS[v.metric].better)
        assert (v.spread is None) == (v.spread_kind == "none")


def test_every_source_has_a_file_and_says_what_was_seen() -> None:
    assert {v.source for v in ALL} <= set(sources())
    assert {"ffjord", "paddingflow", "maf", "rnode", "ot_flow", "tpr", "taynode"} <= set(sources())
    assert all(source.seen for source in sources().values())


def test_every_row_of_the_benchmark_card_has_its_targets() -> None:
    samples = ("cd", "emd_3d_reading_approximate", "min_cd", "min_emd_3d_reading_approximate")
    for dataset in TABULAR:
        assert all(target(dataset, metric) for metric in ("test_nll", "gaussian_nll", *samples))
    for dataset in ("mnist", "cifar10"):
        assert target(dataset, "test_bits_per_dim")
    for dataset in ("mnist-static", "omniglot", "freyfaces", "caltech-silhouettes"):
        elbo = "test_neg_elbo_bits_per_dim" if dataset == "freyfaces" else "test_neg_elbo"
        assert all(target(dataset, m) for m in (elbo, "cov_l2_recon", "mmd_l2_recon"))
    assert target("power", "emd") is None


def test_baselines_of_the_ffjord_paper_are_the_better_rows_of_the_maf_paper() -> None:
    for dataset in TABULAR:
        for model in ("MAF", "Real NVP"):
            rows = [cell("maf", f"{model} ({n})", dataset, "test_nll") for n in (5, 10)]
            best = min(rows, key=lambda v: v.value)
            copied = cell("ffjord", model, dataset, "test_nll", "Table 6")
            assert (copied.value, copied.spread) == (best.value, best.spread)
            assert copied.spread_kind == "two_sd_over_test_points"
        made = cell("ffjord", "MADE", dataset, "test_nll", "Table 6")
        assert made.value == cell("maf", "MADE", dataset, "test_nll").value


def test_log_likelihoods_are_stored_with_the_other_sign() -> None:
    flipped = [v for v in ALL if v.flipped]
    assert {v.source for v in flipped} == {"maf", "tan", "nsf"}
    assert {v.published_as for v in flipped} == {"log-likelihood"}
    # A flow that loses to the Gaussian by far would be a slip of the sign.
    for v in flipped:
        gaussian = target(v.dataset, "gaussian_nll")
        assert gaussian is not None
        assert v.value <= gaussian.value


def test_what_a_reader_must_know_is_noted() -> None:
    emd = target("power", "emd_3d_reading_approximate")
    assert emd is not None
    assert any("3-D reading" in note for note in emd.notes)
    assert any("smaller model" in note for note in emd.notes)
    assert emd.trained_by == "PaddingFlow"
    assert any("superseded" in n for n in cell("ffjord", "TAN", "gas", "test_nll", "6").notes)


def test_lookups() -> None:
    power = published("power", "test_nll")
    assert {v.dataset for v in power} == {"power"}
    assert {v.metric for v in power} == {"test_nll"}
    assert len(published("power")) > len(power)
    with pytest.raises(ValueError, match="no published values"):
        published("power-partial")
    with pytest.raises(ValueError, match="no metric"):
        published(metric="mmd")


def test_effects_have_ranges() -> None:
    cuts = {e.scope: (e.low, e.high, e.unit) for e in effects("tpr")}
    assert cuts["density estimation"] == (42.3, 71.3, "%")
    assert cuts["variational autoencoders"] == (19.3, 32.1, "%")
    assert [e.low for e in effects("rnode")] == [2.8]


HEAD = "source: a\ntitle: t\nauthors: b\nseen: s\n"
TABLE = """tables:
  - table: T
    metric: test_nll
    published_as: NLL
    unit: nats
    direction: lower
    mark: V
    rows:
      - model: A
        values: {power: "1.0"}
"""


def read(folder: Path, text: str) -> tuple[PublishedValue, ...]:
    (folder / "a.yaml").write_text(text)
    return read_papers(folder)[1]


def test_a_minimal_file_is_read(tmp_path: Path) -> None:
    (found,) = read(tmp_path, HEAD + TABLE)
    assert (found.value, found.decimals) == (1.0, 1)
    assert found.half_digit == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    mark: V", "    mark: V\n    colour: red", "unknown key 'colour'"),
        ("    mark: V", "    mark: X", "unknown mark 'X'"),
        ("    mark: V\n", "", "lacks 'mark'"),
        ("unit: nats", "unit: bits", "test_nll is in nats, found 'bits'"),
        ("direction: lower", "direction: higher", "lower is better, found 'higher'"),
        ("metric: test_nll", "metric: test_nl", "unknown metric 'test_nl'"),
        ("power:", "powr:", "unknown dataset 'powr'"),
        ('"1.0"', "1.0", "must be text"),
        ('"1.0"', '"1,0"', "not a value"),
        ('"1.0"', '"1.0 ± "', "not a value"),
        ('"1.0"', '"1.0 ± 0.1"', "spread 'none', but the cell is"),
        ("    mark: V", "    mark: V\n    spread: sd_over_runs", "but the cell is '1.0'"),
        ("    mark: V", "    mark: V\n    flipped: true", "is flipped, and nothing else"),
        ("NLL", "log-likelihood", "is flipped, and nothing else"),
        ('"1.0"}', '"1.0"}\n        cell_notes: {gas: n}', "no value of 'gas'"),
        ('"1.0"}', '"1.0"}\n      - {model: A, values: {power: "2.0"}}', "in T already"),
        ('"1.0"}', '"1.0"}\n        mark: M\n        targets: [power]', "is no target"),
        (
            '"1.0"}',
            '"1.0"}\n        targets: [power]\n'
            '      - {model: B, values: {power: "2"}, targets: [power]}',
            "has a target already",
        ),
        ("source: a", "source: b", "the file of 'b'"),
    ],
)
def test_mistakes_in_a_file_are_errors(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = HEAD + TABLE
    assert old in text
    with pytest.raises(InputError, match=r"a\.yaml") as error:
        read(tmp_path, text.replace(old, new, 1))
    assert message in str(error.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = (HEAD + TABLE).replace("unit: nats", "unit: bits").replace('"1.0"', '"x"')
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert len(error.value.problems) == 2


def test_an_effect_needs_numbers_in_order(tmp_path: Path) -> None:
    effect = "effects:\n  - {effect: e, scope: s, against: f, unit: x, mark: V, low: "
    (tmp_path / "a.yaml").write_text(HEAD + effect + '"3", high: "2"}\n')
    with pytest.raises(InputError, match="low exceeds high"):
        read_papers(tmp_path)
    (tmp_path / "a.yaml").write_text(HEAD + effect + '"two", high: "2"}\n')
    with pytest.raises(InputError, match="not a number"):
        read_papers(tmp_path)
