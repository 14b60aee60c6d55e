"""Any folder of images, with labels from sub-folders and from a CSV or JSONL file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from shards.base.errors import UserError
from shards.base.names import Names
from shards.base.printing import printable
from shards.dataset.label_types import Scalar, sorted_names
from shards.dataset.manifest import LabelField
from shards.images.reading import IMAGE_SUFFIXES, Crop
from shards.sources.base import Item, SourceEntry, emptied
from shards.sources.files.label_table import join_labels
from shards.sources.files.listing import first_few, unique_keys
from shards.sources.files.tree import Tree, open_tree


@dataclass
class FolderConfig:
    """A folder of images, searched recursively; labels from sub-folders and from a CSV or JSONL file."""

    input: Path
    """The folder, or an address such as s3://bucket/photos."""
    labels: Path | None = None
    """CSV with a header, or JSONL; looked for as given, then inside the folder. Rows are matched to images by relative
    path, file name or stem."""
    label_key: str | None = None
    """Column of the label file that names the image; the first one when not given."""
    subfolders: Literal["class", "identity", "ignore"] = "class"
    """What the top-level sub-folders stand for: classes, persons (no person is in two splits) or nothing."""


class FolderSource:
    """All image files below a folder, in the order of their relative paths; the key is the path without its suffix."""

    name = "folder"
    crop: Crop | None = None

    def __init__(self, config: FolderConfig) -> None:
        """Lists the folder and joins the labels.

        Raises:
            UserError: No folder or no images there, or a label file that cannot be joined.
        """
        self._tree = open_tree(config.input)
        self.num_readers = self._tree.num_readers
        label_file = _find_label_file(config, self._tree)
        files, others = self._tree.list(exclude=label_file)
        if not files:
            raise UserError(f"no image files below {self._tree}; known are {' '.join(sorted(IMAGE_SUFFIXES))}.")
        self._files = Names(files)
        self._keys = Names(unique_keys(files))
        self.fields: dict[str, LabelField] = {}
        self._columns: dict[str, list[Scalar]] = {}
        self.identity_field: str | None = None
        notes = []
        if others:
            notes.append(f"{len(others)} files do not have the name of an image and were left out: {first_few(others)}")

        if label_file:
            table = self._tree.table(label_file, config.label_key)
            joined = join_labels(table, files)
            notes += joined.notes
            self.fields |= joined.fields
            self._columns |= joined.columns
            self.identity_field = joined.identity_field
        if config.subfolders != "ignore":
            self._label_by_subfolder(config.subfolders, notes)
        self.provenance: dict[str, Any] = {
            "num_files": len(files),
            "subfolders": config.subfolders,
            "label_file": Path(label_file).name if label_file else None,
            "notes": notes,
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    def __getitem__(self, position: int) -> Item:
        """The image at a position."""
        labels = {name: column[position] for name, column in self._columns.items()}
        return Item(self._keys[position], labels, ref=self._files[position])

    def without_listing(self) -> FolderSource:
        """A copy that only loads."""
        return emptied(self, _files=Names(()), _keys=Names(()), _columns={})

    def load(self, item: Item) -> Image.Image:
        """Opens the image file."""
        return self._tree.open(item.ref)

    def _label_by_subfolder(self, kind: Literal["class", "identity"], notes: list[str]) -> None:
        # A label is text everywhere else: in JSON, on pages, in tables.
        tops = [printable(file.split("/")[0]) if "/" in file else None for file in self._files]
        names = sorted_names({top for top in tops if top is not None})
        if not names:
            return
        if kind in self.fields:
            raise UserError(f"both the label file and the sub-folders give '{kind}'; pass --subfolders ignore.")
        if kind == "identity":
            self.identity_field = kind
        else:
            notes.append(
                f"The {len(names)} sub-folders became the label 'class'; if each is one person, pass "
                "--subfolders identity, so that no person is in two splits."
            )
        self.fields[kind] = LabelField("class", names, "uppermost sub-folder")
        self._columns[kind] = list(tops)


def _find_label_file(config: FolderConfig, tree: Tree) -> str | Path | None:
    if config.labels is None:
        return None
    found = tree.find(config.labels)
    if found is None:
        raise UserError(f"there is no label file {config.labels}, neither here nor in {tree}; give its path.")
    return found


SOURCE = SourceEntry(
    FolderConfig,
    lambda config, size: FolderSource(config),
    elsewhere="a folder of your own needs no fetching: python -m shards.pack folder FOLDER OUTPUT",
)
