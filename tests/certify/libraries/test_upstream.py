"""Says when a fault that docs/upstream reproduces is mended: then its two files can go."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

UPSTREAM = Path(__file__).parents[3] / "docs" / "upstream"
LIBRARIES = ("diffrax", "flow_matching", "torchdiffeq", "torchflows")


@pytest.mark.parametrize("script", sorted(UPSTREAM.glob("*.py")), ids=lambda path: path.stem)
def test_the_fault_still_stands(script: Path) -> None:
    library = next(name for name in LIBRARIES if script.stem.startswith(name))
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: make certify installs it")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1, f"mended: remove {script.name} and its page\n{done.stdout}"
    assert script.with_suffix(".md").exists()
