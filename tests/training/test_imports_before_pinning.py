"""numpy and the frameworks read thread settings when they are imported: pinning comes first.

The process is that of `python -m harness.training`, stopped where it pins itself to its cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from fakes import environment, fake_trial, write_spec

HEAVY = {"jax", "mlflow", "numpy", "pandas", "pydantic", "ray", "safetensors", "scipy", "torch"}
ALLOWED = {
    *("harness.errors", "harness.solvers", "harness.trial"),
    *("harness.process.cores", "harness.process.home", "harness.process.output"),
    *("harness.process.claim", "harness.process.machine", "harness.process.watch"),
    *("harness.records.files", "harness.records.folder"),
    *("harness.records.readers", "harness.records.status", "harness.records.version"),
    *("harness.process.orphan", "harness.training.run_trial"),
}
"""What of the harness may be imported beside the packages themselves and `harness.specs`."""

STOPPED_AT_PINNING = """
import json, pathlib, runpy, sys
from harness.process import cores

def stop(*arguments):
    names = {name: hasattr(module, "__path__") for name, module in sys.modules.items()}
    pathlib.Path(place).write_text(json.dumps(names))
    raise SystemExit(7)

place = sys.argv.pop(1)
cores.pin = stop
runpy.run_module("harness.training", run_name="__main__", alter_sys=True)
"""


def test_nothing_heavy_is_imported_before_the_cores_are_pinned(tmp_path: Path) -> None:
    spec, place = write_spec(tmp_path / "runs", fake_trial()), tmp_path / "imported.json"
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_AT_PINNING, str(place), str(spec)],
        env=environment(tmp_path / "site"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    is_package: dict[str, bool] = json.loads(place.read_text())
    assert not HEAVY & is_package.keys()
    ours = {name for name in is_package if name.startswith("harness") and not is_package[name]}
    assert "harness.training.run_trial" in ours
    assert {name for name in ours if not name.startswith("harness.specs.")} <= ALLOWED
