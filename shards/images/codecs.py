"""The codecs of shards: images to bytes and back. To add one, add its entry to ``CODECS``.

JPEG goes through simplejpeg (libjpeg-turbo): it decodes straight into a given array, releases the GIL while it does so,
and is about three times as fast as Pillow at 64x64. PNG and WebP go through Pillow. ``raw`` is the pixels themselves.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from shards.base.errors import UserError
from shards.dataset.manifest import ImageFormat

DEFAULT_QUALITY = 95
# Pillow's plugins let all of these through on damaged files.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Option:
    """One setting of a codec.

    Attributes:
        expected: What a value must be, for messages.
        accepts: Whether a value is that.
        default: What a packing sets and writes down where the user says nothing; None sets nothing.
    """

    expected: str
    accepts: Callable[[Any], bool]
    default: Any = None


@dataclass(frozen=True)
class Codec:
    """One way to store images in shards.

    Attributes:
        name: Extension of the images in shards.
        encode: From uint8 (H, W, C), C-contiguous with C 1 or 3, and options to bytes. The same pixels, options and
            library versions give the same bytes.
        decode: Decodes bytes into uint8 (H, W, C), C-contiguous; a ``ValueError`` names the codec where the bytes are
            damaged or the image has another size.
        options: Settings by name.
        pil_format: What Pillow calls the format, for the headers of other programs' shards; None where other programs
            do not write it.
        aliases: Further extensions of the same format in other programs' shards.
        packages: Distributions that the bytes depend on, beside Pillow and numpy.
    """

    name: str
    encode: Callable[..., bytes]
    decode: Callable[[bytes, np.ndarray], None]
    options: Mapping[str, Option] = field(default_factory=dict)
    pil_format: str | None = None
    aliases: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def extensions(self) -> tuple[str, ...]:
        """All extensions of the format."""
        return (self.name, *self.aliases)

    def settings(self, **given: Any) -> dict[str, Any]:
        """The settings of a packing: those that are given and not None, and the defaults of the others.

        Raises:
            UserError: An option that the codec does not have, or a value out of range.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        self.check(chosen)
        return {name: option.default for name, option in self.options.items() if option.default is not None} | chosen

    def check(self, options: Mapping[str, Any]) -> None:
        """Checks options.

        Raises:
            UserError: One that the codec does not have, or a value out of range.
        """
        for name, value in options.items():
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise UserError(f"{self.name} has no option '{name}'; its options: {known}.")
            if not self.options[name].accepts(value):
                raise UserError(f"{self.name} {name} must be {self.options[name].expected}, not {value}.")


def find_codec(extension: str) -> Codec:
    """The codec of an extension.

    Raises:
        UserError: There is none; the sentence names those that there are.
    """
    if extension not in CODECS:
        raise UserError(f"this facegen has no image codec '{extension}'; it has {', '.join(CODECS)}.")
    return CODECS[extension]


def encode(image: np.ndarray, extension: str, **options: Any) -> bytes:
    """Encodes one image; the same pixels and library versions give the same bytes.

    Args:
        image: uint8 (H, W, C), with C 1 (gray) or 3 (RGB).
        extension: Name of a codec.
        options: Those of the codec: ``quality`` (1..100, default 95) for jpg and webp; ``lossless`` for webp.

    Raises:
        UserError: An unknown codec or option, or a value out of range.
        ValueError: An array of another type or shape.
    """
    codec = find_codec(extension)
    codec.check(options)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"an image must be uint8 (H, W, 1) or (H, W, 3), not {image.dtype} {image.shape}")
    return codec.encode(np.ascontiguousarray(image), **options)


def decode(data: bytes, image: ImageFormat, out: np.ndarray | None = None) -> np.ndarray:
    """Decodes one image.

    Args:
        data: What ``encode`` returned, or another program's file of the same format.
        image: The shape to expect, and the codec's extension.
        out: C-contiguous uint8 (H, W, C) to decode into.

    Returns:
        uint8 (H, W, C); ``out`` where it was given.

    Raises:
        UserError: An unknown codec.
        ValueError: Damaged bytes, or an image of another size.
    """
    if out is None:
        out = np.empty((image.height, image.width, image.channels), np.uint8)
    find_codec(image.extension).decode(data, out)
    return out


