"""A report of two ranks whose disks differ: the main one decides, and both end with the same sentence."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launching import ROOT, environment
from report_on_disks import CASES, DONE
from tiny_runs import untrained_run

SCRIPT = Path(__file__).with_name("report_on_disks.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_two_machines(folder: Path, *command: str | Path) -> list[tuple[int, str]]:
    """Runs a command as two ranks that are each the first of a machine; returns exit codes and errors."""
    shared = environment() | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    shared |= {"ACCELERATE_USE_CPU": "true", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    shared["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    words = [sys.executable, *map(str, command)]
    started = [
        subprocess.Popen(
            words,
            env=shared | {"RANK": str(rank), "FACEGEN_CACHE": str(folder / f"disk{rank}" / "cache")},
            cwd=folder / f"disk{rank}",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=400)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, error) for process, error in zip(started, errors, strict=True)]


@pytest.fixture(scope="module")
def disks(tiny_dataset: Path, other_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two disks with the same data and run, and beside them what one of them will have."""
    folder = tmp_path_factory.mktemp("disks")
    for rank in (0, 1):
        shutil.copytree(tiny_dataset, folder / f"disk{rank}" / "data")
        untrained_run(folder / f"disk{rank}" / "run", tiny_dataset, latent_size=6)
    shutil.copytree(other_dataset, folder / "other_data")
    untrained_run(folder / "same_name", tiny_dataset, seed=1, latent_size=6)
    shutil.copytree(folder / "same_name", folder / "newer")
    (snapshot,) = (folder / "newer" / "snapshots").iterdir()
    snapshot.rename(snapshot.with_name("images_000000001280"))
    return folder


@pytest.fixture(scope="module")
def answers(disks: Path) -> list[dict[str, str]]:
    """What each rank's reports ended with."""
    for code, error in on_two_machines(disks, SCRIPT, disks):
        assert code == 0, error
    return [json.loads((disks / f"answers.{rank}.json").read_text()) for rank in (0, 1)]


def measures(disks: Path, name: str) -> dict[str, Any]:
    (run,) = json.loads((disks / "disk0" / name / "report.json").read_text())["runs"]
    return run["measures"]


def test_ranks_agree_whatever_their_disks_hold(answers: list[dict[str, str]], disks: Path) -> None:
    assert answers[0] == answers[1]
    assert answers[0].keys() == CASES.keys()
    done = [name for name, answer in answers[0].items() if answer == DONE]
    assert done == ["first", "cached_on_main", "cached_on_other", "newer_snapshot", "alexnet_on_main", "face_on_main"]
    assert not [path for path in (disks / "disk1").iterdir() if path.name in CASES]  # Only the main rank writes.


def test_caches_and_newer_snapshots_of_one_disk_change_no_number(answers: list[dict[str, str]], disks: Path) -> None:
    expected = measures(disks, "first")
    assert expected["frechet_efflite0_samples"]["value"] > 0
    for name in ("cached_on_main", "cached_on_other", "newer_snapshot"):
        assert measures(disks, name) == expected, name
    # The main rank's cache was taken away: it has computed its own again.
    assert (disks / "disk0" / "cache" / "features").is_dir()


def test_weights_of_one_disk_are_used_by_none(answers: list[dict[str, str]], disks: Path) -> None:
    reason = measures(disks, "alexnet_on_main")["lpips"]["reason"]
    assert reason.startswith("not computed: AlexNet's weights differ between machines: process 1 on ")
    absent = measures(disks, "face_on_main")["frechet_face_samples"]["reason"]
    assert absent.startswith("not computed: no weights (process 1 on ")
    assert measures(disks, "face_on_main")["frechet_efflite0_samples"]["value"] > 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fill_out", "fill_out holds other files"),
        ("damaged", "its bytes are not those that were packed"),
        ("changed_weights", "what is evaluated as run differs between machines: process 1 on "),
        ("no_run", "run/snapshots/images_000000000640 does not exist"),
        ("changed_data", "the fingerprint of data differs between machines: process 1 on "),
        ("no_data", "data holds no complete data set"),
    ],
)
def test_what_fails_on_one_disk_ends_both_with_one_sentence(
    answers: list[dict[str, str]], name: str, sentence: str
) -> None:
    assert sentence in answers[0][name]
    if name not in ("fill_out", "changed_weights", "changed_data"):
        assert answers[0][name].startswith("process 1 on ")


def test_the_command_prints_the_sentence_on_both_machines(answers: list[dict[str, str]], disks: Path) -> None:
    ended = on_two_machines(disks, "-m", "eval.report", "run", "--data", "data", "--out", "out", "--device", "cpu")
    for code, error in ended:
        assert code == 2 and error.count("error: process 1 on ") == 1 and "Traceback" not in error, error
