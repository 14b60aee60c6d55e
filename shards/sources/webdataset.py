"""WebDataset shards of other programs, with images of any size and format, and the labels beside them.

``shards.index`` uses shards as they are, if all images already have the wanted size and codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from shards.base.ahead import ahead
from shards.base.errors import UserError
from shards.base.names import Names, find_repeated
from shards.base.progress import tracked
from shards.dataset.label_types import Scalar, convert, find_identity, infer_fields
from shards.dataset.tar import Member, TarSample, read_samples_of
from shards.images.contents import CLASS_LABELS, not_consecutive, note_ignored, read_labels, split_of_name
from shards.images.reading import IMAGE_SUFFIXES, BadImage, Crop, open_image_bytes
from shards.sources.base import Item, SourceEntry, emptied
from shards.sources.files.listing import first_few
from shards.sources.files.shard_files import ShardFiles, names_of, open_shards

BAD_LABELS = "labels that cannot be read"
"""Packing counts samples under this reason whose json, cls or txt is damaged."""

_IMAGE_EXTENSIONS = tuple(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))


@dataclass
class WebdatasetConfig:
    """WebDataset shards with images of any size; labels from the members json, cls and txt of each sample."""

    input: Path
    """A *.tar, a folder that is searched recursively for them, or a pattern such as 'faces-{0000..0009}.tar' or
    'faces-*.tar' in quotation marks; each may be an address such as s3://bucket/faces."""
    image: str | None = None
    """Extension of the image to take, such as left.jpg; the first image of a sample when not given."""
    identity_label: str | None = None
    """Label that names the person; one called identity, person or subject when not given."""


@dataclass
class _Listing:
    """What a shard holds, in the order of its files.

    Attributes:
        keys: Key of each sample.
        images: Where each image lies.
        labels: Scalars of each sample by name; None where they cannot be read.
        ignored: Labels that hold lists or objects.
        imageless: Samples without an image.
        ambiguous: Samples with several images.
    """

    keys: list[str] = field(default_factory=list)
    images: list[Member] = field(default_factory=list)
    labels: list[dict[str, Scalar] | None] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    imageless: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)


class WebdatasetSource:
    """All samples with an image, in the order of the shards. Implements ``shards.sources.base.Source``.

    Words such as ``train`` and ``val`` in the shards' names are the data set's own partition.
    """

    name = "webdataset"
    crop: Crop | None = None

    def __init__(self, config: WebdatasetConfig) -> None:
        """Lists the shards and reads the labels; images stay where they are.

        Raises:
            UserError: No shards, or compressed or damaged ones; no images; or no such label of people.
        """
        self._files = open_shards(config.input)
        self.num_readers = self._files.num_readers
        self._places = self._files.places
        names, listed = names_of(self._places), _list_shards(self._files, config.image)
        if not any(shard.keys for shard in listed):
            found = f"image .{config.image}" if config.image else "image"
            raise UserError(f"no sample in {config.input} holds an {found}; give shards of images.")
        images = [image for shard in listed for image in shard.images]
        self._shards = np.repeat(np.arange(len(listed), dtype=np.int32), [len(shard.keys) for shard in listed])
        self._offsets = np.array([image.offset for image in images], np.int64)
        self._sizes = np.array([image.size for image in images], np.int64)
        self._partitions = [split_of_name(name) for name in names]
        self._keys = _unique_keys(listed, names)
        self._is_labeled = np.array([labels is not None for shard in listed for labels in shard.labels])
        rows = [labels or {} for shard in listed for labels in shard.labels]
        self.fields, notes = infer_fields(rows, classes=CLASS_LABELS)
        self._columns = {
            name: convert([row.get(name) for row in rows], field.kind) for name, field in self.fields.items()
        }
        self.identity_field = find_identity(self.fields, config.identity_label)
        self.provenance: dict[str, Any] = {
            "num_files": len(self._keys),
            "num_shards": len(self._places),
            "image": config.image,
            "notes": [*_notes(listed), *note_ignored(set().union(*(shard.ignored for shard in listed))), *notes],
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._keys)

    def __getitem__(self, position: int) -> Item:
        """The image at a position."""
        labels = {name: column[position] for name, column in self._columns.items()}
        place = None
        if self._is_labeled[position]:
            shard = self._places[self._shards[position]]
            place = (shard, int(self._offsets[position]), int(self._sizes[position]))
        return Item(self._keys[position], labels, ref=place, partition=self._partitions[self._shards[position]])

    def without_listing(self) -> WebdatasetSource:
        """A copy that only loads."""
        nothing = dict.fromkeys(("_shards", "_offsets", "_sizes", "_is_labeled"), np.empty(0))
        return emptied(self, _places=[], _partitions=[], _keys=[], _columns={}, **nothing)

    def load(self, item: Item) -> Image.Image:
        """Decodes the image.

        Raises:
            BadImage: As ``open_image_bytes``, and for labels that cannot be read.
        """
        if item.ref is None:
            raise BadImage(BAD_LABELS)
        return open_image_bytes(self._files.read(*item.ref))


