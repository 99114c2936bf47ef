"""The kit's table, exit codes and messages; what it imports; the reference by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import scipy_by_hand
from planted import Flow

from harness.certify import certify
from harness.certify.__main__ import main
from harness.certify.checks import CHECKS
from harness.certify.estimates import ESTIMATE_CHECKS
from harness.errors import InputError


def unsupported(field: Any, dim: int) -> Any:
    """A library that has only its end at one."""
    if field.end_time != 1 or len(field.shape) > 1:
        raise NotImplementedError("vectors, until 1")
    return Flow()(field, dim)[0]


def nothing(field: Any, dim: int) -> Any:
    """A library that does nothing that is asked."""
    raise NotImplementedError("no log p")


def broken(field: Any, dim: int) -> Any:
    """A library that fails."""
    raise RuntimeError("no kernel image")


def test_scipy_by_hand_is_certified() -> None:
    certificate = certify(
        scipy_by_hand.build, framework="numpy", estimated=scipy_by_hand.estimated()
    )
    assert certificate.ok, str(certificate)


def test_what_a_library_lacks_is_said_and_fails_nothing() -> None:
    certificate = certify(unsupported, framework="numpy")
    assert certificate.ok
    reasons = {found.note for found in certificate.findings if found.verdict == "not run"}
    assert "vectors, until 1" in reasons
    assert "build returned no sample" in reasons


def test_a_library_that_lacks_all_certifies_nothing() -> None:
    certificate = certify(nothing, framework="numpy")
    assert certificate.count("FAIL") == 0
    assert certificate.exit_code == 1
    assert "certifies nothing: 0 checks of" in str(certificate)


def test_an_exception_is_a_failed_check_with_its_place() -> None:
    certificate = certify(broken, framework="numpy")
    assert certificate.findings[0].verdict == "FAIL"
    assert certificate.findings[0].note.startswith("RuntimeError: no kernel image (test_kit.py:")


def test_bad_arguments_are_said_in_one_pass() -> None:
    with pytest.raises(InputError) as raised:
        certify(Flow(), framework="pytorch", tolerance=0.0)
    assert "did you mean 'torch'?" in str(raised.value)
    assert "between 0 and 1 expected, found 0.0" in str(raised.value)


def test_the_command_prints_a_table_and_exits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "findings.json"
    given = ["scipy_by_hand:build", "--framework", "numpy", "--json", str(file)]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "what" in out.splitlines()[2]
    assert out.rstrip().endswith("0 failed")
    found = json.loads(file.read_text())["findings"]
    assert [row["what"] for row in found] == [*CHECKS, *ESTIMATE_CHECKS]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("scipy_by_hand", "module:function expected, found 'scipy_by_hand'"),
        ("scipy_by_hnad:build", "cannot be imported"),
        ("scipy_by_hand:biuld", "did you mean 'build'?"),
    ],
)
def test_a_wrong_name_is_exit_code_2(
    place: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([place, "--framework", "numpy"]) == 2
    assert message in capsys.readouterr().err


def test_needs_numpy_and_one_framework_only() -> None:
    program = (
        "import sys\n"
        "for name in ('ray', 'mlflow', 'pydantic', 'pandas', 'typer', 'rich', 'torch', 'jax'):\n"
        "    sys.modules[name] = None\n"
        "from harness.certify import certify\n"
        "def build(field, dim):\n"
        "    raise NotImplementedError\n"
        "certify(build, framework='numpy')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
