"""The public name of the room, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tuning
from shards.base.errors import UserError
from tuning.sweep_config import SweepConfig


def test_importing_the_room_loads_neither_ray_nor_torch() -> None:
    code = "import sys, tuning; import tuning.sweep_config; print({'ray', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(tuning.__file__).parents[1], capture_output=True)
    assert done.stdout.decode().strip() == "set()", done.stderr


def test_the_function_has_the_name_of_the_command_and_checks_before_it_starts_ray(tmp_path: Path) -> None:
    from tuning.sweep import sweep

    assert tuning.sweep is sweep
    with pytest.raises(UserError, match="neither a file nor a space"):
        tuning.sweep("nowhere", tmp_path / "data", tmp_path / "out")
    with pytest.raises(UserError, match="no option 'num_sample'; did you mean 'num_samples'"):
        tuning.sweep("kld_asha", tmp_path / "data", tmp_path / "out", num_sample=3)
    with pytest.raises(UserError, match="keep_best must not be negative, not -1"):
        tuning.sweep("kld_asha", tmp_path / "data", tmp_path / "out", keep_best=-1)
    assert not (tmp_path / "out").exists()


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="workers_per_trial must be above 0, not 0"):
        SweepConfig("kld_asha", "data", "out", workers_per_trial=0)
    with pytest.raises(ValueError, match="leave it out with address"):
        SweepConfig("kld_asha", "data", "out", address="auto", num_cpus=2)
