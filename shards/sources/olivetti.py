"""Olivetti faces (AT&T, ORL): ten gray pictures of 64x64 pixels of each of 40 people, in one file of pixels.

Source: Samaria, Harter: Parameterisation of a Stochastic Model for Human Face Identification, 1994; the 64x64 version
is Sam Roweis's ``olivettifaces.mat``, which scikit-learn uses, too. An ``.npz`` with an array of images and one of
people, under any names, works as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.base.errors import UserError
from shards.dataset.manifest import LabelField
from shards.images.reading import Crop
from shards.sources.base import FIGSHARE, Item, Published, PublishedFile, SourceEntry

SIZE, PICTURES_OF_PERSON = 64, 10


@dataclass
class OlivettiConfig:
    """Olivetti faces, with the person; pack them with --channels 1, since they are gray."""

    input: Path
    """olivettifaces.mat, an .npz of images and people, or a folder that holds one of them."""


class OlivettiSource:
    """The pictures in the file's order. Implements ``shards.sources.base.Source``."""

    name = "olivetti"
    identity_field: str | None = "identity"
    crop: Crop | None = None

    def __init__(self, config: OlivettiConfig) -> None:
        """Reads the pixels: 1.6 MB.

        Raises:
            UserError: No such file, or one that holds something else.
        """
        path = _find_file(config.input)
        self._images, self._people = read_mat(path) if path.suffix == ".mat" else read_npz(path)
        classes = tuple(str(person) for person in range(int(self._people.max()) + 1))
        self.fields = {"identity": LabelField("class", classes, "number of the person, from 0")}
        self.provenance: dict[str, Any] = {
            "data_set": "Olivetti faces (AT&T Laboratories Cambridge)",
            "file": path.name,
            "num_files": len(self._images),
        }

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._images)

    def __getitem__(self, position: int) -> Item:
        """The picture at a position; the key is PERSON/PICTURE, both from 0."""
        person = int(self._people[position])
        picture = int((self._people[:position] == person).sum())
        return Item(f"{person:02d}/{picture:02d}", {"identity": str(person)}, ref=position)

    def load(self, item: Item) -> np.ndarray:
        """The picture: uint8 (64, 64)."""
        return self._images[item.ref]


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads ``olivettifaces.mat``, whose columns are pictures, column by column.

    Returns:
        uint8 (N, 64, 64) and int64 (N,), the number of the person from 0.

    Raises:
        UserError: The file holds something else.
    """
    # Imported here: scipy takes longer to import than the rest of packing.
    import scipy.io

    try:
        faces = scipy.io.loadmat(path, variable_names=["faces"])["faces"]
        images = faces.T.reshape(-1, SIZE, SIZE).transpose(0, 2, 1)
    except Exception:  # scipy raises whatever it meets in a damaged file.
        raise UserError(f"{path} does not hold 64x64 Olivetti faces; fetch it again.") from None
    return _as_uint8(images, path), np.arange(len(images)) // PICTURES_OF_PERSON


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads an archive of one array of images (N, 64, 64), uint8 or float in [0, 1], and one of people (N,).

    Raises:
        UserError: The file holds other arrays.
    """
    try:
        with np.load(path) as archive:
            arrays = list(archive.values())
    except Exception:  # numpy raises whatever it meets in a damaged file.
        raise UserError(f"{path} is not an .npz of arrays; fetch it again.") from None
    images = [array for array in arrays if array.ndim == 3 and array.shape[1:] == (SIZE, SIZE)]
    people = [array for array in arrays if array.ndim == 1 and np.issubdtype(array.dtype, np.integer)]
    if len(images) != 1 or len(people) != 1 or len(images[0]) != len(people[0]) or people[0].min(initial=0) < 0:
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
        raise UserError(f"{path} holds {shapes}, not images (N, 64, 64) and the number of each person (N,).")
    return _as_uint8(images[0], path), people[0].astype(np.int64)


def _as_uint8(images: np.ndarray, path: Path) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if not (images.size and images.min() >= 0 and images.max() <= 1):
        raise UserError(f"the pixels in {path} are neither uint8 nor floats from 0 to 1; fetch it again.")
    return np.round(images * 255).astype(np.uint8)


def _find_file(path: Path) -> Path:
    if path.is_file():
        return path
    candidates = [*sorted(path.glob("*olivetti*.mat")), *sorted(path.glob("*olivetti*.npz"))] if path.is_dir() else []
    candidates = [file for file in candidates if file.is_file()]  # Reading a pipe would wait for ever.
    if not candidates:
        raise UserError(f"no Olivetti faces at {path}: looked for olivettifaces.mat and olivetti*.npz.")
    return candidates[0]


_FILE = PublishedFile(
    "olivettifaces.mat",
    f"{FIGSHARE}5976027",
    sha256="b612fb967f2dc77c9c62d3e1266e0c73d5fca46a4b8906c18e454d41af987794",
)

SOURCE = SourceEntry(
    OlivettiConfig,
    lambda config, size: OlivettiSource(config),
    published={"olivetti": Published("olivetti", (_FILE,), "give credit to AT&T Laboratories Cambridge")},
)
