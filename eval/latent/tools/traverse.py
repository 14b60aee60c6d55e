"""Sweeps: a face moved along one latent dim or principal component at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from eval.base.large_arrays import column_variances
from eval.drawing.animation import there_and_back
from eval.drawing.frames import labeled_frames, signed
from eval.drawing.grids import Row, face_grid
from eval.latent.axes import Axes, active_dims, component_axes, coordinates, latent_axes, sweep
from eval.latent.editing.editor import Editor
from eval.latent.editing.recipes import MAX_COORDINATE, AxisNumber, Recipe, Strict
from eval.latent.encode import decode_images, encode_split
from eval.latent.faces import Faces, choose_faces
from eval.latent.options import FaceOptions, ModelOptions, PictureOptions, open_data
from eval.latent.origin import Origin
from eval.latent.pca import Pca, load_pca, save_pca, split_pca
from eval.latent.picture_axes import main_axes
from eval.latent.tools.tool import StudioRoute, Tool, data_uri
from facegen.model import Model
from shards.base.errors import UserError

DIM_SPAN = 1.2
COMPONENT_SPAN = 3.0
NUM_AXES = 8
NUM_STEPS = 13


def sweep_faces(model: Model, faces: Faces, axes: Axes, steps: np.ndarray) -> np.ndarray:
    """Each of N faces at each of S steps along each of A axes: uint8 (N, A, S, H, W, C)."""
    return np.stack(
        [
            decode_images(model, sweep(latent, axes, steps), degree)
            for latent, degree in zip(faces.encode(model), faces.degrees, strict=True)
        ]
    )


def sweep_grid(images: np.ndarray, axes: Axes, steps: np.ndarray) -> Image.Image:
    """A row for each axis of each face; ``images`` as ``sweep_faces`` returns them."""
    rows = [Row(swept, name) for face in images for swept, name in zip(face, axes.names, strict=True)]
    return face_grid(rows, [signed(step) for step in steps])


@dataclass(kw_only=True)
class TraverseConfig(PictureOptions, FaceOptions, ModelOptions):
    """Options of sweeps."""

    num: int = 1
    """Faces spread evenly over the split, where neither photos nor rows nor keys are given."""
    pca: bool = False
    """Sweep principal components, the most explaining first, instead of single dims; where all latents have about one
    variance, the directions that change the picture most."""
    pca_file: str | None = None
    """safetensors file of components: read where it exists, else fitted and written. Implies --pca."""
    fit_split: str = "train"
    """Split of --data that active dims are found in, or components fitted on."""
    axes: list[int] = field(default_factory=list)
    """Dims, from 0, or components, from 1. Default: the most active ones and, for dims, the least active one."""
    num_axes: int = NUM_AXES
    """Number of axes, where --axes is not given."""
    span: float | None = None
    """Sweeps go from minus to plus this, in standard deviations: of the prior for dims (of mu for a model without one),
    of mu for components. Null takes 1.2 for dims and 3 for components."""
    steps: int = NUM_STEPS
    """Images of a sweep."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        for name, least in (("num_axes", 1), ("steps", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if self.span is not None and not 0 < self.span < float("inf"):
            raise ValueError(f"span must be above 0, not {self.span}.")


def draw(config: TraverseConfig, model: Model) -> None:
    """Draws the grid and, where one is asked for, the animation."""
    faces = choose_faces(config, model)
    axes, default_span = find_axes(config, model)
    span = config.span or default_span
    steps = np.linspace(-span, span, config.steps)
    images = sweep_faces(model, faces, axes, steps)
    config.save_grid(sweep_grid(images, axes, steps))
    if config.animation:
        flat = images.reshape(-1, *images.shape[2:])
        labels = [f"{step:+.2f}" for step in steps]
        config.save_frames(there_and_back(list(labeled_frames(flat, labels))))


def find_axes(config: TraverseConfig, model: Model) -> tuple[Axes, float]:
    """The axes to sweep, and the default span.

    Raises:
        UserError: No data to find them in, or an axis that the model lacks.
    """
    size = model.latent_size or 0
    sweeps_components = bool(config.pca or config.pca_file)
    kind, first = ("components", 1) if sweeps_components else ("dims", 0)
    beyond = [axis for axis in config.axes if not first <= axis < first + size]
    if beyond:
        raise UserError(f"{model.name} has {kind} {first} to {first + size - 1}, not {beyond[0]}.")
    if sweeps_components:
        chosen = [axis - 1 for axis in config.axes] or range(min(config.num_axes, size))
        return _main_axes(config, model, chosen), COMPONENT_SPAN
    latents = encode_split(model, open_data(_data(config), model, config.fit_split), config.fit_split)
    chosen = config.axes or active_dims(column_variances(latents), config.num_axes)
    return latent_axes(latents, chosen, in_prior_units="posterior" in model.can), DIM_SPAN


