"""Labeled Faces in the Wild: the raw tree ``lfw-deepfunneled/<Person>/<Person>_0001.jpg`` of 250x250 images.

Source: http://vis-www.cs.umass.edu/lfw/. The default crop is LFWcrop's (Sanderson & Lovell, ICB 2009,
http://conradsanderson.id.au/lfwcrop/): the box whose corner pixels are (83, 92) and (166, 175), both of them inside, so
84x84 pixels.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from shards.base.errors import UserError
from shards.dataset.manifest import LabelField
from shards.images.reading import Crop, open_image
from shards.sources.base import Item
from shards.sources.file_source import find_tree

LFWCROP_BOX: Crop = (83, 92, 167, 176)
_IMAGE_NAME = re.compile(r"(.+)_\d{4}\.(jpg|jpeg|png|ppm|pgm)", re.IGNORECASE)
_NUM_PROBED_FOLDERS = 20


@dataclass
class LfwConfig:
    """Labeled Faces in the Wild, raw tree; cropped as LFWcrop is."""

    input: Path
    """Folder that holds lfw-deepfunneled (or lfw, lfw-funneled), at most two levels down, or that tree itself."""


class LfwSource:
    """All images of the tree, in order of their names; the key is the file's stem, as ``pairs.txt`` uses it."""

    name = "lfw"
    identity_field: str | None = "identity"
    crop: Crop | None = LFWCROP_BOX

    def __init__(self, config: LfwConfig) -> None:
        """Lists the tree.

        Raises:
            UserError: No such tree there.
        """
        self._tree = find_tree_of_people(config.input)
        self._files: list[str] = []
        persons = []
        for folder in sorted(entry.name for entry in os.scandir(self._tree) if entry.is_dir()):
            files = sorted(name for name in os.listdir(self._tree / folder) if _IMAGE_NAME.fullmatch(name))
            self._files += [f"{folder}/{name}" for name in files]
            persons += [folder] if files else []
        self.fields = {"identity": LabelField("class", tuple(persons), "name of the person")}
        self.provenance: dict[str, Any] = {
            "data_set": "Labeled Faces in the Wild, http://vis-www.cs.umass.edu/lfw/",
            "tree": self._tree.name,
            "num_files": len(self._files),
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    def __getitem__(self, position: int) -> Item:
        """The image at a position."""
        file = self._files[position]
        person, name = file.split("/")
        return Item(key=Path(name).stem, labels={"identity": person}, ref=file)

    def load(self, item: Item) -> Image.Image:
        """Opens the image file."""
        return open_image(self._tree / item.ref)


def find_tree_of_people(root: Path) -> Path:
    """The folder of person folders: ``root`` or one that is at most two levels below it.

    Raises:
        UserError: There is none.
    """
    tree = find_tree(root, _is_tree)
    if tree is None:
        raise UserError(
            f"no LFW tree at {root}: looked there and two levels down for <Person>/<Person>_0001.jpg, "
            "such as lfw-deepfunneled/Aaron_Eckhart/Aaron_Eckhart_0001.jpg."
        )
    return tree


def _is_tree(folder: Path) -> bool:
    """Whether one of the first person folders holds an image that is named after the folder."""
    with os.scandir(folder) as entries:
        folders = list(itertools.islice((entry for entry in entries if entry.is_dir()), _NUM_PROBED_FOLDERS))
    for entry in folders:
        matches = (_IMAGE_NAME.fullmatch(name) for name in os.listdir(entry.path))
        if any(match and match.group(1) == entry.name for match in matches):
            return True
    return False
