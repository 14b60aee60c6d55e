"""The two pixel conventions, stored bytes and network floats, and the conversions between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shards.base.errors import UserError


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


def images_as_floats(images: np.ndarray | Tensor, model: str, shape: Sequence[int]) -> Tensor:
    """A user's images of either form as a model's network sees them, with the checks that their form needs.

    Args:
        images: numpy uint8, N x H x W x C in [0, 255], or torch float, N x C x H x W in [-1, 1].
        model: Name of the model, for messages.
        shape: Channels, height and width that it takes.

    Returns:
        float, N x C x H x W in [-1, 1].

    Raises:
        UserError: Images of another form or shape.
    """
    if isinstance(images, np.ndarray) and (images.dtype != np.uint8 or images.ndim != 4):
        raise UserError(
            f"numpy images must be uint8, N x H x W x C in [0, 255], not {images.dtype} of {list(images.shape)}; "
            "give floats in [-1, 1] as a torch tensor, N x C x H x W."
        )
    floats = to_float(torch.from_numpy(images)) if isinstance(images, np.ndarray) else images
    if not (isinstance(floats, Tensor) and floats.is_floating_point()):
        raise UserError("images must be a numpy array of bytes, N x H x W x C, or a torch tensor of floats in [-1, 1].")
    if tuple(floats.shape[1:]) != tuple(shape):
        wanted = "x".join(map(str, shape))
        raise UserError(f"{model} takes images of {wanted} (channels x height x width), not {list(floats.shape)}.")
    return floats
