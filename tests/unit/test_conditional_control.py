"""Conditional control: the numbers on curves whose answer is known, and the judges."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval import control as command
from eval.degree_judge import as_judge, judge_quality, load_judge, train_judge
from eval.metrics.conditional_control import ASKED, control, judge_samples, telling
from facegen.config import TrainConfig
from facegen.trainer import Trainer
from shards.cli import UserError
from shards.dataset import Dataset

MakeConfig = Callable[..., TrainConfig]
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


@pytest.mark.parametrize("label", ["identity", "grin", "Smiling"])
def test_a_regressor_needs_a_degree(tiny_dataset: Path, label: str) -> None:
    with pytest.raises(UserError, match=f"no float label '{label}'"):
        train_judge(Dataset(tiny_dataset), label, 1, 0, torch.device("cpu"))


class MeanOfRed(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1].mean((2, 3)) / 255


def test_a_judge_from_a_file_gets_color_images_in_bytes(tmp_path: Path) -> None:
    torch.jit.script(MeanOfRed()).save(tmp_path / "judge.pt")  # type: ignore[union-attr]
    judge = load_judge(tmp_path / "judge.pt", torch.device("cpu"))
    gray = torch.full((3, 8, 8, 1), 51, dtype=torch.uint8)
    np.testing.assert_allclose(judge(gray), [0.2] * 3, rtol=1e-6)


@pytest.mark.parametrize("content", [None, b"no module"])
def test_a_file_that_is_no_judge(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "judge.pt").write_bytes(content)
    with pytest.raises(UserError, match="judge.pt cannot be loaded as a TorchScript module"):
        load_judge(tmp_path / "judge.pt", torch.device("cpu"))


# The command.


def test_the_command_writes_numbers_and_a_sweep(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config("cvae", max_steps=1)
    Trainer(config).fit()
    torch.jit.script(MeanOfRed()).save(tmp_path / "judge.pt")  # type: ignore[union-attr]
    for judge in ([], ["--judge", str(tmp_path / "judge.pt")]):
        options = ["--data", config.data, "--out", str(tmp_path / "out"), "--num_samples", "3", "--judge_epochs", "1"]
        monkeypatch.setattr(sys, "argv", ["eval.control", config.run, *options, *judge])
        command.main()
        results = json.loads((tmp_path / "out" / "control.json").read_text())
        assert results["condition"] == "smile"
        assert len(results["curve"]["mean"]) == len(ASKED)
        assert results["judge"]["kind"] == ("file" if judge else "regressor")
        assert results["told_apart"]["threshold"] == (0.5 if judge else 0.0)
        assert (tmp_path / "out" / "degree_sweep.png").stat().st_size > 1000
        assert ("held-out images" in capsys.readouterr().out) == (not judge)


def test_a_model_without_a_condition_is_refused(tiny_dataset: Path) -> None:
    config = command.ControlConfig(run="run", data=str(tiny_dataset), out="out")
    model: Any = SimpleNamespace(condition=None, family="vae")
    with pytest.raises(UserError, match="run is no conditional model"):
        command.choose_judge(model, Dataset(tiny_dataset), config, torch.device("cpu"))
