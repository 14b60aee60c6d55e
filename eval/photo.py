"""The one way in which a user's own image file becomes a model's input: guarded, and prepared as packing does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shards.alignment import NO_FACE, Alignment, prepare_aligned
from shards.cli import UserError
from shards.images import BadImage, Preparation, ResizeFilter, open_image, parse_crop, prepare

MAX_BYTES = 100_000_000
"""Largest file that is opened: an uncompressed photograph of 30 megapixels."""


def load_photo(
    path: str | os.PathLike[str],
    image_shape: Sequence[int],
    crop: str = "center",
    resize_filter: ResizeFilter = "lanczos",
    alignment: Alignment | None = None,
) -> np.ndarray:
    """Reads an image file as a model's input: turned upright, cropped, resized, RGB or gray as the model has it.

    Args:
        path: The file.
        image_shape: Channels, height, width of the model's images.
        crop: ``center`` for the largest centered square, or ``left,upper,right,lower`` in pixels of the upright image
            or as fractions of it.
        resize_filter: As the model's data set was packed with.
        alignment: Find the face and bring it to its place, as ``shards.pack --align`` does, instead of cropping.

    Returns:
        uint8 (H, W, C).

    Raises:
        UserError: A file that is no image, or is damaged or too large, or that does not contain the crop box or a face.
    """
    channels, height, width = image_shape
    if height != width:
        raise UserError(f"photos are prepared for square models and this one's images are {height}x{width}; pack them.")
    preparation = Preparation(height, channels, parse_crop(crop, None), resize_filter)
    file = Path(path)
    if file.is_file() and file.stat().st_size > MAX_BYTES:
        raise UserError(f"photo {path} has more than {MAX_BYTES // 1_000_000} MB; give a smaller copy.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of many pixels below the number from which it refuses; ours is lower still.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = open_image(file)
    except BadImage as error:
        raise UserError(f"photo {path} cannot be used: {error.reason}; give a JPEG, PNG or other photograph.") from None
    try:
        if alignment is not None:
            return prepare_aligned(image, preparation, alignment)[0]
        return prepare(image, preparation)[0]
    except BadImage as error:
        advice = "save it with 8 bits a channel"
        if error.reason == NO_FACE:
            advice = "give another one, or --crop instead of --align"
        elif "crop" in error.reason:
            advice = f"it has {image.width}x{image.height} pixels, give another --crop"
        raise UserError(f"photo {path} cannot be used: {error.reason}; {advice}.") from None
