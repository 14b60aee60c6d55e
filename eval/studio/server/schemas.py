"""The JSON of the studio's own routes; latent tools define theirs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from eval.latent.editing.recipes import Given, Name, Recipe, Strict, Uploaded

MAX_RUNS = 12


class Condition(BaseModel):
    """The label that a run is conditioned on."""

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
    """The one that the run was opened with."""
    samplers: list[str]
    """Those fitted to its weights, by which a recipe can sample."""
    aligns: bool
    """Whether faces in photos can be aligned."""
    images_seen: int
    num_parameters: int


class DataAnswer(BaseModel):
    """The data set."""

    name: str
    splits: dict[str, int]
    held_out: str
    labels: list[str]


class UploadLimits(BaseModel):
    """Limits of uploads."""

    max_bytes: int
    max_pixels: int
    formats: list[str]


class StudioAnswer(BaseModel):
    """Everything that the studio shows."""

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
    """An upload as the studio understood it."""

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
    """Why the run has no picture."""
    working: str | None = None
    """What is still being computed; ask again in a second."""


class ProgressAnswer(BaseModel):
    """How far a run has come."""

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
    """Still being computed: ask again in a second."""

    working: str
