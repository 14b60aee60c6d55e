"""What a discriminator sees: changes that keep a gradient, drawn for each image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facegen.losses.diff_augment import AugmentKind, diff_augment
from facegen.randomness import SlotRandom

NUM, SIDE = 64, 16


def random(num: int = NUM) -> SlotRandom:
    return SlotRandom(0, 0, slice(0, num), NUM)


def changed(images: Tensor, kind: AugmentKind, share: float = 1.0) -> Tensor:
    return diff_augment(images, [kind], random(len(images)), "test", share)


def test_translation_moves_an_image_by_up_to_an_eighth() -> None:
    images = torch.zeros(NUM, 1, SIDE, SIDE)
    images[:, :, 8, 8] = 1
    moved = changed(images, "translation")
    assert moved.sum((1, 2, 3)).eq(1).all()
    rows, columns = (
        moved[:, 0].flatten(1).argmax(1).div(SIDE, rounding_mode="floor"),
        moved[:, 0].flatten(1).argmax(1) % SIDE,
    )
    assert rows.unique().tolist() == columns.unique().tolist() == [6, 7, 8, 9, 10]
    assert not torch.equal(rows, columns)
    assert changed(torch.ones(NUM, 3, SIDE, SIDE), "translation").unique().tolist() == [0, 1]


def test_cutout_covers_a_quarter_at_most() -> None:
    covered = 1 - changed(torch.ones(NUM, 3, SIDE, SIDE), "cutout").mean((1, 2, 3))
    assert covered.max().item() == pytest.approx(0.25)
    assert covered.min() >= 1 / 16 - 1e-6  # Half of each side, centered at a corner.


def test_color_changes_brightness_saturation_and_contrast() -> None:
    images = torch.rand(NUM, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.5
    seen = changed(images, "color")
    shift = (seen - images).mean((1, 2, 3))
    assert shift.abs().max() <= 0.5 and shift.std() > 0.2
    contrast = seen.mean(1).flatten(1).std(1) / images.mean(1).flatten(1).std(1)
    assert 0.5 <= contrast.min() < 0.7 and 1.3 < contrast.max() <= 1.5
    chroma = (seen - seen.mean(1, keepdim=True)).flatten(1).std(1) / (images - images.mean(1, keepdim=True)).flatten(
        1
    ).std(1)
    assert chroma.min() < 0.3 and chroma.max() > 2


@pytest.mark.parametrize("kind", ["color", "translation", "cutout"])
def test_each_image_is_changed_by_itself_with_the_probability_asked_for(kind: AugmentKind) -> None:
    images = torch.rand(NUM, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(changed(images, kind, 0.0), images)
    assert torch.equal(changed(images, kind)[:8], changed(images[:8], kind))
    some = (changed(images, kind, 0.25) != images).flatten(1).any(1).float().mean().item()
    assert 0.05 < some < 0.5
    images.requires_grad_()
    changed(images, kind).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
