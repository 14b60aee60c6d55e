"""The wheel, installed into a folder and used from an empty one, beside folders of the user's with the rooms' names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("shards", "facegen", "eval", "tuning")
PARTS = (*ROOMS, "jobs", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves files in the folder that it builds in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        path = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(path, source / name, ignore=ignore) if path.is_dir() else shutil.copy(path, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out, source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A folder whose modules end whatever imports them."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text(f"raise SystemExit('{room} of the user was imported')\n")
    return tmp_path


def command(installed: Path, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(installed / "bin" / "facegen"), *map(str, arguments)]


def environment(installed: Path) -> dict[str, str]:
    """The installed wheel comes before the checkout that the tests run on."""
    return {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def run(installed: Path, folder: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        command(installed, *arguments), cwd=folder, env=environment(installed), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_rooms_and_the_launch_files(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()}
    jobs = {path for path in (ROOT / "jobs").rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    wanted |= {f"facegen/launch_files/{path.relative_to(ROOT / 'jobs')}" for path in jobs}
    assert held == wanted


def test_commands_work_beside_folders_with_the_names_of_rooms(installed: Path, users_folder: Path) -> None:
    assert "launch/train.sbatch" in run(installed, users_folder, "jobs", "copy", "slurm", "launch").split()
    run(installed, users_folder, "pack", "synthetic", "data", "--num", 200, "--size", 16, "--workers", 2)
    assert json.loads((users_folder / "data" / "dataset.json").read_text())["image"]["width"] == 16
    where = [sys.executable, "-P", "-c", "import facegen; print(facegen.__file__)"]
    done = subprocess.run(where, cwd=users_folder, env=environment(installed), capture_output=True, text=True)
    assert Path(done.stdout.strip()) == installed / "facegen" / "__init__.py"


@pytest.fixture
def studio_address(installed: Path, users_folder: Path) -> Iterator[str]:
    """A studio of the demo's run."""
    run(installed, users_folder, "demo", "--num", 200, "--max_images", 512)
    arguments = command(installed, "studio", "demo/run", "--data", "demo/data", "--port", 0, "--open_browser", "false")
    process = subprocess.Popen(
        arguments, cwd=users_folder, env=environment(installed), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = next((match for line in process.stdout if (match := re.search(r"http://\S+/", line))), None)
    assert found is not None
    yield found[0]
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_demo_studio_processes_and_sweep_from_an_empty_folder(
    installed: Path, users_folder: Path, studio_address: str
) -> None:
    assert (users_folder / "demo" / "report" / "report.html").stat().st_size > 10_000
    with urllib.request.urlopen(studio_address) as page:
        assert b"<html" in page.read()
    train = ["train", "vae", "--data", "demo/data", "--max_steps", 2, "--global_batch_size", 16, "--run", "two"]
    assert "2 process(es)" in run(installed, users_folder, *train, "--launch", "--num_processes 2")
    sizes = ["--max_images", 64, "--evaluate_every_images", 32, "--report", "false", "--max_failures", 0]
    table = run(installed, users_folder, "sweep", "kld_report", "--data", "demo/data", "--out", "sweep", *sizes)
    assert "finished" in table and "failed" not in table
