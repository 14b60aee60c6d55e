"""What a sweep keeps of Ray's files, without Ray: planted ones are never restored, unknown ones refused."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from shards.base.errors import UserError
from sweeps import write_space
from tuning.driver.ray_state import RayState
from tuning.driver.sweep_folder import driving
from tuning.search.space import read_space
from tuning.trials.sweep_plan import SweepPlan

RAYS = {
    "tuner.pkl": b"tuner",
    "experiment_state-2.json": b"state",
    "searcher-state-2.pkl": b"searcher",
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPlan:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "out").mkdir()
    space = read_space(str(write_space(tmp_path / "space.yaml")), {}, {})
    return SweepPlan(space, "data", tmp_path / "out")


@pytest.fixture
def kept(plan: SweepPlan, tmp_path: Path) -> SweepPlan:
    """A sweep that was interrupted."""
    state, staging = RayState(plan), tmp_path / "staging"
    folder = plan.out / "ray" / "sweep"
    state.begin()
    for place in (folder, staging):
        place.mkdir(parents=True)
        for name, content in RAYS.items():
            (place / name).write_bytes(content)
    (staging / "tuner.pkl").unlink()  # Ray writes this one directly.
    (plan.out / "scheduler.state").write_bytes(b"rungs")
    state.keep(staging)
    return plan


class Planted:
    """Fails the test if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a planted pickle was opened",))


def test_planted_files_are_replaced_by_those_that_were_kept(kept: SweepPlan) -> None:
    folder = kept.out / "ray" / "sweep"
    (folder / "000-trial").mkdir()
    for name in ("tuner.pkl", "experiment_state-9.json", "searcher-state-9.pkl", "000-trial/error.pkl"):
        (folder / name).write_bytes(pickle.dumps(Planted()))
    (folder / "000-trial" / "error.txt").write_text("failed")
    (kept.out / "scheduler.state").write_bytes(pickle.dumps(Planted()))
    assert RayState(kept).exists() and RayState(kept).restore(trust=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == RAYS
    assert [path.name for path in (folder / "000-trial").iterdir()] == ["error.txt"]
    assert (kept.out / "scheduler.state").read_bytes() == b"rungs"


def test_files_that_this_user_did_not_keep_here_are_refused(kept: SweepPlan, tmp_path: Path) -> None:
    archive = kept.out / "ray_state.zip"
    whole = archive.read_bytes()
    shutil.copytree(kept.out, tmp_path / "elsewhere")
    moved = SweepPlan(kept.space, kept.data, tmp_path / "elsewhere")
    archive.write_bytes(whole + b"x")
    for plan in (kept, moved):
        with pytest.raises(UserError, match="ray_state.zip was not written by a sweep that you ran in this folder"):
            RayState(plan).restore(trust=False)
    assert RayState(moved).restore(trust=True)
    archive.unlink()
    os.mkfifo(archive)
    with pytest.raises(UserError, match="not a plain file"):
        RayState(kept).restore(trust=True)


def test_a_sweep_of_an_older_release_needs_trust(kept: SweepPlan) -> None:
    (kept.out / "ray_state.zip").unlink()
    assert RayState(kept).exists()
    with pytest.raises(UserError, match="ray/sweep was not written by a sweep that you ran.*pass --trust"):
        RayState(kept).restore(trust=False)
    assert RayState(kept).restore(trust=True)
    assert (kept.out / "ray" / "sweep" / "tuner.pkl").read_bytes() == RAYS["tuner.pkl"]


def test_a_kill_between_digest_and_archive_leaves_what_was_kept_before(
    kept: SweepPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(path: Path, *args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("tuning.driver.ray_state.write_bytes", killed)
        (tmp_path / "staging" / "experiment_state-2.json").write_bytes(b"newer state")
        RayState(kept).keep(tmp_path / "staging")
    assert RayState(kept).restore(trust=False)
    assert (kept.out / "ray" / "sweep" / "experiment_state-2.json").read_bytes() == b"state"


def test_a_sweep_that_was_killed_before_ray_saved_anything_begins_again(plan: SweepPlan, tmp_path: Path) -> None:
    state = RayState(plan)
    assert not state.exists()
    state.begin()
    state.keep(tmp_path / "nowhere")
    assert state.exists() and not RayState(plan).restore(trust=False)


def test_a_second_driver_of_a_folder_is_refused(plan: SweepPlan) -> None:
    with (
        driving(plan),
        pytest.raises(UserError, match="another sweep is running in .*out; wait for it, or stop it"),
        driving(plan),
    ):
        pass
    with driving(plan):  # The first one has ended.
        pass
    (plan.out / "notes.txt").touch()
    with pytest.raises(UserError, match="holds other files"), driving(plan):
        pass
