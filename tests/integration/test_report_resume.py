"""An interrupted report: a rerun resumes behind the finished runs, and writes the same report."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.report import main, report
from eval.reports import make
from eval.reports.unfinished import UNFINISHED, finished_file
from facegen.model import load
from facegen.samplers import SAMPLERS
from facegen.samplers.base import Latents
from facegen.samplers.gaussian import GaussianConfig
from failing_disk import fail_at_every_change
from shards.base.errors import UserError
from shards.pack import main as pack
from tiny_runs import untrained_run

MEASURED_TIMES = ("encode_rate", "encode_latency_ms", "decode_rate", "decode_latency_ms")

PARTS = ("reconstruction", "likelihood", "latent", "verification", "curves", "samples", "degrees", "sweeps")
"""Quick parts, and all parts that compare runs."""

Command = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few people with many images each, so that pairs can be drawn from them."""
    root = tmp_path_factory.mktemp("data") / "people"
    options = ["--num", "90", "--num_identities", "30", "--size", "16", "--workers", "1"]
    pack(["synthetic", str(root), *options, "--val_fraction", "0.1", "--test_fraction", "0.5"])
    return root


@pytest.fixture
def runs(dataset: Path, tmp_path: Path) -> list[Path]:
    return [untrained_run(tmp_path / name, dataset, name) for name in ("vae", "ae", "cvae")]


@pytest.fixture
def command(runs: list[Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Makes a report of the runs below ``tmp_path``, and returns what ``report.json`` says, without times."""
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))

    def make_report(out: str, *options: str) -> dict[str, Any]:
        words = [*map(str, runs), "--data", str(dataset), "--out", str(tmp_path / out), "--device", "cpu"]
        words += ["--only", *(options or PARTS)]
        monkeypatch.setattr(sys, "argv", ["eval.report", *words])
        main()
        return without_times(json.loads((tmp_path / out / "report.json").read_text()))

    return make_report


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    del content["created"]
    for stage in content["stages"]:
        del stage["seconds"], stage["peak_rss_mib"]
    for run in content["runs"]:
        for name in MEASURED_TIMES:
            run["measures"].pop(name)
    return content


def die_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the next report just before it evaluates this run."""
    evaluate_run = make.evaluate_run

    def evaluate(evaluation: Any, label: str, *rest: Any) -> Any:
        if label == name:
            monkeypatch.setattr(make, "evaluate_run", evaluate_run)
            raise KeyboardInterrupt
        return evaluate_run(evaluation, label, *rest)

    monkeypatch.setattr(make, "evaluate_run", evaluate)


def interrupt(command: Command, name: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    die_before(name, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        command("out", *options)


def figures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "figures").iterdir()}


def test_a_report_interrupted_twice_equals_an_uninterrupted_one(command, tmp_path, monkeypatch, capsys):
    interrupt(command, "ae", monkeypatch)
    interrupt(command, "cvae", monkeypatch)
    assert not (tmp_path / "out" / "report.json").exists()
    capsys.readouterr()
    resumed = command("out")
    printed = capsys.readouterr().out
    assert "vae: reused from the interrupted report" in printed
    assert "ae: reused from the interrupted report" in printed
    assert "cvae: reused" not in printed

    whole = command("whole")
    assert "reused" not in capsys.readouterr().out
    assert resumed == whole
    assert [table["title"] for table in whole["tables"]] == ["Verification"]
    assert {row[0] for row in whole["tables"][0]["rows"]} >= {"vae", "ae", "cvae"}
    assert figures(tmp_path / "out") == figures(tmp_path / "whole")
    assert "verification_roc.svg" in figures(tmp_path / "out")
    assert not (tmp_path / "out" / UNFINISHED).exists()


def test_a_complete_report_is_made_again(command, capsys):
    command("out", "latent")
    capsys.readouterr()
    command("out", "latent")
    assert "reused" not in capsys.readouterr().out


def test_runs_with_damaged_files_are_evaluated_again(command, tmp_path, monkeypatch, capsys):
    interrupt(command, "cvae", monkeypatch, "latent", "samples")
    cut, changed = (tmp_path / "out" / UNFINISHED).iterdir()
    cut.write_bytes(cut.read_bytes()[:-100])
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    capsys.readouterr()
    resumed = command("out", "latent", "samples")
    assert "reused" not in capsys.readouterr().out
    assert resumed == command("whole", "latent", "samples")


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_a_disk_that_fails_at_each_write(runs: list[Path], dataset: Path, tmp_path: Path, step: int) -> None:
    def command(folder: Path) -> None:
        report(runs[:2], dataset, folder / "out", device="cpu", only=["latent", "samples"])

    def result(folder: Path) -> Any:
        content = json.loads((folder / "out" / "report.json").read_text())
        return without_times(content), figures(folder / "out"), sorted(path.name for path in (folder / "out").iterdir())

    faults = (errno.ENOSPC, errno.EIO, errno.EROFS)
    failed = fail_at_every_change(tmp_path / "reports", faults, command, result, (UserError,), step)
    assert len(failed) * step > 20


@pytest.mark.parametrize("options", [["latent", "samples"], ["latent", "--seed", "1"]])
def test_another_request_reuses_nothing(command, monkeypatch, capsys, options):
    interrupt(command, "cvae", monkeypatch, "latent")
    capsys.readouterr()
    command("out", *options)
    assert "reused" not in capsys.readouterr().out


def test_other_weights_are_not_reused(command, dataset, tmp_path, monkeypatch, capsys):
    interrupt(command, "cvae", monkeypatch, "latent")
    untrained_run(tmp_path / "ae", dataset, "ae", seed=1)
    capsys.readouterr()
    command("out", "latent")
    reused = [line for line in capsys.readouterr().out.splitlines() if "reused" in line]
    assert reused == ["vae: reused from the interrupted report"]


def test_a_sampler_that_was_fitted_again_is_not_reused(runs, tmp_path):
    model = load(runs[0])
    assert model.latent_size
    files = [finished_file(tmp_path, {}, "vae", model, "vae")]
    for scale in (1.0, 2.0):
        sampler = SAMPLERS["gaussian"].sampler_class(GaussianConfig(), model.latent_size)
        mu = scale * torch.randn(99, model.latent_size)
        sampler.fit(Latents(mu, None, mu, None), seed=0)
        model.use_sampler("gaussian", sampler)
        files.append(finished_file(tmp_path, {}, "vae", model, "vae"))
    assert len(set(files)) == 3
