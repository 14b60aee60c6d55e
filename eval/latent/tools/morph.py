"""Morphs: the way in latent space from each face to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from eval.drawing.animation import encode_animation, there_and_back
from eval.drawing.frames import labeled_frames
from eval.drawing.grids import Row, face_grid
from eval.latent.editing.editor import Editor, Point
from eval.latent.editing.recipes import Recipe, Strict
from eval.latent.encode import decode_images
from eval.latent.faces import Faces, choose_faces
from eval.latent.options import FaceOptions, ModelOptions, PictureOptions
from eval.latent.tools.tool import Encoded, StudioRoute, Tool
from facegen.model import Model

NUM_STEPS = 12
"""Default number of images from one face to the next."""
Path = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Start (L,), end (L,) and positions (S,) from 0 to 1 to points (S, L)."""
_MIN_SINE = 1e-6
MAX_FACES = 8
MAX_STEPS = 48
MAX_FRAMES = 120
ANIMATION_PIXELS = 256
"""The studio enlarges smaller faces by whole factors to about this side, so that they can be seen elsewhere."""


def linear(start: np.ndarray, end: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The straight line."""
    weights = np.asarray(positions, np.float64)[:, None]
    return (1 - weights) * start + weights * end


def spherical(start: np.ndarray, end: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The direction along the great circle (Shoemake 1985), the length changing evenly.

    Between two draws from N(0, I) the line comes closer to the origin than nearly all draws; this path does not.
    Where the circle is undefined (a latent of length 0, equal or opposite directions), the line.
    """
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    if min(lengths) == 0:
        return linear(start, end, positions)
    directions = start / lengths[0], end / lengths[1]
    angle = np.arccos(np.clip(directions[0] @ directions[1], -1, 1))
    if np.sin(angle) < _MIN_SINE:
        return linear(start, end, positions)
    weights = np.asarray(positions, np.float64)[:, None]
    direction = np.sin((1 - weights) * angle) * directions[0] + np.sin(weights * angle) * directions[1]
    return direction / np.sin(angle) * ((1 - weights) * lengths[0] + weights * lengths[1])


PATHS: dict[str, Path] = {"linear": linear, "spherical": spherical}


def morph(latents: np.ndarray, num_steps: int, path: Path) -> np.ndarray:
    """Points on the way from each latent to the next.

    Args:
        latents: float (K, L), at least two.
        num_steps: Points from one latent to the next, both included.
        path: Leads from one latent to the next.

    Returns:
        float64 (K - 1, num_steps, L).
    """
    positions = np.linspace(0, 1, num_steps)
    return np.stack([path(start, end, positions) for start, end in zip(latents[:-1], latents[1:], strict=True)])


def morph_degrees(degrees: Sequence[float] | np.ndarray, num_steps: int) -> np.ndarray:
    """The condition along ``morph``, changing evenly from each face to the next: (K - 1, num_steps)."""
    return morph(np.asarray(degrees, np.float64)[:, None], num_steps, linear)[..., 0]


def morph_faces(
    model: Model, faces: Faces, num_steps: int = NUM_STEPS, kinds: Sequence[str] = tuple(PATHS)
) -> dict[str, np.ndarray]:
    """Each face turning into the next, along each kind of path: uint8 (K - 1, num_steps, H, W, C) by kind."""
    latents, degrees = faces.encode(model), morph_degrees(faces.degrees, num_steps)
    return {kind: decode_images(model, morph(latents, num_steps, PATHS[kind]), degrees) for kind in kinds}


def morph_grid(originals: np.ndarray, images: Mapping[str, np.ndarray]) -> Image.Image:
    """A row for each way from each face to the next, between the two originals.

    Args:
        originals: uint8 (K, H, W, C).
        images: As ``morph_faces`` returns them.
    """
    num_parts, num_steps = next(iter(images.values())).shape[:2]
    rows = [
        Row(np.concatenate([originals[part, None], morphed[part], originals[part + 1, None]]), kind)
        for part in range(num_parts)
        for kind, morphed in images.items()
    ]
    return face_grid(rows, ["from", *_positions(num_steps), "to"])


@dataclass(kw_only=True)
class MorphConfig(PictureOptions, FaceOptions, ModelOptions):
    """Options of morphs."""

    num: int = 2
    """Faces spread evenly over the split, where neither photos nor rows nor keys are given."""
    path: Literal["linear", "spherical", "both"] = "both"
    """Path from latent to latent: the straight line, the great circle, or a row of each."""
    steps: int = NUM_STEPS
    """Images from one face to the next, both reconstructions included."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, not {self.steps}.")


def draw(config: MorphConfig, model: Model) -> None:
    """Draws the grid and, where one is asked for, the animation through all faces."""
    faces = choose_faces(config, model, at_least=2)
    images = morph_faces(model, faces, config.steps, list(PATHS) if config.path == "both" else [config.path])
    config.save_grid(morph_grid(faces.images, images))
    if config.animation:
        # Each part ends with the image that the next one starts with.
        whole = [np.concatenate([parts[0], *parts[1:, 1:]]) for parts in images.values()]
        first, *rest = _positions(config.steps)
        labels = [first, *rest * (len(faces.images) - 1)]
        config.save_frames(there_and_back(list(labeled_frames(np.stack(whole), labels))))


# The studio


class Morph(Strict):
    """A way through two or more faces."""

    recipes: list[Recipe] = Field(min_length=2, max_length=MAX_FACES)
    path: Literal["linear", "spherical"] = "linear"


class MorphRequest(Morph):
    """One place on the way."""

    position: float = Field(ge=0, le=MAX_FACES - 1, description="From 0, the first face, to the number of faces - 1.")


class AnimationRequest(Morph):
    """The whole way, there and back."""

    steps: int = Field(NUM_STEPS, ge=2, le=MAX_STEPS, description="Pictures from one face to the next, both included.")
    format: Literal["webp", "gif"] = "webp"

    @model_validator(mode="after")
    def _few_frames(self) -> AnimationRequest:
        if (len(self.recipes) - 1) * (self.steps - 1) >= MAX_FRAMES:
            raise ValueError(f"an animation has at most {MAX_FRAMES} pictures; give fewer faces or steps")
        return self


def morph_point(run: Editor, morph: Morph, position: float) -> Point:
    """The place at ``position`` on the way through the faces: 0 is the first, 1 the second, and so on."""
    part = min(int(position), len(morph.recipes) - 2)
    start, end = (run.point(recipe) for recipe in morph.recipes[part : part + 2])
    share = min(position - part, 1.0)
    latent = PATHS[morph.path](start.latent, end.latent, np.array([share]))[0]
    # Not interpolated at the ends: the degree of the other face may be unknown.
    degrees = {0.0: start.degree, 1.0: end.degree}
    return Point(latent.astype(np.float32), degrees.get(share, (1 - share) * start.degree + share * end.degree))


def morph_picture(run: Editor, request: MorphRequest) -> np.ndarray:
    """One place on the way through two or more faces."""
    return run.decode(*morph_point(run, request, request.position))


def morph_animation(run: Editor, request: AnimationRequest) -> Encoded:
    """The whole way, there and back, as a WebP or GIF."""
    num_parts = len(request.recipes) - 1
    positions = np.linspace(0, num_parts, num_parts * (request.steps - 1) + 1)
    points = [morph_point(run, request, float(position)) for position in positions]
    images = run.decode(np.stack([point.latent for point in points]), np.array([point.degree for point in points]))
    frames = there_and_back([_enlarged(image) for image in images])
    return Encoded(encode_animation(frames, f".{request.format}"), f"image/{request.format}")


def _enlarged(image: np.ndarray) -> Image.Image:
    face = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    factor = max(1, round(ANIMATION_PIXELS / face.height))
    return face.resize((face.width * factor, face.height * factor), Image.Resampling.BICUBIC)


def _positions(num_steps: int) -> list[str]:
    return [f"{position:.2f}" for position in np.linspace(0, 1, num_steps)]


TOOL = Tool(
    name="morph",
    about="Morphs each face into the next, through latent space.",
    options=MorphConfig,
    draw=draw,
    needs=("encode", "decode"),
    routes=(
        StudioRoute("morph", morph_picture),
        StudioRoute("morph/animation", morph_animation, one_at_a_time=True),
    ),
)
