"""YAML: the core schema of 1.2, places, and files that are not what they should be."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.reading.nodes import Node
from harness.reading.yaml import MAX_BYTES, MAX_DEPTH, parse_yaml, read_yaml


def parse(text: str) -> Node:
    return parse_yaml(text, "s.yaml")


def message(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("5E+3", 5000.0),
        (".5", 0.5),
        ("-1.", -1.0),
        ("12", 12),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0xff", 255),
        ("10:30", "10:30"),
        ("on", "on"),
        ("yes", "yes"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("rk4_38", "rk4_38"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ('"1e-5"', "1e-5"),
        ("-.inf", -math.inf),
        ("0b1", "0b1"),
        ("1e", "1e"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = parse(f"a: {text}").items()["a"].value
    assert (type(found), found) == (type(value), value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse("a: .nan").plain()["a"])


def test_values_and_keys_know_their_places() -> None:
    root = parse("name: x\ntrials:\n  - {seed: [0, 12]}\n")
    block = root.items()["trials"].value
    assert isinstance(block, tuple)
    place = block[0].keys["seed"]
    assert (place.line, place.column, place.width) == (3, 6, 4)
    seeds = block[0].items()["seed"]
    assert (seeds.place.line, seeds.place.column, seeds.place.width) == (3, 12, 7)
    assert isinstance(seeds.value, tuple)
    assert (seeds.value[1].place.column, seeds.value[1].place.width) == (16, 2)


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    root = read_yaml(path)
    assert root.plain() == {"a": 1, "b": 2}
    assert root.keys["b"].line == 2


def test_aliases_expand() -> None:
    assert parse("a: &x [1, 2]\nb: *x\n").plain() == {"a": [1, 2], "b": [1, 2]}


def test_all_duplicate_keys_are_found_in_the_order_of_the_file() -> None:
    text = message("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert [line for line in text.splitlines() if line.startswith("s.yaml")] == [
        "s.yaml:2:11: duplicate key 'c', first in line 2",
        "s.yaml:3:1: duplicate key 'a', first in line 1",
    ]


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_deep_nesting_is_refused_quickly(opening: str) -> None:
    start = time.process_time()
    assert f"nested deeper than {MAX_DEPTH} levels" in message(opening * 20_000)
    assert time.process_time() - start < 5


def test_the_deepest_accepted_nesting_becomes_plain_values() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH).depth == MAX_DEPTH


def test_depth_counts_through_aliases() -> None:
    half = MAX_DEPTH // 2 + 1
    text = f"a: &x {'[' * half}{']' * half}\nb: {'[' * half}*x{']' * half}\n"
    assert "aliases expanded" in message(text)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    assert "more than 100,000 values" in message("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x [1, *x]", "s.yaml:1:11: the alias '*x' contains itself"),
        ("a: *y", "no anchor '&y' before this alias"),
        ("a: !!python/object:os.system 1", "is not allowed"),
        ("a: !foo [1]", "the tag !foo is not allowed"),
        ("a: 1\n---\nb: 1", "a second document begins"),
        ("a: b: c", "s.yaml:1:5: YAML syntax error"),
        ("a: [1,\n", "YAML syntax error"),
        ("\ta: 1", "YAML syntax error"),
        ("a: \x07", "the character U+0007 is not allowed"),
        ('a: "\\U99999999"', "YAML syntax error"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ("%YAML 3.0\n---\na: 1", "YAML syntax error"),
        ("1: 2", "a key must be text, found the number 1"),
        ("[a]: 2", "a key must be text, found a list"),
        ("a: " + "9" * 5000, "too many digits"),
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    assert expected in message(text)


def test_a_long_line_is_cut_around_the_mistake() -> None:
    text = message("[" + "1, " * 200 + "*x]")
    _, source, caret, *_ = text.splitlines()
    assert len(source) < 100
    assert source[caret.index("^") :].startswith("*x")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text("name: toy\n")
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "latin.yaml").write_bytes("name: toy\n# caf\u00e9\n".encode("latin-1"))
    expected = {
        "toyy.yaml": "known: big.yaml, latin.yaml, toy.yaml\n  did you mean 'toy.yaml'?",
        "big.yaml": "larger than 1,000,000 bytes",
        "latin.yaml": "latin.yaml:2:6: not UTF-8: byte 0xe9",
        ".": "a folder, not a file",
    }
    for name, text in expected.items():
        with pytest.raises(InputError) as caught:
            read_yaml(tmp_path / name)
        assert text in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet=st.sampled_from(list("ab:1-.e{}[],&*!?|>'\"#%@\n \t\\~\ud800\u2028\x00é")))
)
def test_any_text_is_a_tree_or_a_reported_mistake(text: str) -> None:
    with contextlib.suppress(InputError):
        parse(text).plain()
