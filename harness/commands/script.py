"""`harness script`: a trial's test likelihood as a page of Python without the harness."""

from __future__ import annotations

from pathlib import Path

from harness.models.script import script as make_script
from harness.records.files import replace, storing
from harness.records.folder import find_trial

__all__ = ["script"]


def script(trial: str, root: Path, *, out: Path | None = None, backend: str | None = None) -> str:
    """Writes the script of a trial and the arrays that it reads.

    Arguments:
        trial: Id of a trial, or its beginning.
        root: The run root.
        out: Folder for `mwe.py` and `arrays.safetensors`, which can be sent away together. None:
            the arrays go to the trial's folder, and the script names their path.
        backend: `torch` or `jax`; None: the one that trained.

    Returns:
        The script.

    Raises:
        HarnessError: There is no such trial, it has not been tested, or no page can hold it.
    """
    if out is None:
        arrays = (find_trial(root, trial).path / "script.safetensors").resolve()
        made = make_script(root, trial, repr(str(arrays)), backend)
        replace(arrays, made.arrays)
        return made.text
    made = make_script(root, trial, '__file__.replace("mwe.py", "arrays.safetensors")', backend)
    with storing(out):
        out.mkdir(parents=True, exist_ok=True)
    replace(out / "arrays.safetensors", made.arrays)
    replace(out / "mwe.py", made.text.encode())
    return made.text
