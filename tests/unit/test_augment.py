"""Augmentation: what it does to pixels, and that a sample's share does not depend on how the batch is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from facegen.augment import AugmentConfig, augment
from facegen.randomness import SlotRandom

ALL = AugmentConfig(flip=True, brightness=0.4, contrast=0.4, saturation=0.4)
OFF = {"flip": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def images_of(num: int, channels: int = 3) -> Tensor:
    return torch.rand(num, channels, 6, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1


def apply(images: Tensor, config: AugmentConfig, start: int = 0, batch: int | None = None, step: int = 0) -> Tensor:
    slots = slice(start, start + len(images))
    return augment(images, config, SlotRandom(0, step, slots, batch or len(images)))


def only(**options: Any) -> AugmentConfig:
    return AugmentConfig(**{**OFF, **options})


def test_half_of_the_images_are_mirrored_and_the_others_left_alone() -> None:
    images = images_of(2000)
    result = apply(images, only(flip=True))
    is_same = (result == images).flatten(1).all(1)
    is_mirrored = (result == images.flip(3)).flatten(1).all(1)
    assert (is_same ^ is_mirrored).all()
    assert is_mirrored.float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_every_step_flips_others() -> None:
    images = images_of(64)
    assert not torch.equal(apply(images, only(flip=True)), apply(images, only(flip=True), step=64))


def test_everything_off_is_the_identity() -> None:
    images = images_of(8)
    assert torch.equal(apply(images, AugmentConfig(**OFF)), images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_range_is_kept(channels: int, strength: float) -> None:
    config = AugmentConfig(brightness=strength, contrast=strength, saturation=strength)
    images = images_of(500, channels)
    result = apply(images, config)
    assert result.shape == images.shape
    assert result.min() >= -1 and result.max() <= 1
    assert not torch.equal(result, images)


@pytest.mark.parametrize("sizes", [[12], [6, 6], [1, 4, 7]])
def test_any_cut_gives_the_same(sizes: list[int]) -> None:
    images = images_of(12)
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    parts = [
        apply(part, ALL, start, batch=12)
        for part, start in zip(images.split(sizes), starts, strict=True)  # type: ignore[arg-type]
    ]
    assert torch.equal(torch.cat(parts), apply(images, ALL))


def test_brightness_multiplies_the_light() -> None:
    images = torch.full((400, 3, 2, 2), -0.2)  # 0.4 of full light, so that the factor never clips.
    light = (apply(images, only(brightness=0.5)) + 1) / 2
    factors = light[:, 0, 0, 0] / 0.4
    torch.testing.assert_close(light, (0.4 * factors)[:, None, None, None].expand_as(light))
    assert 0.5 <= factors.min() < 0.52
    assert 1.48 < factors.max() <= 1.5


def test_contrast_keeps_the_mean_luma_and_scales_around_it() -> None:
    gray = torch.tensor([-0.25, 0.25]).repeat(200, 3, 2, 1)
    result = apply(gray, only(contrast=0.5))
    torch.testing.assert_close(result.mean((1, 2, 3)), torch.zeros(200), atol=1e-6, rtol=0)
    spread = (result[..., 1] - result[..., 0])[:, 0, 0] / 0.5
    assert spread.min() < 0.55 and spread.max() > 1.45


def test_saturation_moves_color_and_leaves_luma_and_gray_images() -> None:
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    images = images_of(50) * 0.2
    result = apply(images, only(saturation=0.5))
    torch.testing.assert_close((result * luma).sum(1), (images * luma).sum(1), atol=1e-5, rtol=0)
    assert (result - images).abs().max() > 0.01
    one_channel = images_of(50, channels=1)
    torch.testing.assert_close(apply(one_channel, only(saturation=0.5)), one_channel, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_impossible_strengths(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"augment.{name}"):
        AugmentConfig(**{name: value})
