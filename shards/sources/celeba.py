"""CelebA, aligned and cropped images, with its 40 attributes, identities and official partition.

Source: Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. The images are 178x218; a subset, or
a copy at another scale, works as well.

The default crop is the box (15, 40)-(163, 188) of 178x218: 148x148 pixels as in most published work on VAEs and GANs,
five pixels below the center, where the aligned faces are. Stored as fractions, it fits a reduced copy of the images,
too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.base.errors import UserError
from shards.dataset.label_types import sorted_names
from shards.dataset.manifest import SPLITS, LabelField
from shards.images.reading import IMAGE_SUFFIXES, Crop, open_image
from shards.sources.base import Item, LabelValue, SourceEntry, emptied
from shards.sources.files.listing import listing

FACE_BOX: Crop = (15 / 178, 40 / 218, 163 / 178, 188 / 218)
_IMAGE_FOLDERS = ("img_align_celeba", "img_align_celeba_png")
MISSING = int(np.iinfo(np.int32).min)
"""Stands for a value that no label file has."""


@dataclass
class CelebaConfig:
    """CelebA's aligned images with attributes, identities and partition."""

    input: Path
    """Folder that holds img_align_celeba and the list_*.txt (or Kaggle's list_*.csv), directly or one level down."""


class CelebaSource:
    """All aligned images of a folder, in the order of their names, with the label files found beside them."""

    name = "celeba"
    crop: Crop | None = FACE_BOX

    def __init__(self, config: CelebaConfig) -> None:
        """Lists the images and reads the label files into arrays, a few bytes an image.

        Raises:
            UserError: No images, or a label file that is not in CelebA's format.
        """
        self._folder = find_image_folder(config.input)
        with listing(self._folder), os.scandir(self._folder) as entries:
            self._files = sorted(entry.name for entry in entries if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES)
        rows = {Path(name).stem: row for row, name in enumerate(self._files)}
        if len(rows) < len(self._files):  # A label file would describe both.
            first = next(name for row, name in enumerate(self._files) if rows[Path(name).stem] != row)
            raise UserError(f"{self._folder} holds {first} beside the same name with another extension; keep one.")
        tables = {
            stem: read_table(path) if (path := _find_table(config.input, self._folder, stem)) else None
            for stem in ("list_attr_celeba", "identity_CelebA", "list_eval_partition")
        }
        notes = [f"No {stem}.txt or .csv was found." for stem, table in tables.items() if table is None]

        attributes = tables["list_attr_celeba"]
        if attributes and not attributes.columns:
            raise UserError(f"{attributes.file} does not name its attributes; fetch the file again.")
        self._attribute_names = attributes.columns if attributes else ()
        self._attributes = _align(attributes, rows, "attributes", notes)
        self._identity = _first_column(_align(tables["identity_CelebA"], rows, "an identity", notes))
        self._partition = _first_column(_align(tables["list_eval_partition"], rows, "a partition", notes))
        _check_values(tables["list_attr_celeba"], (-1, 0, 1))
        _check_values(tables["list_eval_partition"], tuple(range(len(SPLITS))))

        self.fields = {name: LabelField("bool", description="CelebA attribute") for name in self._attribute_names}
        self.identity_field = "identity" if self._identity is not None else None
        if self._identity is not None:
            persons = np.unique(self._identity[self._identity != MISSING])
            classes = sorted_names(str(person) for person in persons)
            self.fields["identity"] = LabelField("class", classes, "CelebA's number of the person")
        self.provenance: dict[str, Any] = {
            "data_set": "CelebA, aligned, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
            "tree": self._folder.name,
            "num_files": len(self._files),
            "notes": notes,
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._files)

    def __getitem__(self, position: int) -> Item:
        """The image at a position."""
        file = self._files[position]
        return Item(
            key=Path(file).stem, labels=self._labels(position), ref=file, partition=self._partition_name(position)
        )

    def without_listing(self) -> CelebaSource:
        """A copy that only loads."""
        return emptied(self, _files=[], _attributes=None, _identity=None, _partition=None)

    def load(self, item: Item) -> Image.Image:
        """Opens the image file."""
        return open_image(self._folder / item.ref)

    def _labels(self, position: int) -> dict[str, LabelValue]:
        values = self._attributes[position].tolist()
        labels: dict[str, LabelValue] = {
            name: None if value == MISSING else value == 1
            for name, value in zip(self._attribute_names, values, strict=True)
        }
        if self._identity is not None:
            person = int(self._identity[position])
            labels["identity"] = None if person == MISSING else str(person)
        return labels

    def _partition_name(self, position: int) -> str | None:
        if self._partition is None or self._partition[position] == MISSING:
            return None
        return SPLITS[self._partition[position]]


@dataclass(frozen=True)
class CelebaTable:
    """A label file: one row an image.

    Attributes:
        file: Its name.
        columns: Names of the value columns; empty if the file does not name them.
        stems: File names of the images, without extension.
        values: int32 (num_images, num_columns).
    """

    file: str
    columns: tuple[str, ...]
    stems: list[str]
    values: np.ndarray


