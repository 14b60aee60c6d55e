"""The order in which a portrait is painted, from the background to the glasses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from shards.sources.synthetic import accessories, eyes, hair, mouth, relief
from shards.sources.synthetic.canvas import Canvas, pixel_centers, plane
from shards.sources.synthetic.factors import Factors
from shards.sources.synthetic.geometry import geometry_of, pose_of
from shards.sources.synthetic.head import paint_body, paint_ears, paint_skin, place_head
from shards.sources.synthetic.palette import background_color

MIN_SIZE, MAX_SIZE = 16, 1024


def check_size(size: int) -> None:
    """Raises ValueError for a size that cannot be rendered."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"the size of a rendered face must lie between {MIN_SIZE} and {MAX_SIZE}, not {size}.")


def render(factors: Factors, size: int) -> np.ndarray:
    """Renders a face.

    Args:
        factors: What the picture shows.
        size: Width and height in pixels, 16 to 1024. The picture is the same at every size, only sharper.

    Returns:
        uint8 (size, size, 3), sRGB.

    Raises:
        ValueError: A size out of range.
    """
    check_size(size)
    canvas = Canvas(size, pose_of(factors))
    head = place_head(canvas, factors, geometry_of(factors))
    _paint_background(canvas, factors)
    hair.paint_back_hair(head)
    paint_body(head)

    eyes.sink_sockets(head)
    relief.raise_reliefs(head)
    paint_skin(head)
    relief.paint_folds(head)
    eyes.paint_eyes(head)
    eyes.paint_brows(head)
    relief.paint_nose(head)
    accessories.paint_beard(head)
    mouth.paint_mouth(head)

    if hair.covers_ears(head):
        paint_ears(head)
        accessories.paint_glasses(head)
        hair.paint_front_hair(head)
    else:
        hair.paint_front_hair(head)
        paint_ears(head)
        accessories.paint_glasses(head)
    return canvas.to_uint8()


def _paint_background(canvas: Canvas, factors: Factors) -> None:
    """A studio wall: a glow behind the head that falls off to the corners."""
    np.multiply(plane(background_color(factors)), _wall_light(canvas.size), out=canvas.image)


@lru_cache(maxsize=8)
def _wall_light(size: int) -> np.ndarray:
    centers = pixel_centers(size)
    squares = centers * centers
    return 1.06 - 0.10 * (squares[None, :] + squares[:, None]) - (0.10 * centers)[:, None]
