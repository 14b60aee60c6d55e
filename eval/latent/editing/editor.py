"""A run whose faces are edited: recipes become latents, and latents become pictures."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from eval.latent.attribute_vectors import Attributes
from eval.latent.axes import moved
from eval.latent.conditions import UNKNOWN, condition_labels, middle_degree
from eval.latent.editing.background import Later
from eval.latent.editing.fits import Sliders, fit_attributes, fit_sliders
from eval.latent.editing.recipes import FaceSource, Given, Mean, Recipe, Sample, Stored, Uploaded
from eval.latent.editing.uploads import Uploads, latent_file
from eval.latent.encode import decode_images
from eval.latent.faces import read_faces
from eval.latent.options import open_data
from eval.latent.origin import snapshot_identity
from facegen.model import Model
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.images.alignment import Alignment, prepare_aligned
from shards.images.reading import BadImage, Preparation, prepare

_KEPT_LATENTS = 256
_KEPT_SAMPLERS = 4
Result = TypeVar("Result")


class Point(NamedTuple):
    """A latent and a condition, from which a picture is decoded."""

    latent: np.ndarray
    """float32 (L,)."""
    degree: float
    """Condition; NaN where it is unknown or the model has none."""


class Editor:
    """Edits faces with one run that decodes. Thread-safe.

    Attributes:
        name: What pages and requests call the run.
        model: The model.
        dataset: Faces of the model's image size, or None.
        sliders: The axes that faces are moved along, fitted in the background.
        attributes: The attribute vectors, fitted in the background.
        aligns: Whether photos can be aligned.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        dataset: Dataset | None,
        attribute_files: Sequence[str],
        uploads: Uploads,
        alignment: Alignment | None = None,
    ) -> None:
        """Fits nothing yet.

        Args:
            name: What pages and requests call the run.
            model: One that decodes.
            dataset: Faces to pick, and to fit components and attributes to.
            attribute_files: Attribute vectors fitted earlier; those of other models are skipped.
            uploads: Holds the photos and latents that recipes name.
            alignment: How photos are aligned, where a recipe asks for it.

        Raises:
            UserError: The faces have another size than the model's images.
        """
        self.name = name
        self.model = model
        self.dataset = None if dataset is None else open_data(dataset.address, model)
        self.sliders: Later[Sliders] = Later(
            f"the sliders of {name} are being fitted", lambda: fit_sliders(model, self.dataset)
        )
        self.attributes: Later[Attributes] = Later(
            f"the attributes of {name} are being fitted", lambda: fit_attributes(model, self.dataset, attribute_files)
        )
        self._uploads = uploads
        self._alignment = alignment
        self.aligns = alignment is not None
        self._jobs: dict[Hashable, Later] = {}
        # A slider moves one face many times; it is encoded once.
        self.start = lru_cache(maxsize=_KEPT_LATENTS)(self._start)
        self.drawn_by = lru_cache(maxsize=_KEPT_SAMPLERS)(self._drawn_by)

    @property
    def can_encode(self) -> bool:
        """Whether the run can encode faces."""
        return "encode" in self.model.can

    @cached_property
    def identity(self) -> str:
        """Identifies the run's weights."""
        return snapshot_identity(self.model)

    def in_background(self, key: Hashable, what: str, compute: Callable[[], Result]) -> Later[Result]:
        """A result that is computed once, in the background.

        Args:
            key: Asking again under the same key gives the same result.
            what: As ``Later`` takes it.
            compute: Makes the result.
        """
        return self._jobs.setdefault(key, Later(what, compute))

    def point(self, recipe: Recipe) -> Point:
        """The place in latent space that a recipe describes.

        Raises:
            UserError: A face, an axis or an attribute that this run lacks.
            NotYet: The recipe needs something that is still being fitted.
        """
        latent, degree = self.start(recipe.face)  # type: ignore[arg-type]
        moves = latent.astype(np.float64)
        if recipe.axes:
            axes = self.sliders.get().axes
            self.check_axes(recipe.axes)
            moves = moved(moves, axes, recipe.axes)
        if recipe.attributes:
            attributes = self.attributes.get()
            for name, strength in recipe.attributes.items():
                if name not in attributes.names:
                    raise UserError(f"{self.name} has no attribute of this name; its list of attributes has all names.")
                moves += strength * attributes.vector(name)
        return Point(moves.astype(np.float32), degree if recipe.degree is None else recipe.degree)

    def check_axes(self, numbers: Iterable[int]) -> None:
        """Checks that the run has these axes.

        Raises:
            UserError: It lacks one.
        """
        available = self.model.latent_size or 0
        for number in numbers:
            if number >= available:
                raise UserError(f"{self.name} has axes 0 to {available - 1}, not {number}.")

    def decode(self, latents: np.ndarray, degrees: np.ndarray | float) -> np.ndarray:
        """Latents (..., L) of degrees (...) as uint8 (..., H, W, C)."""
        return decode_images(self.model, latents, np.asarray(degrees, np.float32))

    def picture(self, recipe: Recipe) -> np.ndarray:
        """The face of a recipe, uint8 (H, W, C)."""
        return self.decode(*self.point(recipe))

    def original(self, face: FaceSource) -> np.ndarray:
        """A face as the encoder sees it, uint8 (H, W, C).

        Raises:
            UserError: The face was never a picture, or does not exist.
        """
        return self._read(face)[0]

    def squared_error(self, recipe: Recipe, image: np.ndarray) -> float | None:
        """Mean squared error on [-1, 1] of a picture against the original of its face; None without an original."""
        if not isinstance(recipe.face, Stored | Uploaded):
            return None
        difference = (image.astype(np.float64) - self.original(recipe.face)) / 127.5
        return float(np.mean(difference**2))

    def saved_latent(self, recipe: Recipe) -> bytes:
        """The latent of a recipe as a safetensors file, which the studio opens again."""
        return latent_file(self.point(recipe).latent, self.identity, self.name)

    def _start(self, face: FaceSource) -> Point:
        """The latent of a face before any change, and the face's own degree."""
        middle = middle_degree(self.model)
        if isinstance(face, Sample):
            return Point(self._sample(face), middle)
        if isinstance(face, Mean):
            axes = self.sliders.get().axes
            return Point((axes.centers @ axes.directions).astype(np.float32), middle)
        if isinstance(face, Given):
            return Point(self._given(face), middle)
        if not self.can_encode:
            raise UserError(f"{self.name} cannot encode faces; choose a run that can.")
        image, degree = self._read(face)
        return Point(self.model.encode(image[None], condition_labels(self.model, np.array([degree])))[0], degree)

    def _sample(self, face: Sample) -> np.ndarray:
        model = self.drawn_by(face.sampler)
        if "sample" in model.can:
            return model.sample_latents(1, seed=face.seed, std=face.std)[0].cpu().numpy()
        # Without a prior or a sampler: a normal distribution with the components' variances.
        axes = self.sliders.get().axes
        noise = self.model.prior(1, seed=face.seed)[0].cpu().numpy()
        return ((axes.centers + face.std * axes.units * noise) @ axes.directions).astype(np.float32)

    def _drawn_by(self, sampler: str | None) -> Model:
        """The model that samples with one of the run's samplers; None for the one that it was opened with."""
        if sampler in (None, self.model.sampler):
            return self.model
        if sampler not in self.model.samplers:
            there = ", ".join(self.model.samplers) or "none"
            raise UserError(f"{self.name} has no sampler of this name; it has {there}.")
        return self.model.with_sampler(sampler)

    def _given(self, face: Given) -> np.ndarray:
        latent = self._uploads.latent(face.token)
        if latent.snapshot != self.identity or latent.values.shape != (self.model.latent_size,):
            raise UserError(f"this latent belongs to other weights than {self.name}; choose the run it was saved from.")
        return latent.values

    def _read(self, face: FaceSource) -> tuple[np.ndarray, float]:
        """A face as pixels, and its degree; NaN where that is unknown."""
        if isinstance(face, Uploaded):
            return self._framed(face), UNKNOWN
        if not isinstance(face, Stored):
            raise UserError("this face was made by the model, so it has no original.")
        if self.dataset is None:
            raise UserError("the studio was started without --data DIR, so there are no faces to pick.")
        available = self.dataset.num_samples(face.split)
        if face.row >= available:
            raise UserError(f"the {face.split} split has rows 0 to {available - 1}, not {face.row}.")
        faces = read_faces(self.model, self.dataset, face.split, np.array([face.row]))
        return faces.images[0], float(faces.degrees[0])

    def _framed(self, face: Uploaded) -> np.ndarray:
        """An uploaded photo, framed as training images are, uint8 (H, W, C)."""
        pixels = self._uploads.photo(face.token).pixels
        channels, height, width = self.model.image_shape
        if height != width:
            raise UserError(f"photos need a model of square images, and those of {self.name} are {height}x{width}.")
        preparation = Preparation(height, channels, face.crop, "lanczos")
        if face.align:
            return self._aligned(pixels, preparation)
        try:
            return prepare(pixels, preparation)[0].copy()
        except BadImage:
            raise UserError("this part of the photo is empty; give left < right and upper < lower.") from None

    def _aligned(self, pixels: np.ndarray, preparation: Preparation) -> np.ndarray:
        if self._alignment is None:
            raise UserError("photos are not aligned for this run without --align TEMPLATE; frame the photo by hand.")
        try:
            # Where no face is found, the page offers to frame it by hand.
            return prepare_aligned(pixels, preparation, replace(self._alignment, without_face="skip"))[0].copy()
        except BadImage as error:
            raise UserError(f"this photo cannot be aligned ({error.reason}); frame it by hand.") from None