def read_table(path: Path) -> CelebaTable:
    """Reads a label file in the form of CelebA's authors (blanks, with or without count and header) or as CSV.

    Raises:
        UserError: Rows of different lengths, or values that are not whole numbers.
    """
    delimiter = "," if path.suffix == ".csv" else None
    another = UserError(
        f"{path} is not in CelebA's format, rows of a file name and whole numbers; fetch the file again."
    )
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError:
        raise another from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fix its permissions.") from None
    if lines and lines[0].isdigit():  # The number of rows.
        lines = lines[1:]
    columns: tuple[str, ...] = ()
    if lines and Path(_first_cell(lines[0], delimiter)).suffix.lower() not in IMAGE_SUFFIXES:
        header = lines[0].split(delimiter)
        # The text form names the value columns only, the CSV form the file column, too.
        columns, lines = tuple(header[1:] if delimiter else header), lines[1:]
    stems = [Path(_first_cell(line, delimiter)).stem for line in lines]
    try:
        # Only numpy's own parser reads the 8 million attributes of the full set in seconds.
        cells = [line.split(delimiter, 1)[1] for line in lines]
        values = np.loadtxt(cells, np.int32, comments=None, delimiter=delimiter, ndmin=2)
    except (ValueError, IndexError, OverflowError):
        raise another from None
    if len(values) != len(stems):  # numpy leaves out rows without values.
        raise another
    if columns and len(columns) != values.shape[1]:
        raise UserError(f"{path} names {len(columns)} columns and has {values.shape[1]}; fetch the file again.")
    return CelebaTable(path.name, columns, stems, values)


def _check_values(table: CelebaTable | None, allowed: tuple[int, ...]) -> None:
    if table is not None and not np.isin(table.values, allowed).all():
        row = int(np.argwhere(~np.isin(table.values, allowed))[0][0])
        values = ", ".join(map(str, allowed))
        raise UserError(f"{table.file} gives {table.stems[row]} a value other than {values}; fetch the file again.")


def _first_cell(line: str, delimiter: str | None) -> str:
    return line.split(delimiter, 1)[0]


def find_image_folder(root: Path) -> Path:
    """The folder of aligned images: ``root``, or one at most two levels below it.

    Raises:
        UserError: There is none, or it is empty.
    """
    # Kaggle's archive nests a folder of the same name.
    patterns = [f"{prefix}{name}" for name in _IMAGE_FOLDERS for prefix in ("", "*/", f"{name}/")]
    folders = [path for pattern in patterns for path in sorted(root.glob(pattern)) if path.is_dir()]
    for folder in filter(Path.is_dir, [*folders[::-1], root]):
        with listing(folder), os.scandir(folder) as entries:
            if any(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries):
                return folder
    raise UserError(f"no CelebA images at {root}: looked there and one level down for img_align_celeba/000001.jpg.")


def _find_table(root: Path, image_folder: Path, stem: str) -> Path | None:
    with listing(root):
        folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path != image_folder)]
    candidates = [
        folder / f"{stem}{suffix}" for folder in (*folders, image_folder.parent) for suffix in (".txt", ".csv")
    ]
    return next((path for path in candidates if path.is_file()), None)


def _align(table: CelebaTable | None, rows: Mapping[str, int], what: str, notes: list[str]) -> np.ndarray:
    """Sorts a table into the order of the images.

    Args:
        table: The label file, or None.
        rows: Position of each image by its stem.
        what: What an image without a row lacks, for the note.
        notes: Receives sentences about mismatches.

    Returns:
        int32 (num_images, num_columns), ``MISSING`` where the table has no row; no columns without a table.

    Raises:
        UserError: No row matches an image.
    """
    if table is None:
        return np.empty((len(rows), 0), np.int32)
    aligned = np.full((len(rows), table.values.shape[1]), MISSING, np.int32)
    has_row = np.zeros(len(rows), bool)
    num_unmatched = 0
    for stem, values in zip(table.stems, table.values, strict=True):
        row = rows.get(stem)
        if row is None:
            num_unmatched += 1
        else:
            aligned[row], has_row[row] = values, True
    if not has_row.any():
        raise UserError(f"no row of {table.file} names one of the {len(rows)} images; fetch the file again.")
    if not has_row.all():
        notes.append(f"{int((~has_row).sum())} images have no row in {table.file}, so they lack {what}.")
    if num_unmatched:
        notes.append(f"{num_unmatched} rows of {table.file} name images that are not there.")
    return aligned


def _first_column(values: np.ndarray) -> np.ndarray | None:
    return values[:, 0] if values.shape[1] else None


SOURCE = SourceEntry(
    CelebaConfig,
    lambda config, size: CelebaSource(config),
    elsewhere="CelebA is for non-commercial research by those who agree to its terms: get img_align_celeba.zip and the "
    "list_*.txt files at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, unpack them into one folder, then run: "
    "python -m shards.pack celeba FOLDER OUTPUT",
)
