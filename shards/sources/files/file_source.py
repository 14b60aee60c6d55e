"""The source of data sets whose image files say by their names what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from shards.base.names import Names, find_repeated
from shards.dataset.manifest import LabelField
from shards.images.reading import BadImage, Crop, open_image
from shards.sources.base import Item, LabelValue
from shards.sources.files.listing import path_key

BAD_NAME = "file name of another form"
"""Packing counts files under this reason whose names do not follow the data set's scheme."""


@dataclass(frozen=True)
class FileSource:
    """Image files below a folder. Implements ``shards.sources.base.Source``.

    Labels are read from the names on demand: a source of millions of files costs the bytes of their names.

    Attributes:
        name: Of the source.
        root: The folder.
        files: Relative paths of the images, with ``/``.
        key: The key of a file.
        labels: Gives the labels of a file; picklable. None for a name of another form: packing skips and counts it.
        fields: Label schema.
        provenance: For ``dataset.json``.
        identity_field: The class field that names the person.
        crop: Default crop of the raw image.
    """

    name: str
    root: Path
    files: Names
    key: Callable[[str], str]
    labels: Callable[[str], Mapping[str, LabelValue] | None]
    fields: dict[str, LabelField]
    provenance: dict[str, Any] = field(default_factory=dict)
    identity_field: str | None = None
    crop: Crop | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, position: int) -> Item:
        """The image at a position."""
        file = self.files[position]
        return Item(self.key(file), self.labels(file) or {}, ref=file)

    def without_listing(self) -> FileSource:
        """A copy that only loads."""
        return replace(self, files=Names(()))

    def load(self, item: Item) -> Image.Image:
        """Opens the image file.

        Raises:
            BadImage: As ``open_image``, and for a name of another form.
        """
        if self.labels(item.ref) is None:
            raise BadImage(BAD_NAME)
        return open_image(self.root / item.ref)


def name_key(file: str) -> str:
    """The file's name up to its first dot, without its folders."""
    return file.rsplit("/", 1)[-1].split(".", 1)[0]


def short_key(files: Names) -> Callable[[str], str]:
    """The shortest of three keys that tells all files apart: name, relative path without suffix, relative path."""
    for key in (name_key, path_key):
        if not find_repeated(partial(map, key, files)):
            return key
    return str
