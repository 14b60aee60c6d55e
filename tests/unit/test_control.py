"""Conditional control: its formulas on made-up judgments, and the command on tiny runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eval import control as command
from eval.degree_judge import judge_faces
from eval.metrics.conditional_control import ASKED, control, telling
from facegen import fit_sampler
from facegen.model import load
from shards.cli import UserError
from shards.dataset import Dataset
from tiny_runs import untrained_run

DEGREES = np.array(ASKED)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))


def test_a_line_has_its_slope_a_full_correlation_and_no_end() -> None:
    result = control(DEGREES, np.repeat(0.7 * DEGREES[:, None] + 0.1, 5, axis=1))
    assert (result.slope, result.correlation) == (pytest.approx(0.7), pytest.approx(1.0))
    assert (result.low, result.high) == (-2, 2)


def test_slope_and_correlation_are_of_the_samples_from_minus_one_to_one() -> None:
    noise = np.random.default_rng(0).standard_normal((len(DEGREES), 4000))
    measured = np.where(np.abs(DEGREES) <= 1, DEGREES, 9.0)[:, None] + 0.5 * noise
    inside = DEGREES[np.abs(DEGREES) <= 1]
    result = control(DEGREES, measured)
    assert result.slope == pytest.approx(1, abs=0.01)
    assert result.correlation == pytest.approx(np.sqrt(inside.var() / (inside.var() + 0.25)), abs=0.01)


def test_a_curve_that_saturates_has_ends() -> None:
    result = control(DEGREES, np.repeat(np.clip(DEGREES, -0.5, 1.5)[:, None], 3, axis=1))
    assert result.low == pytest.approx(-0.5, abs=0.06)
    assert result.high == pytest.approx(1.5, abs=0.06)


def test_a_model_that_does_not_listen_has_no_range() -> None:
    result = control(DEGREES, np.zeros((len(DEGREES), 3)))
    assert (result.slope, result.correlation) == (pytest.approx(0), 0)
    assert result.low == result.high == pytest.approx(0)


def test_telling_counts_pairs_and_sides() -> None:
    result = telling(np.array([-1.0, 0.5, 0.2]), np.array([1.0, 0.7, -0.3]), threshold=0.0)
    assert result.paired == pytest.approx(2 / 3)
    assert result.accuracy == pytest.approx(0.5 * (1 / 3 + 2 / 3))


def test_faces_keep_their_latents_and_get_the_degree(tiny_dataset: Path, tmp_path: Path) -> None:
    model = load(untrained_run(tmp_path / "run", tiny_dataset, "cvae"))
    latents = torch.randn(3, model.latent_size, generator=torch.Generator().manual_seed(0)).numpy()
    judged = judge_faces(model, lambda images: images.double().mean((1, 2, 3)).numpy(), (-1.0, 1.0), latents)
    for row, degree in zip(judged, (-1.0, 1.0), strict=True):
        images = model.decode(latents, {"smile": torch.full((3,), degree)})
        assert row == pytest.approx(images.astype(np.float64).mean(axis=(1, 2, 3)))
    assert not np.allclose(judged[0], judged[1])


def test_the_command_measures_runs_and_samplers_with_one_judge(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "cvae")
    (run / "config.yaml").touch()  # A run keeps its samplers; a bare snapshot could not.
    monkeypatch.setattr(sys, "argv", ["fit_sampler", "gaussian", str(run), "--data", str(tiny_dataset)])
    fit_sampler.main()
    options = ["--data", str(tiny_dataset), "--out", str(tmp_path / "out"), "--num_samples", "4", "--judge_epochs", "1"]
    command.main([str(run), f"{run}:gaussian", *options])
    results = json.loads((tmp_path / "out" / "control.json").read_text())
    prior, fitted = results["runs"]
    assert [prior["run"], fitted["run"]] == ["run", "run:gaussian"]
    assert prior["faces"] == fitted["faces"]  # A sampler changes samples only.
    assert prior["samples"]["curve"]["mean"] != fitted["samples"]["curve"]["mean"]
    assert prior["samples"]["num"] == prior["faces"]["num"] == 4
    assert results["judge"]["held_out"]["num_images"] == Dataset(tiny_dataset).num_samples("test")
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"sweep_run.png", "sweep_run_gaussian.png"}
    assert "4 faces, asked -1 to 1: slope" in capsys.readouterr().out


def test_runs_without_a_condition_or_with_different_ones_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    plain, smile, yaw = (
        str(untrained_run(tmp_path / name, tiny_dataset, family, **options))
        for name, family, options in (("plain", "vae", {}), ("smile", "cvae", {}), ("yaw", "cvae", {"label": "yaw"}))
    )
    options = ["--data", str(tiny_dataset), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="plain is no conditional model"):
        command.main([smile, plain, *options])
    with pytest.raises(UserError, match="generate by smile and yaw; give runs of one label"):
        command.main([smile, yaw, *options])
    assert not (tmp_path / "out").exists()
