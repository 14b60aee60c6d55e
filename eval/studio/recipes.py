"""How a face is made, as requests say it: where its latent comes from, and what is changed of it.

A recipe holds all that a picture depends on, so that the server keeps nothing of a browser but the photos sent to it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_TARGETS = 256
MAX_STRENGTHS = 64
MAX_FACES = 8
MAX_STEPS = 48
MAX_FRAMES = 120
MAX_COORDINATE = 20
MAX_RUNS = 12

Name = Annotated[str, Field(min_length=1, max_length=200)]
Token = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
AxisNumber = Annotated[int, Field(ge=0, le=1_000_000)]


class Strict(BaseModel):
    """Base of all requests: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Sample(Strict):
    """The face of a seed: always the same one."""

    kind: Literal["sample"]
    seed: int = Field(ge=0, le=2**31 - 1)
    std: float = Field(1.0, ge=0, le=4, description="Standard deviation of the noise; 1 is the prior.")


class Mean(Strict):
    """The middle of all axes."""

    kind: Literal["mean"]


class Stored(Strict):
    """A face of the data set."""

    kind: Literal["data"]
    split: Literal["train", "val", "test"]
    row: int = Field(ge=0, le=2**40, description="Counts within the split, from 0.")


class Uploaded(Strict):
    """A photo that was sent before."""

    kind: Literal["upload"]
    token: Token = Field(description="What the upload returned.")
    crop: tuple[Fraction, Fraction, Fraction, Fraction] | None = Field(
        None, description="Left, upper, right, lower as fractions of the photo; null takes the largest centered square."
    )
    align: bool = Field(False, description="Finds the face and brings it to where those of the training images are.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.align and self.crop is not None:
            raise ValueError("crop and align both say what to take of a photo; send one of them")
        return self


class Given(Strict):
    """A latent that was sent before."""

    kind: Literal["latent"]
    token: Token = Field(description="What the upload returned.")


Face = Annotated[Sample | Mean | Stored | Uploaded | Given, Field(discriminator="kind")]


class Recipe(Strict):
    """A face and what is changed of it."""

    face: Face
    axes: dict[AxisNumber, Coordinate] = Field(
        default_factory=dict,
        max_length=MAX_TARGETS,
        description="Where the face shall lie along some axes, in standard deviations, by number of the axis.",
    )
    attributes: dict[Name, Annotated[float, Field(ge=-10, le=10)]] = Field(
        default_factory=dict,
        max_length=MAX_STRENGTHS,
        description="How much of each attribute vector is added; 1 is the way from one mean to the other.",
    )
    degree: float | None = Field(
        None, ge=-5, le=5, description="Condition of a conditional run; null keeps the face's own."
    )


class GridRequest(Strict):
    """Faces around one face, along two axes."""

    recipe: Recipe
    across: AxisNumber = 0
    down: AxisNumber = 1
    step: float = Field(1.0, gt=0, le=4, description="From one face to the next, in standard deviations.")
    size: Literal[3, 5, 7] = Field(5, description="Faces in a row and in a column.")


class Morph(Strict):
    """A way through two or more faces."""

    recipes: list[Recipe] = Field(min_length=2, max_length=MAX_FACES)
    path: Literal["linear", "spherical"] = "linear"


class MorphRequest(Morph):
    """One place on that way."""

    position: float = Field(ge=0, le=MAX_FACES - 1, description="From 0, the first face, to the number of faces - 1.")


class AnimationRequest(Morph):
    """All of it, there and back."""

    steps: int = Field(12, ge=2, le=MAX_STEPS, description="Pictures from one face to the next, both included.")
    format: Literal["webp", "gif"] = "webp"

    @model_validator(mode="after")
    def _few_frames(self) -> AnimationRequest:
        if (len(self.recipes) - 1) * (self.steps - 1) >= MAX_FRAMES:
            raise ValueError(f"an animation has at most {MAX_FRAMES} pictures; give fewer faces or steps")
        return self


class CompareRequest(Strict):
    """One recipe in several runs."""

    runs: list[Name] = Field(min_length=1, max_length=MAX_RUNS)
    recipe: Recipe
