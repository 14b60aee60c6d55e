"""Stored bytes and network floats, there and back, and the layout of grids."""

from __future__ import annotations

import pytest
import torch

from facegen.pixels import grid, to_float, to_uint8


def test_every_byte_survives_the_round_trip() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(2, -1, -1, 3)
    assert torch.equal(to_uint8(to_float(images)), images)


def test_ends_of_the_range() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1)
    assert to_float(images).flatten().tolist() == [-1.0, 1.0]


def test_floats_are_rounded_and_clamped_never_truncated() -> None:
    one_step = 1 / 127.5
    values = torch.tensor([-9.0, -1 + 0.6 * one_step, -1 + 1.4 * one_step, 1 - 0.4 * one_step, 9.0])
    assert to_uint8(values.reshape(1, 1, 1, 5)).flatten().tolist() == [0, 1, 1, 255, 255]


def test_axes_and_memory_order() -> None:
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    floats = to_float(images)
    assert floats.shape == (2, 3, 4, 5)
    assert floats.dtype == torch.float32
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert floats[1, 2, 3, 4].item() == pytest.approx(images[1, 3, 4, 2].item() / 127.5 - 1, abs=1e-6)
    assert to_uint8(floats).is_contiguous()


def test_the_stored_bytes_are_not_changed() -> None:
    images = torch.full((1, 2, 2, 3), 7, dtype=torch.uint8)
    to_float(images)
    assert (images == 7).all()


def test_grid_layout() -> None:
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 3, 3)
    picture = grid(images, num_columns=2, padding=1)
    assert picture.shape == (3 * (2 + 1) + 1, 2 * (3 + 1) + 1, 3)
    assert (picture[1:3, 1:4] == 0).all()
    assert (picture[1:3, 5:8] == 1).all()
    assert (picture[7:9, 1:4] == 4).all()
    assert (picture[7:9, 5:8] == 255).all()  # No fifth image there.
    assert (picture[0] == 255).all() and (picture[:, 4] == 255).all()
