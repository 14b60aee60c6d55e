"""Grids of faces with labels: numpy in, a picture out that reads on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE_PIXELS = 96
"""Smaller faces are enlarged by whole factors to at least this height."""
_GAP = 4
_FONT_SIZE = 22
_LABEL_COLOR = (128, 132, 140, 255)
"""Readable on white and on black: the background is transparent."""


@dataclass(frozen=True)
class Row:
    """One row of a grid: uint8 images (N, H, W, C) and a label at its left."""

    images: np.ndarray
    label: str = ""


def face_grid(rows: Sequence[Row], column_labels: Sequence[str] = ()) -> Image.Image:
    """Draws rows of faces.

    Args:
        rows: All with images of one size; C is 1 or 3.
        column_labels: Above the columns, or none.

    Returns:
        An RGBA picture with a transparent background.
    """
    height, width = rows[0].images.shape[1:3]
    factor = max(1, -(-TILE_PIXELS // height))
    tile_width, tile_height = width * factor, height * factor
    font = ImageFont.load_default(_FONT_SIZE)
    left = max(int(font.getlength(row.label)) for row in rows)
    left += 3 * _GAP if left else 0
    top = _FONT_SIZE + 3 * _GAP if column_labels else 0
    num_columns = max(len(row.images) for row in rows)
    size = (left + num_columns * (tile_width + _GAP) - _GAP, top + len(rows) * (tile_height + _GAP) - _GAP)

    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(canvas)
    for column, label in enumerate(column_labels):
        center = left + column * (tile_width + _GAP) + tile_width // 2
        draw.text((center, top - 2 * _GAP), label, fill=_LABEL_COLOR, font=font, anchor="ms")
    for position, row in enumerate(rows):
        y = top + position * (tile_height + _GAP)
        draw.text((left - 3 * _GAP, y + tile_height // 2), row.label, fill=_LABEL_COLOR, font=font, anchor="rm")
        for column, image in enumerate(row.images):
            face = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
            face = face.resize((tile_width, tile_height), Image.Resampling.NEAREST)
            canvas.paste(face.convert("RGBA"), (left + column * (tile_width + _GAP), y))
    return canvas
