"""How a data set frames its faces: which part of its images packing cut out, or how it aligned them.

A network learns where eyes and mouth are. Images of another framing look unlike its training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from shards.base.errors import DamagedFile
from shards.base.records import as_record
from shards.dataset.manifest import Manifest
from shards.images.alignment import Alignment, TemplateName, template_landmarks
from shards.images.reading import BadImage, Crop, crop_box
from shards.sources import SOURCES
from shards.sources.celeba import FACE_BOX
from shards.sources.lfw import LFWCROP_BOX

_ALIGNED_SOURCES: dict[str, tuple[TemplateName, tuple[int, int], Crop]] = {
    "lfw": ("lfw", (250, 250), LFWCROP_BOX),
    "celeba": ("celeba", (178, 218), FACE_BOX),
}
"""Data sets whose raw images are aligned: the template that frames faces as a box of them does, their size, the box."""
_OWN_IMAGES = ("folder", "hf", "webdataset")
"""Sources that say nothing about how the images were framed before."""
_TOLERANCE = 0.12
"""Framings are the same if no landmark differs by more than this share of the distance between the eyes. In the crop of
CelebA that is closest to LFW one differs by 0.11, since LFW's faces are tilted; no two templates are as near."""


@dataclass(frozen=True)
class Framing:
    """The framing of a data set's faces.

    Attributes:
        source: Name of the source.
        crop: What was cut out of the raw images: the largest centered square, or a box.
        align: How faces were aligned instead.
    """

    source: str
    crop: Literal["center"] | Crop
    align: Alignment | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Framing | None:
        """The framing that packing recorded; None for shards that were only indexed."""
        options: Mapping[str, Any] = manifest.provenance.get("options") or {}
        recorded = {name: options[name] for name in ("crop", "align") if name in options}
        try:
            return as_record({"source": manifest.provenance.get("source"), **recorded}, cls, "", "")
        except DamagedFile:  # A provenance may hold anything.
            return None

    @property
    def alignment(self) -> Alignment | None:
        """The alignment that frames photos alike, by their largest face; None where no template does."""
        landmarks = self.landmarks()
        if self.align is not None:
            return Alignment(self.align.template, self.align.margin, "largest")
        alike = (name for name in get_args(TemplateName) if _are_near(template_landmarks(Alignment(name)), landmarks))
        return next((Alignment(name, face="largest") for name in alike), None)

    def landmarks(self) -> np.ndarray | None:
        """Where the eyes, the nose and the mouth are, float64 (5, 2) of the side; None where that is not known."""
        if self.align is not None:
            return template_landmarks(self.align)
        if self.source not in _ALIGNED_SOURCES:
            return None
        template, size, box = _ALIGNED_SOURCES[self.source]
        landmarks = template_landmarks(Alignment(template))
        assert landmarks is not None
        try:
            ours = crop_box(size, None if self.crop == "center" else self.crop)
        except BadImage:  # Images of another size.
            return None
        own = np.array(crop_box(size, box), np.float64)
        raw = own[:2] + landmarks * (own[2:] - own[:2])
        return (raw - ours[:2]) / np.subtract(ours[2:], ours[:2])

    def differs_from(self, other: Framing) -> bool:
        """Whether faces lie elsewhere in the other's images; False where that is not known."""
        if self.align is not None and other.align is not None:
            return (self.align.template, self.align.margin) != (other.align.template, other.align.margin)
        ours, theirs = self.landmarks(), other.landmarks()
        if ours is not None and theirs is not None:
            return not _are_near(ours, theirs)
        if self._is_unknown() or other._is_unknown():
            return False
        return self._cut() != other._cut()

    def __str__(self) -> str:
        """Such as "celeba cropped at the center" and "folder aligned as lfw"."""
        if self.align is not None:
            margin = f" with the margin {self.align.margin:g}" if self.align.margin else ""
            return f"{self.source} aligned as {self.align.template}{margin}"
        box = "at the center" if self.crop == "center" else f"to {','.join(f'{edge:.4g}' for edge in self.crop)}"
        return f"{self.source} cropped {box}"

    def _is_unknown(self) -> bool:
        return self.align is None and (self.source in _OWN_IMAGES or self.source not in SOURCES)

    def _cut(self) -> tuple[str, Literal["center"] | Crop] | None:
        return (self.source, self.crop) if self.align is None else None


def _are_near(ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    if ours is None or theirs is None:
        return False
    unit = min(np.hypot(*(landmarks[1] - landmarks[0])) for landmarks in (ours, theirs))
    return bool(np.abs(ours - theirs).max() <= _TOLERANCE * unit)