def _list_shards(files: ShardFiles, image: str | None) -> list[_Listing]:
    """Reads headers and labels of all shards.

    Raises:
        UserError: A compressed or damaged shard, or one in which a sample's files are not consecutive.
    """
    found = ahead(partial(_list_shard, files, image), files.places, files.num_listers)
    with closing(found), closing(tracked(found, "reading", len(files.places), "shards")) as counted:
        return [listed() for listed in counted]


def _list_shard(files: ShardFiles, image: str | None, place: str) -> _Listing:
    listed, seen = _Listing(), set()
    with files.opening(place) as file:
        for sample in read_samples_of(file, place):
            if sample.key in seen:
                raise not_consecutive(place, sample.key)
            seen.add(sample.key)
            _list_sample(listed, file, sample, image)
    return listed


def _list_sample(listed: _Listing, file: BinaryIO, sample: TarSample, image: str | None) -> None:
    images = [member for member in sample.members if _is_image(member.extension, image)]
    if not images:
        listed.imageless.append(sample.key)
        return
    if len(images) > 1:
        listed.ambiguous.append(sample.key)
    listed.keys.append(sample.key)
    listed.images.append(images[0])
    try:
        listed.labels.append(read_labels(file, sample, listed.ignored))
    except UserError:  # The server fails.
        raise
    except ValueError:
        listed.labels.append(None)


def _is_image(extension: str, wanted: str | None) -> bool:
    if wanted is not None:
        return extension == wanted.lower().lstrip(".")
    return extension.rsplit(".", 1)[-1] in _IMAGE_EXTENSIONS


def _unique_keys(listed: Sequence[_Listing], names: Sequence[str]) -> Names:
    """The samples' own keys, or SHARD/KEY where shards repeat them."""
    if not find_repeated(lambda: chain.from_iterable(shard.keys for shard in listed)):
        return Names(key for shard in listed for key in shard.keys)
    return Names(f"{name}/{key}" for name, shard in zip(names, listed, strict=True) for key in shard.keys)


def _notes(listed: Sequence[_Listing]) -> list[str]:
    notes = []
    imageless = [key for shard in listed for key in shard.imageless]
    if imageless:
        notes.append(f"{len(imageless)} samples hold no image and are left out: {first_few(imageless)}")
    ambiguous = [key for shard in listed for key in shard.ambiguous]
    if ambiguous:
        num, named = len(ambiguous), first_few(ambiguous)
        notes.append(f"{num} samples hold several images, of which the first is taken (see --image): {named}")
    return notes


SOURCE = SourceEntry(
    WebdatasetConfig,
    lambda config, size: WebdatasetSource(config),
    elsewhere="shards of your own need no fetching: python -m shards.pack webdataset SHARDS OUTPUT",
)
