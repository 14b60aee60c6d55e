"""The JSON of the studio's own routes; the latent tools bring theirs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from eval.latent.editing.recipes import Given, Name, Recipe, Strict, Uploaded

MAX_RUNS = 12


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


class CompareRequest(Strict):
    """One recipe in several runs."""

    runs: list[Name] = Field(min_length=1, max_length=MAX_RUNS)
    recipe: Recipe


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
