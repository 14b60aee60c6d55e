"""Opening any image file safely, and bringing it to the shape that shards hold: upright, RGB or gray, cropped, resized.

Whatever is wrong with a file becomes a ``BadImage`` with a short reason, which packing counts. Trouble of the machine
is tried again, then a ``UserError``. Embedded color profiles are not applied: pixels are taken as sRGB, as every
published face data set does.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from shards.base.errors import UserError
from shards.base.retrying import is_passing, persistently
from shards.images.jpeg_scans import MAX_SCANS, has_too_many_scans

MAX_PIXELS = 80_000_000
"""Largest width x height that is decoded: above every phone camera's default, and at most 240 MB of RGB."""

PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20  # Pillow refuses PNGs with a color profile above 1 MiB; printers' have 3.

# Only formats that decode in-process: Pillow would start Ghostscript for EPS. PDF and video are not photographs.
_SUFFIXES_OF_FORMAT = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
}
_FORMATS = tuple(_SUFFIXES_OF_FORMAT)
IMAGE_SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES_OF_FORMAT.values() for suffix in suffixes)

Crop = tuple[float, float, float, float]
"""Left, upper, right, lower. Right and lower are exclusive. Values up to 1 are fractions of width and height."""

ResizeFilter = Literal["lanczos", "bicubic", "area"]
_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}


class BadImage(ValueError):
    """An input that cannot be packed. ``reason`` is one of a few short phrases, for counting."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimedBytes(BytesIO):
    """The content of a file that must be decoded within some time of now: afterwards, reading it is a ``BadImage``."""

    BLOCK_BYTES = 1024
    """How much of a JPEG is decoded between two looks at the clock: at most ten or so passes over its pixels."""

    def __init__(self, data: bytes, max_sec: float) -> None:
        super().__init__(data)
        self._end = time.monotonic() + max_sec

    def read(self, size: int | None = -1) -> bytes:
        """As ``BytesIO.read``, while there is time."""
        if time.monotonic() > self._end:
            raise BadImage("takes too long to decode")
        return super().read(size)


@dataclass(frozen=True)
class Preparation:
    """What happens to an opened image.

    Attributes:
        size: Side of the square result in pixels.
        channels: 1 (gray, ITU-R 601 luma) or 3 (RGB).
        crop: Box to cut out; None cuts the largest centered square.
        resize_filter: All three widen their support to shrink an image, so none aliases. ``lanczos`` keeps the most
            detail, ``area`` averages without ringing.
    """

    size: int
    channels: int
    crop: Crop | None
    resize_filter: ResizeFilter


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Opens and decodes a file; the first frame where it has several.

    Returns:
        The decoded image, turned upright as its EXIF orientation says, in the file's own mode.

    Raises:
        BadImage: Missing, empty, not a regular file, not an image, too many pixels, truncated or damaged.
        UserError: The disk or the memory fails, several times.
    """
    return persistently(os.fspath(path), lambda: _open_image(path))


def _open_image(path: str | os.PathLike[str]) -> Image.Image:
    try:
        status = os.stat(path)
    except (FileNotFoundError, PermissionError) as error:
        raise BadImage("missing file" if isinstance(error, FileNotFoundError) else "no permission to read") from None
    except (OSError, ValueError) as error:
        if is_passing(error):
            raise
        raise BadImage("damaged image") from None
    if not stat.S_ISREG(status.st_mode):
        raise BadImage("not a regular file")
    if status.st_size == 0:
        raise BadImage("empty file")
    return decode_image(path)


def open_image_bytes(data: bytes) -> Image.Image:
    """As ``open_image``, from the content of a file."""
    if not data:
        raise BadImage("empty file")
    return persistently("an image", lambda: decode_image(BytesIO(data)))


