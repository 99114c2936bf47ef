"""A home folder and a name for a user who has none, as in a container started with `--user`."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from harness.process.cores import private_folder

__all__ = ["settle_home"]


def settle_home() -> None:
    """Sets HOME and LOGNAME where neither the environment nor the user database knows them.

    Frameworks, Ray and MLflow ask for both when they are imported, and fail; what they keep in the
    home folder is caches.
    """
    try:
        Path.home()
    except RuntimeError:
        home = private_folder() / "home"
        home.mkdir(exist_ok=True)
        os.environ["HOME"] = str(home)
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