def _encode_jpeg(image: np.ndarray, quality: int = DEFAULT_QUALITY) -> bytes:
    # Chroma subsampling would cost lips and eyes three quarters of their color at face sizes of 64 pixels.
    colorspace, subsampling = ("GRAY", "Gray") if image.shape[2] == 1 else ("RGB", "444")
    return simplejpeg.encode_jpeg(image, quality, colorspace, subsampling)


def _decode_jpeg(data: bytes, out: np.ndarray) -> None:
    colorspace = "GRAY" if out.shape[2] == 1 else "RGB"
    try:
        # simplejpeg refuses a picture that does not fit the buffer; a smaller one shows in the shape.
        decoded = simplejpeg.decode_jpeg(data, colorspace, buffer=out)
    except ValueError as error:
        raise ValueError(f"damaged or wrongly sized jpg ({error})") from None
    if decoded.shape != out.shape:
        raise ValueError(f"jpg of shape {decoded.shape} where {out.shape} is expected")


def _encode_webp(image: np.ndarray, **options: Any) -> bytes:
    if options.get("lossless") and "quality" in options:
        raise UserError("lossless webp has no quality; give one of the two options.")
    # Method 4 is Pillow's default, pinned so that its next release gives the same bytes.
    return _encode_pillow(image, pil_format="WEBP", **{"quality": DEFAULT_QUALITY, "method": 4} | options)


def _decode_raw(data: bytes, out: np.ndarray) -> None:
    if len(data) != out.size:
        raise ValueError(f"raw image of {len(data)} bytes where {out.shape} needs {out.size}")
    out[...] = np.frombuffer(data, np.uint8).reshape(out.shape)


def _encode_pillow(image: np.ndarray, *, pil_format: str, **settings: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, pil_format, **settings)
    return buffer.getvalue()


def _decode_pillow(data: bytes, out: np.ndarray, *, pil_format: str) -> None:
    name = pil_format.lower()
    height, width, channels = out.shape
    try:
        with Image.open(BytesIO(data), formats=[pil_format]) as picture:
            if picture.size == (width, height):
                picture = picture.convert("L" if channels == 1 else "RGB")
                out[...] = np.asarray(picture).reshape(out.shape)
                return
            size = picture.size
    except UnidentifiedImageError:
        raise ValueError(f"these bytes are not a {name} image") from None
    except _PILLOW_ERRORS as error:
        raise ValueError(f"damaged {name} ({error})") from None
    raise ValueError(f"{name} of {size[0]}x{size[1]} pixels where {width}x{height} are expected")


_QUALITY = Option(
    "a whole number from 1 to 100",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100,
    default=DEFAULT_QUALITY,
)
_LOSSLESS = Option("true or false", lambda value: isinstance(value, bool))

CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec(
            "jpg",
            _encode_jpeg,
            _decode_jpeg,
            {"quality": _QUALITY},
            pil_format="JPEG",
            aliases=("jpeg",),
            packages=("simplejpeg",),
        ),
        Codec(
            "png",
            partial(_encode_pillow, pil_format="PNG"),
            partial(_decode_pillow, pil_format="PNG"),
            pil_format="PNG",
        ),
        Codec(
            "webp",
            _encode_webp,
            partial(_decode_pillow, pil_format="WEBP"),
            {"quality": _QUALITY, "lossless": _LOSSLESS},
            pil_format="WEBP",
        ),
        Codec("raw", np.ndarray.tobytes, _decode_raw),
    )
}
"""Every codec by name."""
PICTURE_CODECS: dict[str, Codec] = {
    extension: codec for codec in CODECS.values() if codec.pil_format for extension in codec.extensions
}
"""What other programs' shards may hold, by extension."""

# For the type checker a codec's name is any string; at run time, option parsers list the names.
if TYPE_CHECKING:
    CodecName = str
else:
    CodecName = Literal[tuple(CODECS)]
