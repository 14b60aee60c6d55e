"""The report's command: trained runs in, files out, the same numbers from one and two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from eval.report import main
from eval.reports.unfinished import UNFINISHED
from shards.command_line import cli

ROOT = Path(__file__).resolve().parents[2]
COST = ("parameters", "snapshot_bytes", "encode_", "decode_")


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "FACEGEN_CACHE": str(tmp_path / "cache"),
    }


def run(tmp_path: Path, *command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def launched(num_processes: int) -> list[str]:
    settings = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    many = ["--multi_gpu"] if num_processes > 1 else []
    return ["-m", "accelerate.commands.launch", *many, "--num_processes", str(num_processes), *settings]


@pytest.fixture(scope="module")
def runs(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A VAE and an AE after a few steps."""
    root = tmp_path_factory.mktemp("runs")
    options = ["--data", tiny_dataset, "--global_batch_size", "16", "--max_steps", "12", "--model.latent_size", "6"]
    options += ["--model.network.widths", "[4,8]", "--monitor.log_every_images", "32"]
    for family in ("vae", "ae"):
        run(root, ROOT / "facegen" / "train.py", family, *options, "--run", root / family)
    return [root / "vae", root / "ae"]


def numbers(out: Path) -> list[dict[str, float | None]]:
    """What was measured of each run, without the times, which differ between calls."""
    content = json.loads((out / "report.json").read_text())
    return [
        {key: measure["value"] for key, measure in result["measures"].items() if not key.startswith(COST)}
        for result in content["runs"]
    ]


@pytest.mark.slow
def test_one_and_two_processes_write_the_same_report(runs: list[Path], tiny_dataset: Path, tmp_path: Path) -> None:
    options = [*runs, "--data", tiny_dataset, "--split", "test", "--batch_size", "5", "--fid_weights", "none"]
    printed = run(tmp_path, "-m", "eval.report", *options, "--out", tmp_path / "one")
    two = ["-m", "eval.report", *options, "--out", tmp_path / "two"]
    (tmp_path / "cache").rename(tmp_path / "earlier_cache")
    run(tmp_path, *launched(2), *two)

    assert "2 process(es)" in json.loads((tmp_path / "two" / "report.json").read_text())["protocol"]["computed on"]
    for alone, together in zip(numbers(tmp_path / "one"), numbers(tmp_path / "two"), strict=True):
        assert alone.keys() == together.keys()
        for key, value in alone.items():
            assert together[key] == (value if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)), key
    vae, ae = numbers(tmp_path / "one")
    assert vae["elbo"] is not None
    assert ae["elbo"] is None
    assert ae["frechet_efflite0_reconstructions"] is not None
    assert vae["frechet_inception_samples"] is None
    assert "FD-EffLite0" in printed
    figures = {path.name for path in (tmp_path / "one" / "figures").iterdir()}
    assert {"reconstructions.png", "training_mse.svg", "vae-samples.png", "vae-sweeps.png"} <= figures
    assert (tmp_path / "two" / "report.html").stat().st_size > 50_000


@pytest.mark.slow
def test_two_processes_that_were_killed_resume_after_the_finished_run(
    runs: list[Path], tiny_dataset: Path, tmp_path: Path
) -> None:
    options = [*runs, "--data", tiny_dataset, "--only", "reconstruction", "latent", "verification", "samples"]
    command = [*launched(2), "-m", "eval.report", *options, "--out"]
    killed = subprocess.Popen(
        [sys.executable, *map(str, [*command, tmp_path / "killed"])],
        env=environment(tmp_path),
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 200
    while not list((tmp_path / "killed" / UNFINISHED).glob("[!.]*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in [*psutil.Process(killed.pid).children(recursive=True), killed]:
        process.kill()
    killed.wait()
    assert not (tmp_path / "killed" / "report.json").exists(), "it was killed too late"

    assert "vae: reused from the interrupted report" in run(tmp_path, *command, tmp_path / "killed")
    assert "reused" not in run(tmp_path, *command, tmp_path / "whole")
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    monkeypatch.setattr(sys, "argv", ["eval.report", *map(str, arguments), "--device", "cpu"])
    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert caught.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def test_a_run_without_snapshot(tiny_dataset, tmp_path, capsys, monkeypatch):
    (tmp_path / "run").mkdir()
    options = [tmp_path / "run", "--data", tiny_dataset, "--out", tmp_path / "out"]
    assert "no complete snapshot" in fails(capsys, monkeypatch, *options)
    assert not (tmp_path / "out").exists()


def test_an_unknown_split_names_those_that_exist(tiny_dataset, tmp_path, capsys, monkeypatch):
    options = [tmp_path / "run", "--data", tiny_dataset, "--out", tmp_path / "out", "--split", "testing"]
    message = fails(capsys, monkeypatch, *options)
    assert all(split in message for split in ("train", "val", "test"))


def test_an_unknown_option_and_an_impossible_value(tiny_dataset, tmp_path, capsys, monkeypatch):
    options = [tmp_path / "run", "--data", tiny_dataset, "--out", tmp_path / "out"]
    assert "num_images" in fails(capsys, monkeypatch, *options, "--num_image", "3")
    assert "at least 1" in fails(capsys, monkeypatch, *options, "--batch_size", "0")


@pytest.mark.slow
def test_images_of_another_shape(runs, tmp_path, capsys, monkeypatch):
    from shards.pack import main as pack

    options = ["--num", "60", "--size", "24", "--workers", "1", "--split_by", "sample"]
    pack(["synthetic", str(tmp_path / "large"), *options])
    message = fails(capsys, monkeypatch, runs[0], "--data", tmp_path / "large", "--out", tmp_path / "out")
    assert "16x16x3" in message
    assert "24x24x3" in message
