"""Conditional control: the numbers on curves with a known answer, and the judges."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval import control as command
from eval.base.runs import file_name
from eval.controls.judge import (
    as_judge,
    blurred,
    disturbed,
    judge_faces,
    judge_quality,
    judge_samples,
    load_judge,
    train_judge,
)
from eval.controls.response import ASKED, control, telling
from facegen import fit_sampler
from facegen.model import load
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from tiny_runs import untrained_run

DEGREES = np.array(ASKED)


def curve(function: Callable[[np.ndarray], np.ndarray], noise: float = 0.0, num: int = 200) -> np.ndarray:
    random = np.random.default_rng(0)
    return function(DEGREES)[:, None] + noise * random.normal(size=(len(DEGREES), num))


def test_a_perfect_model_has_slope_and_correlation_one_and_never_saturates() -> None:
    result = control(DEGREES, curve(lambda degrees: degrees))
    assert (result.slope, result.correlation) == pytest.approx((1, 1))
    assert (result.low, result.high) == (-2, 2)


def test_saturation_is_found_on_either_side() -> None:
    result = control(DEGREES, curve(lambda degrees: degrees.clip(-0.6, 1.3)))
    assert (result.low, result.high) == pytest.approx((-0.6, 1.3), abs=0.11)
    assert 0.8 < result.slope < 1  # Only degrees within [-1, 1] count.


def test_noise_lowers_the_correlation_and_not_the_slope() -> None:
    result = control(DEGREES, curve(lambda degrees: 0.5 * degrees, noise=0.4, num=20_000))
    x_std = np.std(DEGREES[np.abs(DEGREES) <= 1])
    assert result.slope == pytest.approx(0.5, abs=0.01)
    assert result.correlation == pytest.approx(0.5 * x_std / np.hypot(0.5 * x_std, 0.4), abs=0.01)


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_a_model_that_does_not_follow_has_no_range(slope: float) -> None:
    result = control(DEGREES, curve(lambda degrees: slope * degrees))
    assert result.slope == pytest.approx(slope, abs=1e-12)
    assert (result.low, result.high) == (0, 0)


def test_telling_apart() -> None:
    low, high = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0.7, 0.8, 0.9, 0.4])
    assert telling(low, high, 0.5).paired == 0.75
    assert telling(low, high, 0.5).accuracy == pytest.approx((2 + 3) / 8)


class Brightening:
    """A model whose faces have the brightness asked for, shifted by their noise."""

    condition = "light"

    def sample(self, num: int, *, seed: int, first: int, labels: dict[str, Tensor]) -> Tensor:
        shift = torch.arange(first, first + num) / 100
        return (labels["light"] * 0.5 + shift)[:, None, None, None].expand(-1, 1, 4, 4)


def brightness(images: Tensor) -> np.ndarray:
    return images.double().mean(dim=(1, 2, 3)).numpy() / 127.5 - 1


def test_all_degrees_are_measured_on_the_same_latents() -> None:
    judged = judge_samples(Brightening(), brightness, (-1.0, 0.5), num=5, seed=0, batch_size=2)
    np.testing.assert_allclose(judged, [np.arange(5) / 100 - 0.5, np.arange(5) / 100 + 0.25], atol=0.005)


def test_faces_keep_their_latents_and_get_the_degree(tiny_dataset: Path, tmp_path: Path) -> None:
    model = load(untrained_run(tmp_path / "run", tiny_dataset, "cvae"))
    latents = torch.randn(3, model.latent_size, generator=torch.Generator().manual_seed(0)).numpy()
    judged = judge_faces(model, lambda images: images.double().mean((1, 2, 3)).numpy(), (-1.0, 1.0), latents)
    for row, degree in zip(judged, (-1.0, 1.0), strict=True):
        images = model.decode(latents, {"smile": torch.full((3,), degree)})
        assert row == pytest.approx(images.astype(np.float64).mean(axis=(1, 2, 3)))
    assert not np.allclose(judged[0], judged[1])


# Judges.


def test_a_regressor_learns_the_degree_and_is_checked_on_held_out_images(tiny_dataset: Path) -> None:
    dataset = Dataset(tiny_dataset)
    state = torch.random.get_rng_state()
    network = train_judge(dataset, "background_lightness", 25, 0, torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), state)
    quality = judge_quality(as_judge(network), dataset, "test", "background_lightness")
    assert quality.num_images == dataset.num_samples("test")
    assert quality.correlation > 0.8
    assert quality.mean_absolute_error < 0.25
    assert judge_quality(as_judge(network), dataset, "test", "background_lightness", blurs=2) != quality


def test_a_regressor_learns_yes_and_no(tiny_dataset: Path) -> None:
    # Brightness as a bool, of which a fifth is unknown: the labels of real faces.
    class Labeled(Dataset):
        @property
        def fields(self) -> dict[str, LabelField]:
            return super().fields | {"bright": LabelField("bool")}

        def labels(self, name: str, split: str, rows: np.ndarray | None = None) -> np.ndarray:
            if name != "bright":
                return super().labels(name, split, rows)
            column = super().labels("background_lightness", split)
            is_bright = (column > np.median(column)).astype(np.int8)
            is_bright[::5] = -1
            return is_bright if rows is None else is_bright[rows]

    dataset = Labeled(tiny_dataset)
    judge = BrightnessOfTheCorner()
    quality = judge_quality(judge, dataset, "test", "bright")
    num_known = int((dataset.labels("bright", "test") >= 0).sum())
    assert quality.num_images == num_known < dataset.num_samples("test")
    assert quality.correlation > 0.5
    network = train_judge(dataset, "bright", 1, 0, torch.device("cpu"))
    assert np.isfinite(judge_quality(as_judge(network), dataset, "test", "bright").correlation)


class BrightnessOfTheCorner:
    def __call__(self, images: Tensor) -> np.ndarray:
        return images[:, :2, :2].double().mean((1, 2, 3)).numpy()


def test_a_judge_that_says_the_same_of_all_images_correlates_with_nothing(tiny_dataset: Path) -> None:
    quality = judge_quality(lambda images: np.zeros(len(images)), Dataset(tiny_dataset), "test", "smile")
    assert (quality.slope, quality.correlation) == (0, 0)


@pytest.mark.parametrize("label", ["identity", "grin"])
def test_a_regressor_needs_a_degree(tiny_dataset: Path, label: str) -> None:
    with pytest.raises(UserError, match=f"no degrees '{label}'"):
        train_judge(Dataset(tiny_dataset), label, 1, 0, torch.device("cpu"))


class MeanOfRed(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1].mean((2, 3)) / 255


def test_a_judge_from_a_file_gets_color_images_in_bytes(tmp_path: Path) -> None:
    torch.jit.script(MeanOfRed()).save(tmp_path / "judge.pt")  # type: ignore[union-attr]
    judge = load_judge(tmp_path / "judge.pt", torch.device("cpu"))
    gray = torch.full((3, 8, 8, 1), 51, dtype=torch.uint8)
    np.testing.assert_allclose(judge(gray), [0.2] * 3, rtol=1e-6)


def test_a_judge_is_loaded_without_a_warning_for_programmers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.jit.script(MeanOfRed()).save(tmp_path / "judge.pt")  # type: ignore[union-attr]
    load = torch.jit.load

    def newer(*args: Any, **options: Any) -> Any:
        warnings.warn("`torch.jit.load` is deprecated. Please switch to `torch.export`.", FutureWarning, stacklevel=2)
        return load(*args, **options)

    monkeypatch.setattr(torch.jit, "load", newer)
    with warnings.catch_warnings(action="error", category=FutureWarning):
        load_judge(tmp_path / "judge.pt", torch.device("cpu"))


@pytest.mark.parametrize("content", [None, b"no module"])
def test_a_file_that_is_not_a_judge(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "judge.pt").write_bytes(content)
    with pytest.raises(UserError, match="judge.pt cannot be loaded as a TorchScript module"):
        load_judge(tmp_path / "judge.pt", torch.device("cpu"))


def test_a_judge_learns_from_sharp_and_soft_faces() -> None:
    stripes = torch.tensor([-1.0, 1.0]).repeat(8).expand(1, 3, 16, 16)
    contrasts = [blurred(stripes, times).std() for times in range(4)]
    assert len({round(float(contrast), 2) for contrast in contrasts}) == 4
    torch.manual_seed(0)
    seen = [disturbed(stripes).std() for _ in range(40)]
    assert all(any(torch.isclose(contrast, other, rtol=0.05) for other in seen) for contrast in contrasts)


# The command.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("cache")
def test_a_file_as_the_judge(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "cvae")
    torch.jit.script(MeanOfRed()).save(tmp_path / "judge.pt")  # type: ignore[union-attr]
    options = ["--data", str(tiny_dataset), "--out", str(tmp_path / "out"), "--num_samples", "3"]
    options += ["--judge", str(tmp_path / "judge.pt")]
    with pytest.raises(UserError, match="the judge is worthless: .* 'smile' have a correlation of .*, below"):
        command.main([str(run), *options])
    assert not (tmp_path / "out").exists()
    command.main([str(run), *options, "--min_correlation", "-1"])
    results = json.loads((tmp_path / "out" / "control.json").read_text())
    assert results["judge"]["kind"] == "file"
    (measured,) = results["runs"]
    assert measured["condition"] == "smile"
    assert len(measured["samples"]["curve"]["mean"]) == len(ASKED)
    assert measured["samples"]["told_apart"]["threshold"] == 0.5
    assert results["judge"]["held_out"]["num_images"] == Dataset(tiny_dataset).num_samples("test")
    assert "held-out images: slope" in capsys.readouterr().out


@pytest.mark.usefixtures("cache")
def test_the_command_measures_runs_and_samplers_with_one_judge(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "cvae")
    (run / "config.yaml").touch()  # A run keeps its samplers; a bare snapshot could not.
    monkeypatch.setattr(sys, "argv", ["fit_sampler", "gaussian", str(run), "--data", str(tiny_dataset)])
    fit_sampler.main()
    options = ["--data", str(tiny_dataset), "--out", str(tmp_path / "out"), "--num_samples", "4", "--judge_epochs", "1"]
    options += ["--min_correlation", "-1"]
    command.main([str(run), f"{run}:gaussian", *options])
    results = json.loads((tmp_path / "out" / "control.json").read_text())
    prior, fitted = results["runs"]
    assert [prior["run"], fitted["run"]] == ["run", "run:gaussian"]
    assert prior["faces"] == fitted["faces"]  # A sampler changes samples only.
    assert prior["samples"]["curve"]["mean"] != fitted["samples"]["curve"]["mean"]
    assert prior["samples"]["num"] == prior["faces"]["num"] == 4
    for view in ("held_out", "held_out_soft"):
        assert results["judge"][view]["num_images"] == Dataset(tiny_dataset).num_samples("test")
    names = {f"sweep_{file_name(name)}.png" for name in ("run", "run:gaussian")}
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == names and len(names) == 2
    assert "4 faces, asked -1 to 1: slope" in capsys.readouterr().out


@pytest.mark.usefixtures("cache")
def test_runs_without_a_condition_or_with_different_ones_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    plain, smile, yaw = (
        str(untrained_run(tmp_path / name, tiny_dataset, family, **options))
        for name, family, options in (("plain", "vae", {}), ("smile", "cvae", {}), ("yaw", "cvae", {"label": "yaw"}))
    )
    options = ["--data", str(tiny_dataset), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="plain is not a conditional model"):
        command.main([smile, plain, *options])
    with pytest.raises(UserError, match="generate by smile and yaw; give runs of one label"):
        command.main([smile, yaw, *options])
    assert not (tmp_path / "out").exists()
