"""The two pixel conventions, stored bytes and network floats, and the conversions between them."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Turns stored images into network input.

    Args:
        images: uint8, N x H x W x C, in [0, 255].

    Returns:
        float32, N x C x H x W, in [-1, 1], in channels-last memory order.
    """
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Turns network output into images to store or show; rounds and clamps.

    Args:
        images: float, N x C x H x W, nominally in [-1, 1].

    Returns:
        uint8, N x H x W x C, in [0, 255].
    """
    scaled = images.detach().float().add(1.0).mul(127.5).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def grid(images: Tensor, num_columns: int, padding: int = 2) -> Tensor:
    """Lays out images in rows on white.

    Args:
        images: uint8, N x H x W x C.
        num_columns: Images in a row; the last row may be shorter.
        padding: White pixels around every image.

    Returns:
        uint8, height x width x C.
    """
    num_images, height, width, channels = images.shape
    num_rows = -(-num_images // num_columns)
    canvas = images.new_full(
        (num_rows * (height + padding) + padding, num_columns * (width + padding) + padding, channels), 255
    )
    for position, image in enumerate(images):
        top = padding + (position // num_columns) * (height + padding)
        left = padding + (position % num_columns) * (width + padding)
        canvas[top : top + height, left : left + width] = image
    return canvas
