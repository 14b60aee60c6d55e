"""Animations as WebP or GIF files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from shards.base.errors import UserError
from shards.base.files import make_folder, write_bytes, writing_to

SUFFIXES = (".webp", ".gif")
FRAME_MS = 100
"""Duration of a frame. GIF counts in hundredths of a second, and browsers slow down below two of them."""
_BACKGROUND = "white"


def check_animation_path(path: str) -> None:
    """Checks a file name before any work is done.

    Raises:
        UserError: A suffix of another format.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"animation {path} must end in {' or '.join(SUFFIXES)}.")


def there_and_back(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames forwards and backwards, so that a loop has no jump; the first and last come once."""
    return [*frames, *reversed(frames[1:-1])]


def save_animation(path: str | Path, frames: Sequence[Image.Image], frame_ms: int = FRAME_MS) -> None:
    """Writes an endless loop.

    Args:
        path: Ends in .webp or .gif; the folders above it are made.
        frames: At least one, all of one size; transparent parts become white, since GIF has no partial transparency.
        frame_ms: Duration of each frame, in milliseconds.

    Raises:
        UserError: A suffix of another format.
    """
    check_animation_path(str(path))
    file = Path(path)
    make_folder(file.parent)
    with writing_to(file):
        write_bytes(file, encode_animation(frames, file.suffix.lower(), frame_ms), durable=False)


def encode_animation(frames: Sequence[Image.Image], suffix: str = ".webp", frame_ms: int = FRAME_MS) -> bytes:
    """The content of an animation file; ``suffix`` is one of ``SUFFIXES``."""
    opaque = [_flatten(frame) for frame in frames]
    options: dict[str, Any] = {"format": "GIF"} if suffix == ".gif" else {"format": "WEBP", "quality": 90, "method": 4}
    buffer = io.BytesIO()
    opaque[0].save(buffer, save_all=True, append_images=opaque[1:], duration=frame_ms, loop=0, **options)
    return buffer.getvalue()


def _flatten(frame: Image.Image) -> Image.Image:
    if frame.mode == "RGB":
        return frame
    rgba = frame.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, _BACKGROUND), rgba).convert("RGB")
