"""`python -m harness.certify module:function --framework torch`: prints the table and exits.

Exit codes: 0 certified, 1 a check failed or too few ran, 2 invalid input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.certify.frameworks import FRAMEWORKS, Build
from harness.certify.kit import certify
from harness.errors import InputError, Problem, sentence_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.certify",
        description="Hold log p of any library of continuous normalizing flows to closed forms.",
        epilog="Exit codes: 0 certified, 1 a check failed or too few ran, 2 invalid input.",
    )
    parser.add_argument("build", help="module:function, called as build(field, dim)")
    parser.add_argument("--framework", default="torch", help=", ".join(sorted(FRAMEWORKS)))
    parser.add_argument("--estimated", help="the same with an estimated trace")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="nats (default 1e-4)")
    parser.add_argument("--name", help="what the table calls the library")
    parser.add_argument("--json", type=Path, help="a file for the findings")
    given = parser.parse_args(arguments)
    sys.path.insert(0, os.getcwd())
    try:
        estimated = None if given.estimated is None else _imported(given.estimated)
        certificate = certify(
            _imported(given.build),
            framework=given.framework,
            estimated=estimated,
            tolerance=given.tolerance,
            name=given.name or given.build,
        )
        if given.json:
            given.json.write_text(json.dumps(certificate.to_json(), indent=1) + "\n")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(sentence_of(error, given.json), file=sys.stderr)
        return 2
    print(certificate)
    return certificate.exit_code


def _imported(place: str) -> Build:
    """The function that `module:function` names."""
    module_name, _, name = place.partition(":")
    if not name:
        message = f"module:function expected, found '{place}'"
        raise InputError([Problem("command line", message, fix=f"write '{place}:build'")])
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        fix = "name it as Python imports it from here, or install what it needs"
        raise InputError([Problem(place, f"cannot be imported: {error}", fix=fix)]) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        message = f"module '{module_name}' has no function '{name}'"
        raise InputError([Problem(place, message, known=known, found=name)])
    return function  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