def _main_axes(config: TraverseConfig, model: Model, chosen: Sequence[int]) -> Axes:
    """Components, from 0; where they change little, directions that change the picture more, unless a file is named."""
    pca = find_components(config, model)
    if config.pca_file:
        return component_axes(pca, chosen)
    axes, are_directions = main_axes(model, pca, chosen)
    if are_directions:
        print(
            f"note: the latents of {model.name} have about one variance, which leaves components to chance; these are "
            "the directions that change the picture most (--pca_file FILE sweeps components)."
        )
    return axes


def find_components(config: TraverseConfig, model: Model) -> Pca:
    """The components of the file where it exists; else fitted, and written to the file where one is named."""
    if config.pca_file and Path(config.pca_file).is_file():
        pca, origin = load_pca(config.pca_file)
        origin.check(model, config.pca_file)
        return pca
    dataset = open_data(_data(config), model, config.fit_split)
    pca = split_pca(model, dataset, config.fit_split)
    if config.pca_file:
        save_pca(config.pca_file, pca, Origin.of(model, dataset, config.fit_split))
        print(f"wrote {config.pca_file}")
    return pca


def _data(config: TraverseConfig) -> str:
    if config.data is None:
        raise UserError("--data DIR is needed to find the axes.")
    return config.data


# The studio


class AxisAnswer(BaseModel):
    """One slider."""

    number: int
    share: float | None
    """Of the variance, or of the change of the picture; null for single dims."""
    std: float
    """A step of 1, in the latents' own unit."""


class AxesAnswer(BaseModel):
    """Sliders."""

    kind: Literal["component", "direction", "dim"]
    total: int
    axes: list[AxisAnswer]


class PlaceAnswer(BaseModel):
    """Where a face lies."""

    coordinates: list[float]
    degree: float | None


class GridRequest(Strict):
    """Faces around one face, along two axes."""

    recipe: Recipe
    across: AxisNumber = 0
    down: AxisNumber = 1
    step: float = Field(1.0, gt=0, le=4, description="From one face to the next, in standard deviations.")
    size: Literal[3, 5, 7] = Field(5, description="Faces in a row and in a column.")


class Tile(BaseModel):
    """A picture inside JSON."""

    recipe: Recipe
    image: str
    """``data:`` address of a PNG."""


AxisCount = Annotated[int, Field(ge=1, le=512)]


def list_axes(run: Editor, first: Annotated[int, Field(ge=0)] = 0, num: AxisCount = 12) -> AxesAnswer:
    """Sliders: principal components, the most explaining first, or directions that change the picture most; single dims
    where there is no data.
    """
    sliders = run.sliders.get()
    listed = [
        AxisAnswer(
            number=number,
            share=None if sliders.shares is None else float(sliders.shares[number]),
            std=float(sliders.axes.units[number]),
        )
        for number in range(first, min(first + num, len(sliders.axes.units)))
    ]
    return AxesAnswer(kind=sliders.kind, total=len(sliders.axes.units), axes=listed)


def face_coordinates(run: Editor, recipe: Recipe) -> np.ndarray:
    """Where a face lies along every axis (A,), in standard deviations, before attributes are added."""
    plain = recipe.model_copy(update={"attributes": {}})
    return coordinates(run.point(plain).latent.astype(np.float64), run.sliders.get().axes)


def place(run: Editor, recipe: Recipe, num: AxisCount = 12) -> PlaceAnswer:
    """Where a face lies along the first axes, before attributes are added, and its degree."""
    degree = run.point(recipe).degree
    return PlaceAnswer(
        coordinates=[round(float(value), 4) for value in face_coordinates(run, recipe)[:num]],
        degree=None if np.isnan(degree) else degree,
    )


def recipes_around(run: Editor, request: GridRequest) -> list[list[Recipe]]:
    """Rows of recipes, with the requested one in the middle."""
    recipe, across, down = request.recipe, request.across, request.down
    run.check_axes((across, down))
    center = face_coordinates(run, recipe)
    offsets = (np.arange(request.size) - request.size // 2) * request.step

    def beside(right: float, below: float) -> Recipe:
        targets = {across: center[across] + right, down: center[down] + below}
        allowed = {axis: float(np.clip(value, -MAX_COORDINATE, MAX_COORDINATE)) for axis, value in targets.items()}
        return recipe.model_copy(update={"axes": {**recipe.axes, **allowed}})

    return [[beside(right, below) for right in offsets] for below in offsets]


def faces_around(run: Editor, request: GridRequest) -> list[list[Tile]]:
    """Faces around one face, along two axes."""
    rows = recipes_around(run, request)
    points = [[run.point(recipe) for recipe in row] for row in rows]
    images = run.decode(np.array([[point.latent for point in row] for row in points]), points[0][0].degree)
    return [
        [Tile(recipe=recipe, image=data_uri(image)) for recipe, image in zip(row, faces, strict=True)]
        for row, faces in zip(rows, images, strict=True)
    ]


TOOL = Tool(
    name="traverse",
    about="Moves a face along one axis of latent space at a time.",
    options=TraverseConfig,
    draw=draw,
    needs=("encode", "decode"),
    routes=(
        StudioRoute("axes", list_axes, "GET", "Overview"),
        StudioRoute("place", place, group="Recipes"),
        StudioRoute("neighbors", faces_around, group="Recipes"),
    ),
)
