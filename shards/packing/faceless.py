"""A sheet of the images in which no face was found, to be looked at."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shards.base.errors import UserError
from shards.card.bars import Face, draw_faces
from shards.images.reading import to_mode

_NUM_DRAWN, _CELL = 64, 96


def save_faceless_sheet(
    path: Path, pictures: Iterable[tuple[str, Image.Image | np.ndarray]], num: int, total: int
) -> None:
    """Draws the first 64 images.

    Args:
        path: PNG file.
        pictures: Name and image of each.
        num: How many there are.
        total: In how many images a face was looked for.

    Raises:
        UserError: The file cannot be written.
    """
    faces = []
    for name, image in itertools.islice(pictures, _NUM_DRAWN):
        picture = Image.fromarray(image.squeeze()) if isinstance(image, np.ndarray) else image
        faces.append(Face(ImageOps.pad(to_mode(picture, "RGB"), (_CELL, _CELL), color="white"), name))
    more = f", the first {_NUM_DRAWN}" if num > _NUM_DRAWN else ""
    try:
        draw_faces([(f"No face was found in {num:,} of {total:,} images{more}", faces)], _CELL).save(path, "PNG")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another file name.") from None
    print(f"Images without a face: {path}")
