"""A table of numbers as the archive of the tabular datasets holds it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import numpy as np

ROWS = np.random.Generator(np.random.PCG64(0)).normal(size=(2000, 8))


def npy(rows: np.ndarray = ROWS) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def archive(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar.gz of contents by name; a member that is not a file stands for itself."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()
