"""WebDataset shards of other programs, with images of any size and format, and the labels beside them.

``shards.index`` uses shards as they are, if all images already have the wanted size and codec.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from braceexpand import braceexpand
from PIL import Image

from shards.base.errors import UserError
from shards.base.names import Names, find_repeated
from shards.base.progress import tracked
from shards.dataset.addresses import refuse_address
from shards.dataset.label_types import Scalar, convert, find_identity, infer_fields
from shards.dataset.tar import Member, TarSample, read_samples
from shards.images.contents import CLASS_LABELS, not_consecutive, note_ignored, read_labels, split_of_name
from shards.images.reading import IMAGE_SUFFIXES, BadImage, Crop, open_image_bytes
from shards.sources.base import Item, SourceEntry, emptied
from shards.sources.files.listing import first_few, list_files, listing

BAD_LABELS = "labels that cannot be read"
"""Packing counts samples under this reason whose json, cls or txt is damaged."""

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)", re.ASCII)
_MAX_SHARDS = 1_000_000
"""In one range: braceexpand lists all of them in memory."""
_IMAGE_EXTENSIONS = tuple(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))


@dataclass
class WebdatasetConfig:
    """WebDataset shards with images of any size; labels from the members json, cls and txt of each sample."""

    input: Path
    """A *.tar, a folder that is searched recursively for them, or a pattern such as 'faces-{0000..0009}.tar' or
    'faces-*.tar' in quotation marks."""
    image: str | None = None
    """Extension of the image to take, such as left.jpg; the first image of a sample when not given."""
    identity_label: str | None = None
    """Label that names the person; one called identity, person or subject when not given."""

    def __post_init__(self) -> None:
        """Raises ValueError for an address."""
        refuse_address(self.input, "copy the shards to this machine")


@dataclass
class _Listing:
    """What the shards hold, in the order of their names and files.

    Attributes:
        shards: Position of each sample's shard.
        keys: Key of each sample inside its shard.
        images: Where each image lies in its shard.
        labels: Scalars of each sample by name; None where they cannot be read.
        ignored: Labels that hold lists or objects.
        imageless: Samples without an image.
        ambiguous: Samples with several images.
    """

    shards: list[int]
    keys: list[str]
    images: list[Member]
    labels: list[dict[str, Scalar] | None]
    ignored: set[str]
    imageless: list[str]
    ambiguous: list[str]


class WebdatasetSource:
    """All samples with an image, in the order of the shards. Implements ``shards.sources.base.Source``.

    Words such as ``train`` and ``val`` in the shards' names are the data set's own partition.
    """

    name = "webdataset"
    crop: Crop | None = None

    def __init__(self, config: WebdatasetConfig) -> None:
        """Lists the shards and reads the labels; images stay on the disk.

        Raises:
            UserError: No shards, or compressed or damaged ones; no images; or no such label of people.
        """
        self._paths = find_shards(config.input)
        names = _names_of(self._paths)
        listed = _list_samples(self._paths, config.image)
        if not listed.keys:
            found = f"image .{config.image}" if config.image else "image"
            raise UserError(f"no sample in {config.input} holds an {found}; give shards of images.")
        self._shards = np.array(listed.shards, np.int32)
        self._offsets = np.array([image.offset for image in listed.images], np.int64)
        self._sizes = np.array([image.size for image in listed.images], np.int64)
        self._partitions = [split_of_name(name) for name in names]
        self._keys = _unique_keys(listed, names)
        self._is_labeled = np.array([labels is not None for labels in listed.labels])
        rows = [labels or {} for labels in listed.labels]
        self.fields, notes = infer_fields(rows, classes=CLASS_LABELS)
        self._columns = {
            name: convert([row.get(name) for row in rows], field.kind) for name, field in self.fields.items()
        }
        self.identity_field = find_identity(self.fields, config.identity_label)
        self.provenance: dict[str, Any] = {
            "num_files": len(self._keys),
            "num_shards": len(self._paths),
            "image": config.image,
            "notes": [*_notes(listed), *note_ignored(listed.ignored), *notes],
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._keys)

    def __getitem__(self, position: int) -> Item:
        """The image at a position."""
        labels = {name: column[position] for name, column in self._columns.items()}
        place = None
        if self._is_labeled[position]:
            path = self._paths[self._shards[position]]
            place = (path, int(self._offsets[position]), int(self._sizes[position]))
        return Item(self._keys[position], labels, ref=place, partition=self._partitions[self._shards[position]])

    def without_listing(self) -> WebdatasetSource:
        """A copy that only loads."""
        nothing = dict.fromkeys(("_shards", "_offsets", "_sizes", "_is_labeled"), np.empty(0))
        return emptied(self, _paths=[], _partitions=[], _keys=[], _columns={}, **nothing)

    def load(self, item: Item) -> Image.Image:
        """Decodes the image.

        Raises:
            BadImage: As ``open_image_bytes``, and for labels that cannot be read.
        """
        if item.ref is None:
            raise BadImage(BAD_LABELS)
        path, offset, size = item.ref
        try:
            with open(path, "rb") as file:
                return open_image_bytes(_read(file, offset, size))
        except FileNotFoundError:
            raise BadImage("missing file") from None


def find_shards(given: Path) -> list[Path]:
    """The shards that an input stands for, sorted by name, each once.

    Raises:
        UserError: There are none, or one that the pattern names is missing.
    """
    words = [str(given)] if os.path.exists(given) else _expand_braces(str(given))
    found = {shard for word in words for path in _matches(word) for shard in _below(path)}
    if not found:
        raise UserError(f"no *.tar shards at {given}; give the folder that holds them, uncompressed, or a pattern.")
    return sorted(found)


def _expand_braces(pattern: str) -> Iterator[str]:
    for first, last in _RANGE.findall(pattern):
        if len(first + last) > 40 or abs(int(last) - int(first)) > _MAX_SHARDS:
            raise UserError(f"{first}..{last} in '{pattern}' names too many shards; give the folder that holds them.")
    try:
        yield from braceexpand(pattern)
    except ValueError:  # Unbalanced braces.
        raise UserError(f"the braces of '{pattern}' are not closed; write 'faces-{{0000..0009}}.tar'.") from None


def _matches(word: str) -> Iterator[Path]:
    """What a word without braces stands for; a missing file is an error."""
    if os.path.exists(word):
        yield Path(word)
    elif glob.has_magic(word):
        yield from map(Path, glob.iglob(word, recursive=True))
    else:
        raise UserError(f"there is no file or folder {word}; give a shard, a folder of *.tar shards, or a pattern.")


def _below(path: Path) -> Iterator[Path]:
    """The path itself, or the shards of a folder; links count, pipes and devices do not."""
    if path.is_dir():
        shards = [file for file in list_files(path)[1] if file.endswith(".tar") and not _is_hidden(file)]
        yield from (path / shard for shard in shards if (path / shard).is_file())
    elif path.is_file():
        yield path


def _is_hidden(file: str) -> bool:
    return file.rsplit("/", 1)[-1].startswith(".")


def _names_of(paths: Sequence[Path]) -> list[str]:
    """Relative paths without suffix: the same on every machine."""
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(root).with_suffix("").as_posix() for path in paths]


def _list_samples(paths: Sequence[Path], image: str | None) -> _Listing:
    """Reads headers and labels of all shards.

    Raises:
        UserError: A compressed or damaged shard, or one in which a sample's files are not consecutive.
    """
    listed = _Listing([], [], [], [], set(), [], [])
    for number, path in enumerate(tracked(paths, "reading", len(paths), "shards")):
        seen: set[str] = set()
        with listing(path), open(path, "rb") as file:
            for sample in read_samples(path):
                if sample.key in seen:
                    raise not_consecutive(path, sample.key)
                seen.add(sample.key)
                _list_sample(listed, number, file, sample, image)
    return listed


def _list_sample(listed: _Listing, shard: int, file: BinaryIO, sample: TarSample, image: str | None) -> None:
    images = [member for member in sample.members if _is_image(member.extension, image)]
    if not images:
        listed.imageless.append(sample.key)
        return
    if len(images) > 1:
        listed.ambiguous.append(sample.key)
    listed.shards.append(shard)
    listed.keys.append(sample.key)
    listed.images.append(images[0])
    try:
        listed.labels.append(read_labels(file, sample, listed.ignored))
    except ValueError:
        listed.labels.append(None)


def _is_image(extension: str, wanted: str | None) -> bool:
    if wanted is not None:
        return extension == wanted.lower().lstrip(".")
    return extension.rsplit(".", 1)[-1] in _IMAGE_EXTENSIONS


def _unique_keys(listed: _Listing, names: Sequence[str]) -> Names:
    """The samples' own keys, or SHARD/KEY where shards repeat them."""
    if not find_repeated(lambda: listed.keys):
        return Names(listed.keys)
    return Names(f"{names[shard]}/{key}" for shard, key in zip(listed.shards, listed.keys, strict=True))


def _notes(listed: _Listing) -> list[str]:
    notes = []
    if listed.imageless:
        num, named = len(listed.imageless), first_few(listed.imageless)
        notes.append(f"{num} samples hold no image and are left out: {named}")
    if listed.ambiguous:
        num, named = len(listed.ambiguous), first_few(listed.ambiguous)
        notes.append(f"{num} samples hold several images, of which the first is taken (see --image): {named}")
    return notes


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


SOURCE = SourceEntry(
    WebdatasetConfig,
    lambda config, size: WebdatasetSource(config),
    elsewhere="shards of your own need no fetching: python -m shards.pack webdataset SHARDS OUTPUT",
)
