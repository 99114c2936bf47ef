"""The version of this project."""

from __future__ import annotations

from importlib import metadata

__all__ = ["__version__"]


try:
    __version__ = metadata.version("cnf-harness")
except metadata.PackageNotFoundError:  # a checkout that is on the path without being installed
    __version__ = "0+unknown"
