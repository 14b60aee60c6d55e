"""Files with the names of images that are not images, of the kinds that downloads and crawls leave behind."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def _truncated() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[:900]


def _bomb() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\x01IDAT"


def jpeg_of_scans(num: int, size: tuple[int, int] = (40, 40)) -> bytes:
    """A progressive JPEG of at least ten scans: the last one is repeated, which costs a decoder a pass each."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "olive").save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    last_scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last_scan * (num - whole.count(b"\xff\xda")) + whole[-2:]


BAD_FILES = {
    "empty.jpg": b"",
    "text.jpg": b"this is no image",
    "truncated.jpg": _truncated(),
    "scans.jpg": jpeg_of_scans(101),
    "zeros.png": b"\0" * 500,
    "half_header.png": b"\x89PNG\r\n\x1a\n\0\0",
    "html.gif": b"<html>404</html>",
    "bad.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "bad.tif": b"II*\0\xff\xff\xff\x7f",
    "bad.bmp": b"BM" + b"\xff" * 60,
    "bomb.png": _bomb(),
}
"""Content by a name that says what is wrong with it."""


def add_bad_images(root: Path) -> None:
    """Writes all of them, a dangling link, and a folder with the name of an image."""
    for name, data in BAD_FILES.items():
        (root / name).write_bytes(data)
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    (root / "folder.jpg").mkdir()
