"""The suites that come with the package, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import InputError, Problem

__all__ = ["find_suite", "suite_files"]


def suite_files() -> dict[str, Path]:
    """Built-in suites by name: in the installed package, or in the checkout it is edited in.

    One in a folder has the folder's name before its own: `released-toy`.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_suites", package.parent / "suites"):
        if folder.is_dir():
            files = sorted(folder.rglob("*.yaml"))
            return {
                "-".join(path.relative_to(folder).with_suffix("").parts): path for path in files
            }
    return {}


def find_suite(name: str) -> Path:
    """Finds a suite: a word without a slash and `.yaml` is a built-in one, another is a file.

    Raises:
        InputError: There is no built-in suite of that name.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(name)
    built_in: Mapping[str, Path] = suite_files()
    if name not in built_in:
        raise InputError(
            [
                Problem(
                    name,
                    "no built-in suite of this name",
                    known=tuple(built_in),
                    found=name,
                    fix=f"for a file of your own write ./{name}.yaml",
                )
            ]
        )
    return built_in[name]
