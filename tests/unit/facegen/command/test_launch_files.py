"""Launch files can be listed and copied from wherever the project is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from facegen.jobs import main
from facegen.processes.launch_files import FOLDER, accelerate_config
from shards.base.errors import UserError


def test_launch_files_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    listed = capsys.readouterr().out.split()
    assert {"slurm/train.sbatch", "accelerate/gpus.yaml", "kubernetes/jobset.yaml", "ray/cluster.yaml"} <= set(listed)
    assert all((FOLDER / name).is_file() for name in listed)


def test_a_folder_or_a_file_is_copied_and_nothing_is_overwritten(tmp_path: Path) -> None:
    main(["copy", "slurm", str(tmp_path / "new")])
    main(["copy", "accelerate/gpu.yaml", str(tmp_path / "new")])
    of_slurm = {path.name for path in (FOLDER / "slurm").iterdir()}
    assert {path.name for path in (tmp_path / "new").iterdir()} == of_slurm | {"gpu.yaml"}
    script = tmp_path / "new" / "train.sbatch"
    assert script.read_bytes() == (FOLDER / "slurm" / "train.sbatch").read_bytes()
    main(["copy", "slurm", str(tmp_path / "new")])
    script.write_text("changed")
    with pytest.raises(UserError, match="train.sbatch exists and differs"):
        main(["copy", "slurm", str(tmp_path / "new")])
    assert script.read_text() == "changed"


def test_a_wrong_name_leads_to_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'slurm'"):
        main(["copy", "slrum", str(tmp_path)])


def test_accelerate_finds_a_shipped_file_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert accelerate_config("gpu") == str(FOLDER / "accelerate" / "gpu.yaml")
    assert accelerate_config("mine.yaml") == "mine.yaml"
    (tmp_path / "gpu").write_text("")
    assert accelerate_config("gpu") == "gpu"
