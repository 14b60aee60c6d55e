"""How a face is made, as the studio's requests describe it: where its latent comes from, and what is changed.

A recipe holds everything a picture depends on, so the server keeps nothing of a browser except the photos sent to it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_TARGETS = 256
MAX_STRENGTHS = 64
MAX_COORDINATE = 20

Name = Annotated[str, Field(min_length=1, max_length=200)]
Token = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
AxisNumber = Annotated[int, Field(ge=0, le=1_000_000)]


class Strict(BaseModel):
    """Base of all requests: refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Sample(Strict):
    """The face of a seed: always the same one."""

    kind: Literal["sample"]
    seed: int = Field(ge=0, le=2**31 - 1)
    std: float = Field(1.0, ge=0, le=4, description="Standard deviation of the noise; 1 is the prior.")
    sampler: Name | None = Field(
        None,
        description="One of the run's samplers; null takes the one that the run was opened with, or else the prior.",
    )


class Mean(Strict):
    """The middle of all axes."""

    kind: Literal["mean"]


class Stored(Strict):
    """A face of the data set."""

    kind: Literal["data"]
    split: Literal["train", "val", "test"]
    row: int = Field(ge=0, le=2**40, description="Counts within the split, from 0.")


class Uploaded(Strict):
    """An uploaded photo."""

    kind: Literal["upload"]
    token: Token = Field(description="What the upload returned.")
    crop: tuple[Fraction, Fraction, Fraction, Fraction] | None = Field(
        None, description="Left, upper, right, lower as fractions of the photo; null takes the largest centered square."
    )
    align: bool = Field(False, description="Finds the face and aligns it as the training images are.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.align and self.crop is not None:
            raise ValueError("crop and align exclude each other; send one of them")
        return self


class Given(Strict):
    """An uploaded latent."""

    kind: Literal["latent"]
    token: Token = Field(description="What the upload returned.")


FaceSource = Annotated[Sample | Mean | Stored | Uploaded | Given, Field(discriminator="kind")]


class Recipe(Strict):
    """A face and the changes to it."""

    face: FaceSource
    axes: dict[AxisNumber, Coordinate] = Field(
        default_factory=dict,
        max_length=MAX_TARGETS,
        description="The face's place along some axes, in standard deviations, by number of the axis.",
    )
    attributes: dict[Name, Annotated[float, Field(ge=-10, le=10)]] = Field(
        default_factory=dict,
        max_length=MAX_STRENGTHS,
        description="How much of each attribute vector is added; 1 is the distance between the two means.",
    )
    degree: float | None = Field(
        None, ge=-5, le=5, description="Condition of a conditional run; null keeps the face's own."
    )
