"""Pictures as a page holds them: inside it, with their size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from eval.reports.results import Figure

_QUALITY = 90
"""WebP quality of the pictures inside the page; the files beside it are lossless."""


@dataclass(frozen=True)
class Embedded:
    """One picture inside the page.

    Attributes:
        svg: Text of a chart, or empty.
        uri: Content of a picture as a ``data:`` address, or empty.
        width: Pixels; 0 of a chart.
        height: Pixels; 0 of a chart.
    """

    svg: str = ""
    uri: str = ""
    width: int = 0
    height: int = 0


def embed(figure: Figure) -> Embedded:
    """Puts a picture into the form that the page holds."""
    if isinstance(figure, str):
        return Embedded(svg=figure)
    if isinstance(figure, bytes):
        with Image.open(io.BytesIO(figure)) as animation:
            width, height = animation.size
        return Embedded("", _uri(figure), width, height)
    return Embedded("", _uri(encode(figure, "WEBP", quality=_QUALITY)), figure.width, figure.height)


def content_of(figure: Figure) -> bytes:
    """What the picture's own file holds."""
    if isinstance(figure, bytes):
        return figure
    return figure.encode() if isinstance(figure, str) else encode(figure, "PNG")


def figure_of(name: str, content: bytes) -> Figure:
    """The picture whose own file has this name and content."""
    if name.endswith(".svg"):
        return content.decode()
    if name.endswith(".webp"):
        return content
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def encode(picture: Image.Image, form: str, **options: int) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
