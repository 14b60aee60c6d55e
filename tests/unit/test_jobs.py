"""Launch files: each is one that its launcher takes. Those that can run here are run in tests/integration."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from facegen.families import FAMILIES

JOBS = Path(__file__).resolve().parents[2] / "jobs"
CONFIGS = sorted((JOBS / "accelerate").glob("*.yaml"))
LAUNCHER_LIMIT = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"


def without(values: object, dropped: tuple[str, ...] = ()) -> object:
    """Plain values without nulls, to compare what was read with what was written."""
    if isinstance(values, dict):
        return {key: without(value) for key, value in values.items() if value is not None}
    return [without(value) for value in values] if isinstance(values, list) else values


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_its_configs_and_knows_every_key(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    written = yaml.safe_load(path.read_text())
    assert written["use_cpu"] is config.use_cpu
    assert config.num_processes == written["num_processes"] >= config.num_machines
    assert config.mixed_precision == ("no" if config.use_cpu else "bf16")


def test_the_jobset_is_one_that_the_published_schema_describes() -> None:
    # Its hundreds of models take a second to import.
    from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

    written = yaml.safe_load((JOBS / "kubernetes" / "jobset.yaml").read_text())
    read = JobsetV1alpha2JobSet.from_dict(written)
    assert read is not None
    assert without(read.to_dict()) == written  # A key that the schema does not have would be lost.


def jobset_and_job() -> tuple[dict[str, Any], dict[str, Any]]:
    """The JobSet and its only job."""
    jobset = yaml.safe_load((JOBS / "kubernetes" / "jobset.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    return jobset, job


def test_the_jobset_starts_as_many_processes_as_there_are_gpus() -> None:
    jobset, job = jobset_and_job()
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    options = dict(arg.removeprefix("--").split("=", 1) for arg in container["args"] if arg.startswith("--"))
    assert spec["parallelism"] == spec["completions"] == int(options["num_machines"])
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert int(options["num_processes"]) == gpus * int(options["num_machines"])
    assert options["main_process_ip"] == f"{jobset['metadata']['name']}-{job['name']}-0-0.{jobset['metadata']['name']}"
    assert container["args"][container["args"].index("facegen/train.py") + 1] in FAMILIES
    assert (JOBS.parent / options["config_file"]).is_file()
    assert (JOBS.parent / "facegen" / "presets" / f"{options['config']}.yaml").is_file()


def test_a_save_has_the_time_that_the_scheduler_gives() -> None:
    _, job = jobset_and_job()
    pod = job["template"]["spec"]["template"]["spec"]
    (limit,) = (entry["value"] for entry in pod["containers"][0]["env"] if entry["name"] == LAUNCHER_LIMIT)
    assert 30 < int(limit) < pod["terminationGracePeriodSeconds"]
    script = (JOBS / "slurm" / "train.sbatch").read_text()
    [warned] = re.findall(r"--signal=B:USR1@(\d+)", script)
    [limit] = re.findall(rf"export {LAUNCHER_LIMIT}=.*:-(\d+)", script)
    assert 30 < int(limit) < int(warned)


def test_the_cluster_file_is_one_that_ray_takes() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((JOBS / "ray" / "cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "head_start_ray_command": []}, schema)


def test_the_pod_runs_as_the_user_of_the_container() -> None:
    _, job = jobset_and_job()
    user = job["template"]["spec"]["template"]["spec"]["securityContext"]
    [uid] = re.findall(r"useradd .*--uid (\d+)", (JOBS / "kubernetes" / "Dockerfile").read_text())
    assert user["runAsUser"] == user["fsGroup"] == int(uid)


def test_the_image_takes_no_data_along() -> None:
    ignored = [path.strip("/") for path in (JOBS.parent / ".gitignore").read_text().split()]
    left_out = set((JOBS.parent / ".dockerignore").read_text().split())
    assert {name for name in ignored if name.isalpha()} - {"node_modules"} <= left_out


def test_the_container_installs_what_the_project_pins() -> None:
    lines = (JOBS / "kubernetes" / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY")]
    assert all((JOBS.parent / path).exists() for path in copied)
    installs = [line for line in lines if "pip install" in line]
    assert installs and all("--require-hashes" in line or "--no-deps" in line for line in installs)
    root = JOBS.parent
    locked = dict(
        re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash", (JOBS / "kubernetes" / "requirements.lock").read_text(), re.M)
    )
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (root / "constraints.txt").read_text(), re.M))
    pinned = {name.replace("_", "-").lower(): version for name, version in pinned.items()}
    assert {name: version for name, version in locked.items() if pinned.get(name, version) != version} == {}
    needed = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(r"[\w.-]+", package)[0] for package in needed} <= locked.keys()  # type: ignore[index]


def test_the_batch_script_is_shell() -> None:
    script = JOBS / "slurm" / "train.sbatch"
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_batch_script_starts_one_launcher_on_each_machine(tmp_path: Path) -> None:
    programs = {
        "scontrol": "echo first",
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; ("$@"); done',
        "facegen": 'printf "%s|" "$@"; echo',
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4"}
    done = subprocess.run(
        ["bash", str(JOBS / "slurm" / "train.sbatch"), "vae", "--run", "my run"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
    )
    launch = "--config_file 'nodes' --num_machines 2 --num_processes 16 --main_process_ip first"
    lines = [
        f"train|--launch|{launch} --main_process_port 20007 --machine_rank {rank}|vae|--run|my run|" for rank in (0, 1)
    ]
    assert done.stdout.splitlines() == lines, done.stderr


def test_every_launch_file_is_documented() -> None:
    page = (JOBS.parent / "docs" / "deployment.md").read_text()
    named = set(re.findall(r"jobs/[\w./-]+", page))
    files = {str(path.relative_to(JOBS.parent)) for path in JOBS.rglob("*") if path.is_file()} - {"jobs/README.md"}
    assert files <= named
    assert {name.rstrip(".") for name in named} <= files
