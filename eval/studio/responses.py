"""What the API answers, where that is not a picture: the documentation of its JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from eval.studio.recipes import Given, Recipe, Uploaded


class Condition(BaseModel):
    """The label that a conditional run generates by."""

    label: str
    low: float
    """Smallest degree of the training faces."""
    high: float


class RunAnswer(BaseModel):
    """A run."""

    name: str
    family: str
    can: list[str]
    channels: int
    height: int
    width: int
    latent_size: int
    condition: Condition | None
    sampler: str | None
    images_seen: int
    num_parameters: int


class DataAnswer(BaseModel):
    """The data set."""

    name: str
    splits: dict[str, int]
    held_out: str
    labels: list[str]


class UploadLimits(BaseModel):
    """What may be sent."""

    max_bytes: int
    max_pixels: int
    formats: list[str]
    aligns: bool


class StudioAnswer(BaseModel):
    """Everything that there is."""

    runs: list[RunAnswer]
    data: DataAnswer | None
    trainings: list[str]
    notes: list[str]
    upload: UploadLimits
    links: dict[str, str]


class AxisAnswer(BaseModel):
    """One slider."""

    number: int
    share: float | None
    """Of the variance; null for single dims."""
    std: float
    """A step of 1, in the latents' own unit."""


class AxesAnswer(BaseModel):
    """Sliders."""

    kind: Literal["component", "dim"]
    total: int
    axes: list[AxisAnswer]


class PlaceAnswer(BaseModel):
    """Where a face lies."""

    coordinates: list[float]
    degree: float | None


class AttributeAnswer(BaseModel):
    """One attribute vector."""

    name: str
    num_present: int
    num_absent: int
    length: float


class AttributesAnswer(BaseModel):
    """All of a run."""

    attributes: list[AttributeAnswer]
    reason: str
    """Why there are none; else empty."""


class FaceAnswer(BaseModel):
    """A face of the data set."""

    row: int
    key: str
    labels: dict[str, Any]


class UploadAnswer(BaseModel):
    """What was read of an upload."""

    face: Uploaded | Given
    width: int | None = None
    height: int | None = None


class Tile(BaseModel):
    """A picture inside JSON."""

    recipe: Recipe
    image: str
    """``data:`` address of a PNG."""


class ComparedAnswer(BaseModel):
    """One run's picture of a recipe."""

    run: str
    image: str | None = None
    original: str | None = None
    mse: float | None = None
    """Against the original, on [-1, 1]."""
    error: str | None = None
    """Why the run has none."""
    working: str | None = None
    """What is being computed for it; ask again in a second."""


class MapAnswer(BaseModel):
    """Held-out faces in the plane."""

    split: str
    rows: list[int]
    x: list[float]
    y: list[float]
    colors: list[str]
    legend: list[tuple[str, str]]


class ProgressAnswer(BaseModel):
    """Where a run is."""

    images_seen: int
    goal: str
    latest: dict[str, float]
    curves: dict[str, str]
    """Titles by key."""
    pictures: dict[str, list[int]]
    warnings: list[str]


class ErrorAnswer(BaseModel):
    """What is wrong, as a sentence."""

    error: str


class WorkingAnswer(BaseModel):
    """Not there yet: ask again in a second."""

    working: str
