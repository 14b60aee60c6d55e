"""The one place where a user's own image becomes a model's input: checked, then prepared as packing does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from shards.base.errors import Note, UserError
from shards.images.alignment import FACELESS, Alignment, prepare_aligned
from shards.images.reading import (
    BadImage,
    Preparation,
    ResizeFilter,
    TimedBytes,
    decode_image,
    open_image,
    parse_crop,
    prepare,
    to_mode,
)

MAX_BYTES = 100_000_000
"""Largest file that is opened; holds an uncompressed photograph of 30 megapixels."""
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP")
"""Formats accepted from a network: what browsers, phones and webcams produce, and no other decoder."""
MAX_UPLOAD_BYTES = 20_000_000
MAX_UPLOAD_PIXELS = 50_000_000
MAX_UPLOAD_SEC = 10.0
"""Time to decode an upload: others wait for it."""
KEPT_SIDE = 512
"""Uploaded photos are shrunk until their longest side has at most this many pixels."""
_FILTERED_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes in which a picture can be shrunk; others are converted first."""


def load_photo(
    path: str | os.PathLike[str],
    image_shape: Sequence[int],
    crop: str = "center",
    resize_filter: ResizeFilter = "lanczos",
    alignment: Alignment | None = None,
) -> np.ndarray:
    """Reads an image file as a model's input: upright, cropped, resized, and RGB or gray like the model's images.

    Args:
        path: The file.
        image_shape: Channels, height, width of the model's images.
        crop: ``center`` for the largest centered square, or ``left,upper,right,lower`` in pixels of the upright image
            or as fractions of it.
        resize_filter: The one that the model's data set was packed with.
        alignment: Find and align the face, as ``shards.pack --align`` does, instead of cropping.

    Returns:
        uint8 (H, W, C).

    Raises:
        UserError: The file is not an image, is damaged or too large, or lacks the crop box or a face.
    """
    channels, height, width = image_shape
    if height != width:
        raise UserError(f"photos need a model of square images, and this one's are {height}x{width}; pack them.")
    preparation = Preparation(height, channels, parse_crop(crop, None), resize_filter)
    file = Path(path)
    if file.is_file() and file.stat().st_size > MAX_BYTES:
        raise UserError(f"photo {path} is larger than {MAX_BYTES // 1_000_000} MB; give a smaller copy.")
    try:
        with _without(Image.DecompressionBombWarning):
            image = open_image(file)
    except BadImage as error:
        raise UserError(f"photo {path} cannot be used: {error.reason}; give a JPEG, PNG or other photograph.") from None
    try:
        if alignment is not None:
            pixels, _, has_face = prepare_aligned(image, preparation, alignment)
            if not has_face:
                warnings.warn(f"no upright face was found in photo {path}; it is only cropped.", Note, stacklevel=2)
            return pixels
        return prepare(image, preparation)[0]
    except BadImage as error:
        advice = "save it with 8 bits a channel"
        if error.reason in FACELESS:
            advice = "give another one, upright, or --crop instead of --align"
        elif "crop" in error.reason:
            advice = f"it has {image.width}x{image.height} pixels, give another --crop"
        raise UserError(f"photo {path} cannot be used: {error.reason}; {advice}.") from None


def read_upload(data: bytes) -> Image.Image:
    """Decodes an uploaded photo: turned upright, RGB, its longest side at most ``KEPT_SIDE`` pixels.

    Raises:
        UserError: Not one of ``UPLOAD_FORMATS``, damaged, too slow, or too large in bytes or pixels.
    """
    if not data:
        raise UserError("the file is empty; choose a JPEG, PNG or WebP photograph.")
    if len(data) > MAX_UPLOAD_BYTES:
        raise UserError(f"the file is larger than {MAX_UPLOAD_BYTES // 1_000_000} MB; give a smaller copy.")
    try:
        with _without(Warning):
            image = decode_image(TimedBytes(data, MAX_UPLOAD_SEC), UPLOAD_FORMATS, MAX_UPLOAD_PIXELS)
        if image.mode not in _FILTERED_MODES:
            image = to_mode(image, "RGB")
        image.thumbnail((KEPT_SIDE, KEPT_SIDE), Image.Resampling.LANCZOS)
        return to_mode(image, "RGB")
    except MemoryError:
        raise UserError("this photo takes more memory than there is; give a smaller copy.") from None
    except BadImage as error:
        raise UserError(f"this photo cannot be used: {error.reason}; give a JPEG, PNG or WebP photograph.") from None


@contextmanager
def _without(category: type[Warning]) -> Iterator[None]:
    """Silences Pillow's warning about many pixels: its limit, and ours below it, are errors anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
