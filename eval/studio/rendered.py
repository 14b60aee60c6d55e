"""What the studio does with recipes: neighbors, morphs, comparisons and files, as plain functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from eval.drawing.animation import encode_animation, there_and_back
from eval.latent.axes import coordinates
from eval.latent.tools.morph import PATHS
from eval.studio.recipes import MAX_COORDINATE, AnimationRequest, GridRequest, Morph, Recipe, Stored, Uploaded
from eval.studio.run import Point, StudioRun
from eval.studio.uploads import latent_file

ANIMATION_PIXELS = 256
"""Smaller faces are enlarged by whole factors to about this side, so that an animation can be seen elsewhere."""


@dataclass(frozen=True)
class Neighbor:
    """A face beside another one."""

    recipe: Recipe
    image: np.ndarray
    """uint8 (H, W, C)."""


def face_coordinates(run: StudioRun, recipe: Recipe) -> np.ndarray:
    """Where a face lies along every axis (A,), in standard deviations, before attributes are added."""
    plain = recipe.model_copy(update={"attributes": {}})
    return coordinates(run.point(plain).latent.astype(np.float64), run.sliders.get().axes)


def neighbors(run: StudioRun, request: GridRequest) -> list[list[Neighbor]]:
    """Rows of faces around one face, which is in the middle."""
    recipe, across, down = request.recipe, request.across, request.down
    run.check_axes((across, down))
    center = face_coordinates(run, recipe)
    offsets = (np.arange(request.size) - request.size // 2) * request.step

    def beside(right: float, below: float) -> Recipe:
        targets = {across: center[across] + right, down: center[down] + below}
        allowed = {axis: float(np.clip(value, -MAX_COORDINATE, MAX_COORDINATE)) for axis, value in targets.items()}
        return recipe.model_copy(update={"axes": {**recipe.axes, **allowed}})

    recipes = [beside(right, below) for below in offsets for right in offsets]
    points = [run.point(recipe) for recipe in recipes]
    images = run.decode(np.stack([point.latent for point in points]), points[0].degree)
    flat = [Neighbor(recipe, image) for recipe, image in zip(recipes, images, strict=True)]
    return [flat[row : row + request.size] for row in range(0, len(flat), request.size)]


def morph_point(run: StudioRun, morph: Morph, position: float) -> Point:
    """The place at ``position`` on the way through the faces: 0 is the first, 1 the second, and so on."""
    part = min(int(position), len(morph.recipes) - 2)
    start, end = (run.point(recipe) for recipe in morph.recipes[part : part + 2])
    share = min(position - part, 1.0)
    latent = PATHS[morph.path](start.latent, end.latent, np.array([share]))[0]
    # At the ends of a way whose other end has no known degree, the own one counts.
    degrees = {0.0: start.degree, 1.0: end.degree}
    return Point(latent.astype(np.float32), degrees.get(share, (1 - share) * start.degree + share * end.degree))


def morph_animation(run: StudioRun, request: AnimationRequest) -> bytes:
    """The way through the faces, there and back, as the content of a WebP or GIF file."""
    num_parts = len(request.recipes) - 1
    positions = np.linspace(0, num_parts, num_parts * (request.steps - 1) + 1)
    points = [morph_point(run, request, float(position)) for position in positions]
    images = run.decode(np.stack([point.latent for point in points]), np.array([point.degree for point in points]))
    return encode_animation(there_and_back([_enlarged(image) for image in images]), f".{request.format}")


def squared_error(run: StudioRun, recipe: Recipe, image: np.ndarray) -> float | None:
    """Mean squared error on [-1, 1] between a picture and the original of its face; None where there is no original."""
    if not isinstance(recipe.face, Stored | Uploaded):
        return None
    difference = (image.astype(np.float64) - run.original(recipe.face)) / 127.5
    return float(np.mean(difference**2))


def saved_latent(run: StudioRun, recipe: Recipe) -> bytes:
    """The latent of a recipe as a safetensors file, which the studio opens again."""
    return latent_file(run.point(recipe).latent, run.identity, run.name)


def _enlarged(image: np.ndarray) -> Image.Image:
    face = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    factor = max(1, round(ANIMATION_PIXELS / face.height))
    return face.resize((face.width * factor, face.height * factor), Image.Resampling.BICUBIC)
