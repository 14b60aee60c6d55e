"""Augmentation: what it does to pixels, and that its draws do not depend on how the batch is split."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from facegen.options import AugmentConfig
from facegen.pixels import to_float
from facegen.randomness import SlotRandom
from facegen.training.augment import augment, jitter

ALL = AugmentConfig(flip=True, brightness=0.4, contrast=0.4, saturation=0.4)
OFF = {"flip": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def stored_images(num: int, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (num, 6, 5, channels), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def draws(num: int, start: int = 0, batch: int | None = None, step: int = 0) -> SlotRandom:
    return SlotRandom(0, step, slice(start, start + num), batch or num)


def jittered(images: Tensor, config: AugmentConfig) -> Tensor:
    return jitter(images, config, draws(len(images)))


def only(**options: Any) -> AugmentConfig:
    return AugmentConfig(**{**OFF, **options})


def test_half_of_the_images_are_mirrored_and_the_others_left_alone() -> None:
    images = stored_images(2000)
    result = augment(images, only(flip=True), draws(2000))
    is_same = (result == to_float(images)).flatten(1).all(1)
    is_mirrored = (result == to_float(images).flip(3)).flatten(1).all(1)
    assert (is_same ^ is_mirrored).all()
    assert is_mirrored.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert torch.equal(images, stored_images(2000))  # The input stays as it was.


def test_each_step_flips_other_images() -> None:
    images, config = stored_images(64), only(flip=True)
    assert not torch.equal(augment(images, config, draws(64)), augment(images, config, draws(64, step=64)))


def test_without_augmentation_images_are_only_converted() -> None:
    images = stored_images(8)
    assert torch.equal(augment(images, AugmentConfig(**OFF), draws(8)), to_float(images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_pixels_stay_in_range(channels: int, strength: float) -> None:
    config = AugmentConfig(flip=False, brightness=strength, contrast=strength, saturation=strength)
    images = stored_images(500, channels)
    result = augment(images, config, draws(500))
    assert result.shape == to_float(images).shape
    assert result.min() >= -1 and result.max() <= 1
    assert not torch.equal(result, to_float(images))


@pytest.mark.parametrize("sizes", [[12], [6, 6], [1, 4, 7]])
def test_any_split_of_the_batch_gives_the_same_images(sizes: list[int]) -> None:
    images = stored_images(12)
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    parts = [
        augment(part, ALL, draws(len(part), start, batch=12))
        for part, start in zip(images.split(sizes), starts, strict=True)  # type: ignore[arg-type]
    ]
    assert torch.equal(torch.cat(parts), augment(images, ALL, draws(12)))


def test_brightness_multiplies_the_light() -> None:
    images = torch.full((400, 3, 2, 2), -0.2)  # 0.4 of full light, so that the factor never clips.
    light = (jittered(images, only(brightness=0.5)) + 1) / 2
    factors = light[:, 0, 0, 0] / 0.4
    torch.testing.assert_close(light, (0.4 * factors)[:, None, None, None].expand_as(light))
    assert 0.5 <= factors.min() < 0.52
    assert 1.48 < factors.max() <= 1.5


def test_contrast_keeps_the_mean_luma_and_scales_around_it() -> None:
    gray = torch.tensor([-0.25, 0.25]).repeat(200, 3, 2, 1)
    result = jittered(gray, only(contrast=0.5))
    torch.testing.assert_close(result.mean((1, 2, 3)), torch.zeros(200), atol=1e-6, rtol=0)
    spread = (result[..., 1] - result[..., 0])[:, 0, 0] / 0.5
    assert spread.min() < 0.55 and spread.max() > 1.45


def test_saturation_moves_color_and_leaves_luma_and_gray_images() -> None:
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    images = to_float(stored_images(50)) * 0.2
    result = jittered(images, only(saturation=0.5))
    torch.testing.assert_close((result * luma).sum(1), (images * luma).sum(1), atol=1e-5, rtol=0)
    assert (result - images).abs().max() > 0.01
    one_channel = to_float(stored_images(50, channels=1))
    torch.testing.assert_close(jittered(one_channel, only(saturation=0.5)), one_channel, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_impossible_strengths_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"augment.{name}"):
        AugmentConfig(**{name: value})
