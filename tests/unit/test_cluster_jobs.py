"""Launch files that run any command on a cluster: jobs and RayJobs of Kubernetes, scripts for Slurm, the container."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray

from launch_files import JOBS, read_kubernetes

ROOT = JOBS.parent
LOCK = JOBS / "kubernetes" / "requirements.lock"

TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}


def fields(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """The schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


POD = {"type": "object"}  # Kubernetes' own schema checks them.
START = {"type": "object", "additionalProperties": TEXT}
HEAD = fields({"rayStartParams": START, "template": POD})
WORKERS = fields(
    {"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT, "template": POD},
    rayStartParams=START,
)
CLUSTER = fields(
    {"headGroupSpec": HEAD, "rayVersion": TEXT, "workerGroupSpecs": {"type": "array", "items": WORKERS}},
    authOptions=fields({"mode": {"enum": ["token", "disabled"]}}),
)
JOB = fields(
    {"entrypoint": TEXT, "rayClusterSpec": CLUSTER, "backoffLimit": COUNT, "shutdownAfterJobFinishes": {"const": True}}
)
RAY_JOB = fields(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": fields({"name": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,46}$"}}),
        "spec": JOB,
    }
)
"""The fields that the file uses, as KubeRay's ray.io/v1 has them."""


def without_nulls(values: object) -> object:
    if isinstance(values, dict):
        return {key: without_nulls(value) for key, value in values.items() if value is not None}
    return [without_nulls(value) for value in values] if isinstance(values, list) else values


def check_model(model: Any, written: dict[str, Any]) -> None:
    """A key that the published schema does not have would be lost; a value of another type is an error."""
    found = model.from_dict(written)
    assert without_nulls(found.to_dict()) == written


def pods(name: str) -> list[dict[str, Any]]:
    """The pod templates of a file."""
    spec = read_kubernetes(name)["spec"]
    if "template" in spec:
        return [spec["template"]]
    cluster = spec["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash", LOCK.read_text(), re.M))


@pytest.mark.parametrize("name", ["pack", "report"])
def test_a_job_is_one_that_the_published_schema_describes(name: str) -> None:
    from kubeflow_trainer_api.models.io_k8s_api_batch_v1_job import IoK8sApiBatchV1Job

    check_model(IoK8sApiBatchV1Job, read_kubernetes(name))


def test_the_rayjob_has_the_fields_of_kuberay_and_pods_of_the_published_schema() -> None:
    from kubeflow_trainer_api.models.io_k8s_api_core_v1_pod_template_spec import IoK8sApiCoreV1PodTemplateSpec

    written = read_kubernetes("rayjob")
    jsonschema.validate(written, RAY_JOB)
    for pod in pods("rayjob"):
        check_model(IoK8sApiCoreV1PodTemplateSpec, pod)
    written["spec"]["rayClusterSpec"]["headGroupSpecs"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, RAY_JOB)


def test_the_rayjob_names_the_ray_of_the_container() -> None:
    assert read_kubernetes("rayjob")["spec"]["rayClusterSpec"]["rayVersion"] == locked()["ray"] == ray.__version__


@pytest.mark.parametrize("name", ["pack", "report", "rayjob"])
def test_pods_run_as_the_user_of_the_container_and_mount_what_they_name(name: str) -> None:
    [uid] = re.findall(r"useradd .*--uid (\d+)", (JOBS / "kubernetes" / "Dockerfile").read_text())
    for pod in pods(name):
        assert pod["spec"]["securityContext"]["runAsUser"] == pod["spec"]["securityContext"]["fsGroup"] == int(uid)
        [container] = pod["spec"]["containers"]
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def fake(folder: Path, **programs: str) -> dict[str, str]:
    """An environment with these programs before the system's."""
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4", "SLURM_NNODES": "2"}


def submit(script: str, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(JOBS / "slurm" / f"{script}.sbatch"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("script", ["task", "ray"])
def test_the_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(JOBS / "slurm" / f"{script}.sbatch")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_task_runs_the_command_and_has_its_exit_code(tmp_path: Path) -> None:
    environment = fake(tmp_path, srun='"$@"', facegen='printf "%s|" "$@"; exit 2')
    done = submit("task", environment, "pack", "lfw", "my photos", "out")
    assert (done.stdout, done.returncode) == ("pack|lfw|my photos|out|", 2)


@pytest.mark.parametrize("code", [0, 2])
def test_a_command_on_ray_gets_the_address_and_its_exit_code_is_the_jobs(tmp_path: Path, code: int) -> None:
    environment = fake(
        tmp_path,
        srun='"$@"',
        hostname="echo 10.0.0.5 fe80::1",
        ray='echo "${@:1:9}"; shift 9; "$@"',
        facegen=f'printf "%s|" "$@"; exit {code}',
    )
    done = submit("ray", environment, "pack", "lfw", "my photos", "out")
    start, run = done.stdout.splitlines()
    assert start == "symmetric-run --address 10.0.0.5:20007 --min-nodes 2 --num-cpus 4 --disable-usage-stats --"
    assert run == "pack|lfw|my photos|out|--address|10.0.0.5:20007|" and done.returncode == code


def test_a_ray_that_does_not_start_fails_the_job(tmp_path: Path) -> None:
    done = submit("ray", fake(tmp_path, srun="true", hostname="echo 10.0.0.5"), "pack", "lfw", "a", "b")
    assert done.returncode == 1 and "Ray did not start" in done.stderr


def test_the_lock_holds_every_extra_and_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    [everything] = re.findall(r"\[(.*)\]", extras["all"][0])
    needed = [*project["dependencies"], *(package for name in everything.split(",") for package in extras[name])]
    names = {re.match(r"[\w.-]+", package)[0].lower().replace("_", "-") for package in needed}  # type: ignore[index]
    assert names <= locked().keys()
    assert {"ray", "setuptools", "aiohttp-cors"} <= locked().keys()  # The last one comes with Ray's dashboard.
    assert len(locked()) == len(re.findall(r"^[\w.-]+==", LOCK.read_text(), re.M))
    assert "http" + "://" not in LOCK.read_text() and "file:" not in LOCK.read_text()


def test_the_container_builds_from_source_with_the_locked_setuptools(tmp_path: Path) -> None:
    [script] = re.findall(r"sed -n '.*' requirements.lock", (JOBS / "kubernetes" / "Dockerfile").read_text())
    done = subprocess.run(script, shell=True, cwd=LOCK.parent, capture_output=True, text=True)
    assert done.stdout.startswith(f"setuptools=={locked()['setuptools']}") and done.stdout.count("==") == 1
    assert done.stdout.count("--hash=sha256:") >= 1
