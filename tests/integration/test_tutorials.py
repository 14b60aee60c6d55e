"""The tutorials run as notebooks, from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from documents import TUTORIALS


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.stem)
def test_a_tutorial_runs(tutorial: Path, tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    out = tmp_path / "executed.ipynb"
    (tmp_path / "folder").mkdir()
    command = [programs / "jupytext", "--quiet", "--to", "ipynb", "--set-kernel", "python3", "--execute"]
    command += ["--run-path", tmp_path / "folder", "--output", out, tutorial]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = [cell for cell in nbformat.read(out, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert any(cell.outputs for cell in cells)
