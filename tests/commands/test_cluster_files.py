"""The files of docs/clusters run with stand-ins; the real command lines take their words."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from ruamel.yaml import YAML

from harness.cli import app
from harness.planning.shards import Shard, parse_shard

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILES = DOCS / "clusters"
SCRIPTS = ("slurm-array.sh", "slurm-ray.sh")

STAND_IN = """\
#!{python}
import json, os, signal, sys, time

name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps([name, *words]), file=calls)
if name == "srun":
    while words[0].startswith("--"):
        words = words[1:]
    os.execvp(words[0], words)
if name == "ray":
    words = words[words.index("--") + 1 :]
    # Kept until the command is ready for it, however slowly that starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.execvp(words[0], words)
if name == "scontrol" and words[0] == "show":
    print("node1\\nnode2\\nnode3\\nnode4")
if name == "harness":
    signals = []
    signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    end = time.monotonic() + float(os.environ["SECONDS_TO_RUN"])
    while time.monotonic() < end and not signals:
        time.sleep(0.05)
    time.sleep(0.3 if signals else 0)
    sys.exit({{0: int(os.environ["CODE"]), 1: 130}}.get(len(signals), 99))
"""


class Cluster:
    """Runs a script where `srun`, `scontrol`, `ray` and `harness` only note their words."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("srun", "scontrol", "ray", "harness"):
            path = folder / name
            path.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
            path.chmod(0o755)

    def __call__(self, script: str, **environment: str) -> tuple[int, list[list[str]]]:
        calls = self._folder / "calls"
        calls.unlink(missing_ok=True)
        inherited = {"PATH": f"{self._folder}:{os.environ['PATH']}", "HOME": str(self._folder)}
        slurm = {
            "SLURM_ARRAY_JOB_ID": "77",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_CPUS_PER_TASK": "6",
            "SLURM_JOB_ID": "80",
            "SLURM_JOB_NODELIST": "node[1-4]",
            "SLURM_JOB_NUM_NODES": "4",
        }
        rest = {"CALLS": str(calls), "CODE": "0", "SECONDS_TO_RUN": "0"}
        process = subprocess.run(
            ["bash", "-u", str(FILES / script)],
            env=inherited | slurm | rest | environment,
            timeout=60,
        )
        return process.returncode, [json.loads(line) for line in calls.read_text().splitlines()]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def parsed(words: list[str]) -> dict[str, Any]:
    """What the real command line makes of `harness ...`; it runs nothing."""
    assert words[0] == "harness"
    # typer has a click of its own in later versions, and uses the package in earlier ones.
    group: Any = typer.main.get_command(app)
    params: dict[str, Any] = group.commands[words[1]].make_context(words[1], words[2:]).params
    return params


def ray_parsed(words: list[str]) -> dict[str, Any]:
    """The same of `ray ...`."""
    scripts = pytest.importorskip("ray.scripts.scripts")
    command = scripts.cli.commands[words[1]]
    params: dict[str, Any] = command.make_context(words[1], words[2:]).params
    return params


def manifest(name: str) -> Any:  # noqa: ANN401
    return YAML(typ="safe", pure=True).load((FILES / name).read_text(encoding="utf-8"))


