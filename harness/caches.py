"""The folder for what can be made again: derived data, downloads, compiled programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["CACHE_DIR", "COMPILED_DIR", "cache_dir", "made_cache"]

CACHE_DIR = "HARNESS_CACHE_DIR"
COMPILED_DIR = "HARNESS_COMPILED_DIR"
"""Names another folder for compiled programs alone: an empty one shows what compiling costs."""


def cache_dir() -> Path | None:
    """The folder `HARNESS_CACHE_DIR`, or else `cnf-harness` in the user's cache folder.

    None for a user without a home folder. Nothing is made here.
    """
    user = os.environ.get("XDG_CACHE_HOME")
    try:
        if value := os.environ.get(CACHE_DIR):
            return Path(value).expanduser()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "cnf-harness"
        return (Path(user).expanduser() if user else Path.home() / ".cache") / "cnf-harness"
    except RuntimeError:  # what pathlib raises where there is no home folder
        return None


def made_cache(name: str) -> Path | None:
    """A folder for compiled programs, made if need be; None if it cannot be made or written.

    Whoever compiles then does so again in every process.
    """
    own = os.environ.get(COMPILED_DIR)
    root = Path(own) if own else cache_dir()
    if root is None:
        return None
    folder = root / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
