"""Packing, training, resuming and reporting as on Windows and macOS: the same bytes as here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRETENDED = ROOT / "tests" / "helpers" / "pretended_system"
PROGRAM = """
import hashlib, importlib, json, pkgutil, sys, warnings
from pathlib import Path

def main():
    import eval, facegen, shards, tuning

    warnings.filterwarnings("error", category=EncodingWarning, module=r"(shards|facegen|eval|tuning)\\b")
    shards.pack("synthetic", "data", num=200, size=16, workers=2)
    model = dict(latent_size=8, network=dict(widths=[8, 16]))
    options = dict(data="data", run="run", global_batch_size=16, model=model, checkpoint=dict(every_images=32))
    facegen.train("vae", max_images=64, **options)
    trained = facegen.train("vae", max_images=128, **options)
    assert trained.images_seen == 128
    eval.report(["run"], data="data", split="test", out="report", only=["reconstruction", "latent"])
    files = sorted(Path("data").iterdir()) + sorted(Path("run").glob("snapshots/*/*.safetensors"))
    found = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    names = [
        module.name
        for room in (shards, facegen, eval, tuning)
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
        if not module.name.endswith("__main__")
    ]
    for name in names:
        importlib.import_module(name)
    system = importlib.import_module("shards.base.operating_system")
    print(json.dumps([found, len(names), system.fcntl is None, system.sys.platform]))

if __name__ == "__main__":
    main()
"""


def outcome(folder: Path, system: str) -> tuple[dict[str, str], int, bool, str]:
    """Checksums of what the program leaves, how many modules it imported, and what they took the system for."""
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    paths = ([str(PRETENDED)] if system else []) + [str(ROOT)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PRETENDED_SYSTEM": system,
        "FACEGEN_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-X", "warn_default_encoding", "program.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "report" / "report.html").stat().st_size > 10_000
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return outcome(tmp_path_factory.mktemp("here") / "work", "")


@pytest.mark.parametrize(("system", "seen"), [("Windows", [True, "win32"]), ("Darwin", [False, "darwin"])])
def test_other_systems_leave_the_same_bytes(here: Any, tmp_path: Path, system: str, seen: list[Any]) -> None:
    checksums, num_modules, *real = here
    assert len(checksums) > 5 and num_modules > 300 and real == [False, "linux"]
    assert outcome(tmp_path / "work", system) == (checksums, num_modules, *seen)
