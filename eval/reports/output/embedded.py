"""Pictures as files, and inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from eval.reports.results import Figure

_QUALITY = 90
"""WebP quality of pictures inside the page; the files beside it are lossless."""


@dataclass(frozen=True)
class Embedded:
    """A picture inside the page.

    Attributes:
        svg: Text of a chart, or empty.
        uri: ``data:`` URI of a picture, or empty.
        width: Pixels; 0 for a chart.
        height: Pixels; 0 for a chart.
    """

    svg: str = ""
    uri: str = ""
    width: int = 0
    height: int = 0


def embed(figure: Figure) -> Embedded:
    """Prepares a picture for the page."""
    if isinstance(figure, str):
        return Embedded(svg=figure)
    if isinstance(figure, bytes):
        with Image.open(io.BytesIO(figure)) as animation:
            width, height = animation.size
        return Embedded("", _uri(figure), width, height)
    return Embedded("", _uri(encode(figure, "WEBP", quality=_QUALITY)), figure.width, figure.height)


def content_of(figure: Figure) -> bytes:
    """The content of the picture's file."""
    if isinstance(figure, bytes):
        return figure
    return figure.encode() if isinstance(figure, str) else encode(figure, "PNG")


def figure_of(name: str, content: bytes) -> Figure:
    """The picture with this file name and content."""
    if name.endswith(".svg"):
        return content.decode()
    if name.endswith(".webp"):
        return content
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def encode(picture: Image.Image, form: str, **options: int) -> bytes:
    """A picture as the bytes of an image file."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
