"""Images to bytes and back, in the four encodings that a shard may hold.

JPEG goes through simplejpeg (libjpeg-turbo): it decodes straight into a given array, releases the GIL while it does so,
and is about three times as fast as Pillow at 64x64. PNG and WebP go through Pillow. ``raw`` is the pixels themselves.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from shards.base.errors import UserError
from shards.dataset.manifest import ImageFormat

EXTENSIONS = ("jpg", "png", "webp", "raw")
DEFAULT_QUALITY = 95
_OPTIONS: dict[str, tuple[str, ...]] = {"jpg": ("quality",), "png": (), "webp": ("quality", "lossless"), "raw": ()}
# Pillow's plugins let all of these through on damaged files.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def check_codec(extension: str, codec_options: dict[str, Any]) -> None:
    """Checks an encoding and its options before any work.

    Raises:
        UserError: An unknown extension, an option that it does not have, or a quality outside 1..100.
    """
    if extension not in EXTENSIONS:
        raise UserError(f"images cannot be stored as '{extension}'; choose one of {', '.join(EXTENSIONS)}.")
    unknown = sorted(set(codec_options) - set(_OPTIONS[extension]))
    if unknown:
        known = ", ".join(_OPTIONS[extension]) or "none"
        raise UserError(f"{extension} has no option '{unknown[0]}'; its options: {known}.")
    quality = codec_options.get("quality", DEFAULT_QUALITY)
    if not isinstance(quality, int) or isinstance(quality, bool) or not 1 <= quality <= 100:
        raise UserError(f"{extension} quality must be a whole number from 1 to 100, not {quality}.")
    if not isinstance(codec_options.get("lossless", False), bool):
        raise UserError(f"{extension} lossless must be true or false, not {codec_options['lossless']}.")
    if codec_options.get("lossless", False) and "quality" in codec_options:
        raise UserError(f"lossless {extension} has no quality; give one of the two options.")


def encode(image: np.ndarray, extension: str, **codec_options: Any) -> bytes:
    """Encodes one image; the same pixels and library versions give the same bytes.

    Args:
        image: uint8 (H, W, C), with C 1 (grey) or 3 (RGB).
        extension: One of ``EXTENSIONS``.
        codec_options: ``quality`` (1..100, default 95) for jpg and webp; ``lossless`` for webp. Chroma is never
            subsampled in jpg: at face sizes of 64 pixels that would cost lips and eyes three quarters of their color.

    Raises:
        UserError: An unknown extension or option.
        ValueError: An array of another type or shape.
    """
    check_codec(extension, codec_options)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"an image must be uint8 (H, W, 1) or (H, W, 3), not {image.dtype} {image.shape}")
    image = np.ascontiguousarray(image)
    if extension == "raw":
        return image.tobytes()
    if extension == "jpg":
        colorspace, subsampling = ("GRAY", "Gray") if image.shape[2] == 1 else ("RGB", "444")
        return simplejpeg.encode_jpeg(image, codec_options.get("quality", DEFAULT_QUALITY), colorspace, subsampling)
    buffer = BytesIO()
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    if extension == "png":
        picture.save(buffer, "PNG")
    else:
        # Method 4 is Pillow's default, pinned so that its next release gives the same bytes.
        picture.save(buffer, "WEBP", **{"quality": DEFAULT_QUALITY, "method": 4} | codec_options)
    return buffer.getvalue()


def decode(data: bytes, image: ImageFormat, out: np.ndarray | None = None) -> np.ndarray:
    """Decodes one image.

    Args:
        data: What ``encode`` returned, or another program's file of the same kind.
        image: The shape to expect, and the extension that says how to read ``data``.
        out: C-contiguous uint8 (H, W, C) to decode into.

    Returns:
        uint8 (H, W, C); ``out`` where it was given.

    Raises:
        ValueError: Damaged bytes, or an image of another size.
    """
    shape = (image.height, image.width, image.channels)
    if out is None:
        out = np.empty(shape, np.uint8)
    if image.extension == "jpg":
        _decode_jpeg(data, out)
    elif image.extension == "raw":
        if len(data) != out.size:
            raise ValueError(f"raw image of {len(data)} bytes where {shape} needs {out.size}")
        out[...] = np.frombuffer(data, np.uint8).reshape(shape)
    elif image.extension in EXTENSIONS:
        _decode_pillow(data, image, out)
    else:
        raise UserError(f"images stored as '{image.extension}' cannot be read; known are {', '.join(EXTENSIONS)}.")
    return out


def _decode_jpeg(data: bytes, out: np.ndarray) -> None:
    colorspace = "GRAY" if out.shape[2] == 1 else "RGB"
    try:
        # A larger picture does not fit the buffer and is refused by simplejpeg; a smaller one shows in the shape.
        decoded = simplejpeg.decode_jpeg(data, colorspace, buffer=out)
    except ValueError as error:
        raise ValueError(f"damaged or wrongly sized jpg ({error})") from None
    if decoded.shape != out.shape:
        raise ValueError(f"jpg of shape {decoded.shape} where {out.shape} is expected")


def _decode_pillow(data: bytes, image: ImageFormat, out: np.ndarray) -> None:
    try:
        with Image.open(BytesIO(data), formats=[image.extension.upper()]) as picture:
            if picture.size == (image.width, image.height):
                picture = picture.convert("L" if image.channels == 1 else "RGB")
                out[...] = np.asarray(picture).reshape(out.shape)
                return
            size = picture.size
    except UnidentifiedImageError:
        raise ValueError(f"these bytes are no {image.extension}") from None
    except _PILLOW_ERRORS as error:
        raise ValueError(f"damaged {image.extension} ({error})") from None
    raise ValueError(f"{image.extension} of {size[0]}x{size[1]} pixels where {image.width}x{image.height} are expected")
