"""A package with plug-ins, installed: its family is trained, resumed, reported and swept as the project's own are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "plugin"
FAMILY_TESTS = (
    "tests/unit/facegen/families/test_families.py",
    "tests/unit/facegen/runs/test_run_resuming.py",
    "tests/integration/processes/test_families_on_ranks.py",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of processes that find the package."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("target")
    shutil.copytree(PACKAGE, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options], check=True)
    return {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}


def facegen(environment: dict[str, str], *words: object) -> str:
    command = [sys.executable, "-m", "facegen", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_plugins_of_every_kind_are_used(installed: dict[str, str], tmp_path: Path) -> None:
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "report"
    facegen(installed, "pack", "squares", data, "--num", 60, "--size", 16, "--workers", 1)
    train = ["train", "sharp_vae", "--data", data, "--run", run, "--global_batch_size", 16, "--model.edge_weight", 0.2]
    train += ["--model.latent_size", 4, "--model.network.widths", "[4,8]", "--monitor.log_every_images", 16]
    train += ["--monitor.trackers", "[lines]"]
    facegen(installed, *train, "--max_steps", 2)
    facegen(installed, *train, "--max_steps", 4)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line["images_seen"] for line in metrics if "train/edges" in line]
    assert trained == [16, 32, 48, 64]
    lines = [json.loads(line) for line in (run / "lines.jsonl").read_text().splitlines()]
    assert lines[0]["family"] == "sharp_vae"
    assert [line["step"] for line in lines if "train/edges" in line] == trained
    facegen(installed, "fit_sampler", "center", run, "--data", data, "--device", "cpu")
    parts = ["--only", "[parameters,reconstruction]", "--baselines", "[]", "--device", "cpu"]
    facegen(installed, "report", f"{run}:center", "--data", data, "--out", out, *parts)
    [reported] = json.loads((out / "report.json").read_text())["runs"]
    assert reported["family"] == "sharp_vae" and reported["name"] == "run:center"
    assert reported["measures"]["num_parameters"]["value"] > 100
    assert reported["measures"]["mse"]["value"] > 0


def test_the_family_is_that_of_the_documentation() -> None:
    family = (PACKAGE / "sharp_faces.py").read_text()
    assert f"```python\n{family}```" in (ROOT / "docs" / "extending.md").read_text()
    assert f"'''{family}'''" in (ROOT / "docs" / "tutorials" / "new_family.py").read_text()
    assert 'sharp_vae = "sharp_faces:FAMILY"' in (PACKAGE / "pyproject.toml").read_text()


@pytest.mark.slow
def test_the_tests_of_every_family_pass(installed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-k", "sharp_vae", *FAMILY_TESTS]
    done = subprocess.run(command, cwd=ROOT, env=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None and int(found[1]) >= 12


@pytest.mark.slow
def test_a_sweep_of_its_options(installed: dict[str, str], tiny_dataset: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    options = "{global_batch_size: 16, model.latent_size: 4, model.network.widths: [4, 8]}"
    space.write_text(
        f"family: sharp_vae\noptions: {options}\nsearch:\n  model.edge_weight: {{grid: [0.0, 0.5]}}\n"
        "max_images: 64\nevaluate_every_images: 32\nobjective: {weights: {mse: 1}}\n"
    )
    table = facegen(
        *(installed, "sweep", space, "--data", tiny_dataset, "--out", tmp_path / "sweep"),
        *("--report", "false", "--max_failures", 0),
    )
    assert table.count("finished") >= 2 and "failed" not in table