def decode_image(
    file: str | os.PathLike[str] | BinaryIO, formats: tuple[str, ...] = _FORMATS, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes an image; the first frame where it has several.

    Args:
        file: A path, or the bytes; ``TimedBytes`` limit the time.
        formats: Formats to try, as Pillow calls them.
        max_pixels: Largest width x height that is decoded.

    Returns:
        The decoded image, turned upright as its EXIF orientation says, in the file's own mode.

    Raises:
        BadImage: Not an image of these formats, too many pixels or scans, too slow, truncated or damaged.
        OSError: The disk fails; ``shards.base.retrying.is_passing``.
        MemoryError: Too little memory.
    """
    try:
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise BadImage(f"more than {max_pixels // 1_000_000} million pixels")
            if isinstance(image, JpegImageFile):
                assert image.fp is not None
                if has_too_many_scans(image.fp):
                    raise BadImage(f"more than {MAX_SCANS} scans")
                if isinstance(file, TimedBytes):
                    image.decodermaxblock = file.BLOCK_BYTES
            image.load()
            if image.format == "PPM" and image.mode == "I":
                # Pillow scales gray of more than 8 bit to 16; without the format, the range of "I" is unknown.
                return Image.fromarray(np.asarray(image).astype(np.uint16))
            return ImageOps.exif_transpose(image)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not an image") from None
    except Image.DecompressionBombError:
        raise BadImage(f"more than {max_pixels // 1_000_000} million pixels") from None
    except PermissionError:
        raise BadImage("no permission to read") from None
    except Exception as error:  # Pillow's plugins raise nearly every built-in error on damaged files.
        if is_passing(error):
            raise
        raise BadImage("truncated image" if "truncated" in str(error).lower() else "damaged image") from None


def prepare(image: Image.Image | np.ndarray, preparation: Preparation) -> tuple[np.ndarray, bool]:
    """Converts, crops and resizes one image.

    Args:
        image: A decoded image of any mode, or uint8 (H, W, 3) or (H, W).
        preparation: Crop, size, channels and filter.

    Returns:
        uint8 (size, size, channels), and whether the image had to be enlarged to get there.

    Raises:
        BadImage: A pixel type without a defined range, or an image smaller than the crop box.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image.squeeze())
    image = to_mode(image, "L" if preparation.channels == 1 else "RGB")
    box = crop_box(image.size, preparation.crop)
    enlarged = min(box[2] - box[0], box[3] - box[1]) < preparation.size
    image = image.crop(box)
    if image.size != (preparation.size, preparation.size):
        image = image.resize((preparation.size, preparation.size), _FILTERS[preparation.resize_filter])
    return np.asarray(image).reshape(preparation.size, preparation.size, preparation.channels), enlarged


def to_mode(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """Converts any mode: transparency is laid over white, 16-bit gray is scaled to 8 bit.

    Raises:
        BadImage: 32-bit integer and float pixels, whose range no file format fixes.
    """
    if image.mode.startswith("I;16"):
        # Pillow's conversion clips at 255, which turns a 16-bit photograph white.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) / 257 + 0.5).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise BadImage(f"unsupported pixel type {image.mode}")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError:
        raise BadImage(f"unsupported pixel type {image.mode}") from None


def crop_box(size: tuple[int, int], crop: Crop | None) -> tuple[int, int, int, int]:
    """The box in whole pixels for an image of ``size`` (width, height).

    Raises:
        BadImage: The image does not contain the box.
    """
    width, height = size
    if crop is None:
        side = min(size)
        left, upper = (width - side) // 2, (height - side) // 2
        return left, upper, left + side, upper + side
    scale = (width, height, width, height) if max(crop) <= 1 else (1, 1, 1, 1)
    # Rounds halves up at both edges, which keeps the width of the box.
    left, upper, right, lower = (int(edge * factor + 0.5) for edge, factor in zip(crop, scale, strict=True))
    if right > width or lower > height or right <= left or lower <= upper:
        raise BadImage("smaller than the crop box")
    return left, upper, right, lower


def parse_crop(text: str, default: Crop | None) -> Crop | None:
    """Reads the command line's crop.

    Args:
        text: ``auto`` (the source's own), ``center`` (largest centered square) or ``left,upper,right,lower``.
        default: What ``auto`` stands for.

    Raises:
        UserError: Anything else, or a box without area.
    """
    if text in ("auto", "center"):
        return default if text == "auto" else None
    try:
        left, upper, right, lower = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"crop must be auto, center or left,upper,right,lower (such as 83,92,167,176), not '{text}'."
        ) from None
    # Negated, so that NaN is refused, too.
    if not (0 <= left < right < float("inf") and 0 <= upper < lower < float("inf")):
        raise UserError(f"crop '{text}' has no area; give left < right and upper < lower, all 0 or more.")
    if max(right, lower) > 1 and any(edge % 1 for edge in (left, upper, right, lower)):
        raise UserError(f"crop '{text}' is neither whole pixels nor fractions; give one or the other.")
    return left, upper, right, lower
