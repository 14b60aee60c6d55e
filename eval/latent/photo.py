"""The one place where a user's own image becomes a model's input: guarded, and prepared as packing does."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from shards.base.errors import UserError
from shards.images.alignment import NO_FACE, Alignment, prepare_aligned
from shards.images.reading import (
    BadImage,
    Preparation,
    ResizeFilter,
    decode_image,
    open_image,
    parse_crop,
    prepare,
    to_mode,
)

MAX_BYTES = 100_000_000
"""Largest file that is opened: an uncompressed photograph of 30 megapixels."""
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP")
"""What is taken from a network: what browsers, phones and webcams make, and no decoder beyond these."""
MAX_UPLOAD_BYTES = 20_000_000
MAX_UPLOAD_PIXELS = 50_000_000
KEPT_SIDE = 512
"""Longest side of an uploaded photo that is kept."""
_FILTERED_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes that a picture can be shrunk in; the others are converted before that."""


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
        with _without(Image.DecompressionBombWarning):
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


def read_upload(data: bytes) -> Image.Image:
    """Decodes a photo that somebody sent: turned upright, RGB, its longest side at most ``KEPT_SIDE`` pixels.

    Raises:
        UserError: Not one of ``UPLOAD_FORMATS``, damaged, or too large in bytes or pixels.
    """
    if not data:
        raise UserError("the file is empty; choose a JPEG, PNG or WebP photograph.")
    if len(data) > MAX_UPLOAD_BYTES:
        raise UserError(f"the file has more than {MAX_UPLOAD_BYTES // 1_000_000} MB; give a smaller copy.")
    try:
        with _without(Warning):
            image = decode_image(io.BytesIO(data), UPLOAD_FORMATS, MAX_UPLOAD_PIXELS)
        if image.mode not in _FILTERED_MODES:
            image = to_mode(image, "RGB")
        image.thumbnail((KEPT_SIDE, KEPT_SIDE), Image.Resampling.LANCZOS)
        return to_mode(image, "RGB")
    except BadImage as error:
        raise UserError(f"this photo cannot be used: {error.reason}; give a JPEG, PNG or WebP photograph.") from None


@contextmanager
def _without(category: type[Warning]) -> Iterator[None]:
    """Keeps Pillow quiet: of many pixels it warns below the number from which it refuses, and ours is lower still."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
