"""The public name of the room, and what importing it costs."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tuning
from shards.base.errors import UserError
from tuning import extra
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


@pytest.mark.parametrize("command", ["tuning.sweep", "tuning.report"])
def test_a_command_without_its_packages_is_one_sentence(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "ray" else extra)
    monkeypatch.setattr(sys, "argv", [command, "kld_asha"])
    monkeypatch.delitem(sys.modules, command, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(command, run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: sweeps need ray; install: pip install 'facegen[tuning]'\n"


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="workers_per_trial must be above 0, not 0"):
        SweepConfig("kld_asha", "data", "out", workers_per_trial=0)
    with pytest.raises(ValueError, match="leave it out with address"):
        SweepConfig("kld_asha", "data", "out", address="auto", num_cpus=2)