def commands_in(path: Path, name: str) -> list[list[str]]:
    """Command lines of a program in a document, or in a file and its comments."""
    text = path.read_text(encoding="utf-8")
    word = r"(?:[^'\n#]|'[^'\n]*')"
    lines = re.findall(rf"(?:^#? {{4,5}}|&& )({name} [a-z-]+{word}*)", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_shell(name: str) -> None:
    subprocess.run(["bash", "-n", str(FILES / name)], check=True)


def test_a_job_of_an_array_runs_its_shard(cluster: Cluster) -> None:
    code, (srun, harness) = cluster("slurm-array.sh")
    assert code == 0
    assert srun[:2] == ["srun", "--cpus-per-task=6"]
    params = parsed(harness)
    assert (params["suite"], str(params["executor"])) == ("suites/toy.yaml", "inline")
    assert parse_shard(params["shard"]) == Shard(3, 8)
    (array,) = re.findall(
        r"^#SBATCH --array=1-(\d+)$", (FILES / "slurm-array.sh").read_text(), re.MULTILINE
    )
    assert array == "8", "as many jobs as shards"


@pytest.mark.parametrize(
    ("script", "job"), [("slurm-array.sh", "77_3"), ("slurm-ray.sh", "80")], ids=SCRIPTS
)
def test_only_an_interrupted_job_is_queued_again(cluster: Cluster, script: str, job: str) -> None:
    for ended in ("0", "1", "130"):
        code, calls = cluster(script, CODE=ended)
        assert code == int(ended)
        requeued = [call for call in calls if call[:2] == ["scontrol", "requeue"]]
        assert requeued == ([["scontrol", "requeue", job]] if ended == "130" else [])


def test_one_ray_cluster_over_the_nodes_of_a_job(cluster: Cluster) -> None:
    code, (_, srun, ray, harness) = cluster("slurm-ray.sh", SUITE="my.yaml")
    assert code == 0
    assert srun[1] == "--cpus-per-task=6"
    params = parsed(harness)
    assert (params["suite"], params["address"]) == ("my.yaml", "node1:6379")
    # The words before `--` that are not symmetric-run's own go to `ray start`.
    assert ray[1] == "symmetric-run"
    options = ray[2 : ray.index("--")]
    found = ray_parsed(["ray", "symmetric-run", *options])
    assert (found["address"], found["min_nodes"]) == ("node1:6379", 4)
    started = ray_parsed(["ray", "start", *found["ray_args_and_entrypoint"]])
    assert started["num_cpus"] == 6


def test_near_its_limit_the_run_is_asked_to_stop_and_queued_again(cluster: Cluster) -> None:
    code, calls = cluster("slurm-ray.sh", STOP_AFTER="0.1", SECONDS_TO_RUN="30")
    assert code == 130
    assert calls[-1] == ["scontrol", "requeue", "80"]


def test_the_entrypoint_of_the_ray_job() -> None:
    job = manifest("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert parsed(shlex.split(job["spec"]["entrypoint"]))["address"] == "auto"
    spec = job["spec"]["rayClusterSpec"]
    pods = [
        each["template"]["spec"] for each in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    assert len(pods) == 2
    for pod in pods:
        (container,) = pod["containers"]
        values = {each["name"]: each["value"] for each in container["env"]}
        (mount,) = container["volumeMounts"]
        for name in ("HARNESS_ROOT", "HARNESS_DATA_DIR", "HARNESS_CACHE_DIR"):
            assert values[name].startswith(f"{mount['mountPath']}/")
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]
        assert all(isinstance(value, str) for value in values.values()), "as Kubernetes demands"


def test_ray_takes_the_cluster_of_ray_up() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = manifest("ray-up.yaml")
    place = importlib.util.find_spec("ray")
    assert place is not None
    assert place.submodule_search_locations
    folder = Path(place.submodule_search_locations[0])
    schema = json.loads((folder / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    starts = config["head_start_ray_commands"][1:] + config["worker_start_ray_commands"][1:]
    util.validate_config(util.prepare_config(config))
    for line in starts:
        activated, command = line.split(" && ")
        assert activated == ". ~/harness/environment"
        ray_parsed(shlex.split(command))


@pytest.mark.parametrize(
    ("path", "harness", "ray"),
    [(DOCS / "clusters.md", 5, 0), (FILES / "ray-up.yaml", 1, 5)],
    ids=["clusters.md", "ray-up.yaml"],
)
def test_command_lines_in_text(path: Path, harness: int, ray: int) -> None:
    ours, theirs = commands_in(path, "harness"), commands_in(path, "ray")
    assert (len(ours), len(theirs)) == (harness, ray)
    for words in ours:
        if shard := parsed(words).get("shard"):
            parse_shard(shard)
    for words in theirs:
        ray_parsed(words)


def test_the_text_names_every_file() -> None:
    text = (DOCS / "clusters.md").read_text(encoding="utf-8")
    for path in FILES.iterdir():
        assert f"](clusters/{path.name})" in text


def test_a_wrong_option_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed(["harness", "run", "s.yaml", "--shards", "1/2"])
