"""Writes one shard of a packing plan: a pure function of the plan, whoever calls it, wherever and how often."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards.base.ahead import ahead
from shards.base.errors import UserError
from shards.base.printing import printable
from shards.base.retrying import persistently
from shards.dataset.tar import ShardWriter, member_key, sha256_file
from shards.images.alignment import FACELESS, Alignment, prepare_aligned
from shards.images.codecs import encode
from shards.images.reading import BadImage, Preparation, prepare
from shards.packing.plan import Encoding, ShardTask, smallest_type
from shards.packing.versions import installed_versions
from shards.sources.base import Item, Source, without_listing

_AHEAD_OF_A_READER = 4
"""Prepared images, small ones, that may wait for each thread that loads: a request that stalls then holds up none."""


@dataclass(frozen=True)
class ShardJob:
    """What is the same for every shard of a packing: the source, and how its images are stored.

    Picklable; a copy made by pickling loads images and lists none.
    """

    source: Source
    preparation: Preparation
    encoding: Encoding
    alignment: Alignment | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": without_listing(self.source)}


@dataclass(frozen=True)
class ListedTask:
    """A shard to write, and the items that go into it."""

    task: ShardTask
    items: Sequence[Item]


def listed(source: Source, tasks: Iterable[ShardTask]) -> Iterator[ListedTask]:
    """Looks up the items of each task when it is asked for."""
    for task in tasks:
        yield ListedTask(task, [source[position] for position in task.positions.tolist()])


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard task.

    Attributes:
        name: The shard's file name.
        num_bytes: Size of the file; 0 if every item was skipped: then there is no file.
        sha256: Checksum of the file.
        positions: The packed items, by position in the source, in file order.
        offsets: Where each image starts in the file.
        sizes: How many bytes each image has.
        crc32: Checksum of each image's bytes; none in the results of older versions.
        skipped: Name and reason of each item that could not be packed.
        num_enlarged: Images that were smaller than the packed size.
        faceless: Items in which alignment found no upright face, skipped or not, by position in the source.
        versions: Of the packages that the bytes depend on; none in the results of older versions.
    """

    name: str
    num_bytes: int
    sha256: str
    positions: Sequence[int] | np.ndarray
    offsets: Sequence[int] | np.ndarray
    sizes: Sequence[int] | np.ndarray
    skipped: list[tuple[str, str]]
    num_enlarged: int
    faceless: list[int] = field(default_factory=list)
    crc32: Sequence[int] | np.ndarray = ()
    versions: dict[str, str] = field(default_factory=dict)

    def compact(self) -> ShardResult:
        """The same with arrays of the smallest types that hold them: about 15 bytes an image."""
        columns = {name: np.array(getattr(self, name), np.int64) for name in ("positions", "offsets", "sizes", "crc32")}
        return replace(self, **{name: column.astype(smallest_type(column)) for name, column in columns.items()})


def write_shard(job: ShardJob, listed: ListedTask, path: Path, on_image: Callable[[], object]) -> ShardResult:
    """Writes the tar file of one shard; file and result depend on job and task, and on installed packages, only.

    Args:
        job: Source and image options.
        listed: The items.
        path: Where to write. The file is not yet durable, and has no samples if every item was skipped.
        on_image: Called after each item, packed or skipped.

    Raises:
        OSError: The disk is full or not writable.
        UserError: An image cannot be read for now; nothing is skipped for that.
    """
    positions, offsets, sizes, crc32, skipped, faceless, num_enlarged = [], [], [], [], [], [], 0
    num_readers = getattr(job.source, "num_readers", 0)
    prepared = ahead(partial(_prepare, job), listed.items, num_readers, num_readers * _AHEAD_OF_A_READER)
    with ShardWriter(path) as writer, closing(prepared):
        for position, item, prepared_image in zip(listed.task.positions.tolist(), listed.items, prepared, strict=True):
            try:
                pixels, enlarged, has_face = prepared_image()
            except UserError:
                raise
            except (OSError, ValueError) as error:
                reason = error.reason if isinstance(error, BadImage) else "damaged image"
                skipped.append((_name(item), reason))
                faceless += [position] if reason in FACELESS else []
            else:
                key = member_key(item.key)
                data = encode(pixels, job.encoding.extension, **job.encoding.codec_options)
                offsets.append(writer.add(key, job.encoding.extension, data))
                writer.add(key, "json", _labels_json(item))
                positions.append(position)
                sizes.append(len(data))
                crc32.append(zlib.crc32(data))
                num_enlarged += enlarged
                faceless += [] if has_face else [position]
            on_image()
    return ShardResult(
        name=listed.task.name,
        num_bytes=path.stat().st_size if positions else 0,
        sha256=sha256_file(path),
        positions=positions,
        offsets=offsets,
        sizes=sizes,
        skipped=skipped,
        num_enlarged=num_enlarged,
        faceless=faceless,
        crc32=crc32,
        versions=installed_versions(job.encoding.extension, job.alignment is not None),
    )


def _name(item: Item) -> str:
    """For messages: files are reported by their path, rendered items by their key."""
    return printable(item.ref if isinstance(item.ref, str) else item.key)


def _prepare(job: ShardJob, item: Item) -> tuple[np.ndarray, bool, bool]:
    """Pixels of an item, whether it was enlarged, and whether it has a face (True without alignment)."""

    def attempt() -> tuple[np.ndarray, bool, bool]:
        image = job.source.load(item)
        if job.alignment is not None:
            return prepare_aligned(image, job.preparation, job.alignment)
        return *prepare(image, job.preparation), True

    return persistently(_name(item), attempt)


def _labels_json(item: Item) -> bytes:
    """The labels that are not missing: neither None nor NaN, which JSON lacks."""
    labels = {name: value for name, value in item.labels.items() if value is not None and value == value}
    return json.dumps(labels, allow_nan=False).encode()
