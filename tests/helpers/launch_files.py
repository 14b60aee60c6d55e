"""The facegen commands in launch files, those in their comments included."""

from __future__ import annotations

import re
import shlex

import yaml

from documents import ROOT

JOBS = ROOT / "jobs"


def facegen_commands() -> list[list[str]]:
    """Each as words, from ``facegen`` on."""
    found = []
    for script in sorted((JOBS / "slurm").glob("*.sbatch")):
        before = "facegen train" if script.stem == "train" else "facegen"
        lines = re.findall(rf"^#   sbatch .*{script.name} (.*)$", script.read_text(), re.MULTILINE)
        found += [shlex.split(f"{before} {line}") for line in lines]
    for name in ("pack", "report"):
        [container] = read_kubernetes(name)["spec"]["template"]["spec"]["containers"]
        found.append([*container["command"], *container["args"]])
    job = JOBS / "kubernetes" / "rayjob.yaml"
    lines = re.findall(r"^#   (facegen .*)$", job.read_text(), re.MULTILINE)
    found += [shlex.split(line) for line in (*lines, read_kubernetes("rayjob")["spec"]["entrypoint"])]
    return found


def read_kubernetes(name: str) -> dict:
    """A file of ``jobs/kubernetes``."""
    return yaml.safe_load((JOBS / "kubernetes" / f"{name}.yaml").read_text())
