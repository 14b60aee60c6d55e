"""The plan of a packing, made before it starts: which item goes into which shard, and all that determines the bytes.

A shard's content is a pure function of the plan: shards may be written in any order, by any number of processes, and
again after an interruption, and always come out the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from shards.base.errors import UserError
from shards.base.names import Names, find_repeated
from shards.dataset.manifest import SPLITS
from shards.dataset.tar import member_key
from shards.images.alignment import Alignment
from shards.images.reading import Preparation
from shards.packing.splits import Fractions, hashed_order, split_by_identity, split_by_partition, split_by_sample
from shards.sources.base import Source

SplitBy = Literal["auto", "partition", "identity", "sample"]
_CHUNK = 8_192


@dataclass(frozen=True)
class Encoding:
    """How prepared images are stored: ``shards.images.codecs.encode``'s arguments."""

    extension: str
    codec_options: dict[str, Any]


@dataclass(frozen=True)
class Splitting:
    """How splits are made."""

    by: SplitBy
    fractions: Fractions
    seed: int


@dataclass(frozen=True)
class Inventory:
    """All that a source says about its items, as columns, from one pass over the source.

    Attributes:
        keys: Unique keys, safe as names inside a tar.
        labels: A column for each field of the schema.
        partitions: The data set's own split of each item, int8: position in ``SPLITS``, -1 for none.
    """

    keys: Names
    labels: dict[str, np.ndarray]
    partitions: np.ndarray

    def digest(self) -> str:
        """A hash that changes when any key, label or partition does."""
        content = hashlib.sha256()
        for piece in _json_pieces(self.keys, self.partitions):
            content.update(piece.encode())
        for name, column in sorted(self.labels.items()):
            content.update(name.encode() + column.tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: its file name, its split, and the positions of its items in the source."""

    name: str
    split: str
    positions: np.ndarray


@dataclass(frozen=True)
class PackingPlan:
    """A whole packing.

    Attributes:
        spec: Everything that determines the bytes of the data set, as JSON values: the same spec gives the same data
            set.
        preparation: From opened image to pixels.
        alignment: How faces are aligned; None leaves them where they are.
        encoding: From pixels to bytes.
        tasks: The shards, split by split.
        inventory: Keys and labels of all items.
        split: For the manifest: how the splits were made.
        notes: Sentences for the user.
    """

    spec: dict[str, Any]
    preparation: Preparation
    alignment: Alignment | None
    encoding: Encoding
    tasks: tuple[ShardTask, ...]
    inventory: Inventory
    split: dict[str, Any]
    notes: tuple[str, ...]


def make_plan(
    source: Source,
    preparation: Preparation,
    encoding: Encoding,
    splitting: Splitting,
    samples_per_shard: int,
    alignment: Alignment | None = None,
) -> PackingPlan:
    """Assigns items to splits and shards.

    Raises:
        UserError: A source without items, or one that cannot be split as asked.
    """
    if not len(source):
        raise UserError(f"source '{source.name}' has no images; check the input folder.")
    inventory = take_inventory(source)
    by, splits, notes = choose_splits(source, inventory, splitting)
    order = hashed_order(inventory.keys, splitting.seed, "order")
    tasks = [task for split in range(len(SPLITS)) for task in _shard_tasks(split, order, splits, samples_per_shard)]
    spec = {
        "source": source.name,
        "input": source.provenance,
        "items_sha256": inventory.digest(),
        "options": {
            **asdict(preparation),
            "crop": preparation.crop or "center",
            "codec": encoding.extension,
            "codec_options": encoding.codec_options,
            "samples_per_shard": samples_per_shard,
            "split_by": by,
            "val_fraction": splitting.fractions.val,
            "test_fraction": splitting.fractions.test,
            "seed": splitting.seed,
            **({"align": asdict(alignment)} if alignment else {}),
        },
    }
    return PackingPlan(
        spec=json.loads(json.dumps(spec)),
        preparation=preparation,
        alignment=alignment,
        encoding=encoding,
        tasks=tuple(tasks),
        inventory=inventory,
        split={"by": by, "fractions": asdict(splitting.fractions), "seed": splitting.seed},
        notes=(*source.provenance.get("notes", ()), *notes),
    )


def take_inventory(source: Source) -> Inventory:
    """Reads keys and labels of all items in chunks: only the columns stay in memory.

    Raises:
        UserError: Two items with the same key.
    """
    partitions = np.empty(len(source), np.int8)
    numbers = {None: -1} | {name: number for number, name in enumerate(SPLITS)}
    chunks: dict[str, list[np.ndarray]] = {name: [] for name in source.fields}

    def read() -> Iterator[str]:
        for start in range(0, len(source), _CHUNK):
            items = [source[position] for position in range(start, min(start + _CHUNK, len(source)))]
            partitions[start : start + len(items)] = [numbers[item.partition] for item in items]
            for name, field in source.fields.items():
                chunks[name].append(field.encode([item.labels.get(name) for item in items]))
            yield from (member_key(item.key) for item in items)

    keys = Names(read())
    repeated = find_repeated(lambda: keys)
    if repeated:
        raise UserError(
            f"source '{source.name}' has more than one image called '{min(repeated)}', such as a .jpg beside a .png; "
            "keep one of them."
        )
    return Inventory(keys, {name: np.concatenate(columns) for name, columns in chunks.items()}, partitions)


def _json_pieces(keys: Names, partitions: np.ndarray) -> Iterator[str]:
    """``json.dumps([keys, partitions])`` piece by piece, with the partitions by name."""
    names = np.array([*SPLITS, None], object)  # -1, for none, is the last.
    columns = (("[[", lambda part: list(keys[part])), ("], [", lambda part: names[partitions[part]].tolist()))
    for opening, column in columns:
        for start in range(0, len(keys), _CHUNK):
            yield opening + json.dumps(column(slice(start, start + _CHUNK)))[1:-1]
            opening = ", "
    yield "]]"


def smallest_type(values: np.ndarray) -> np.dtype:
    """The smallest type for whole numbers that are not negative."""
    return np.min_scalar_type(int(values.max(initial=0)))


def choose_splits(source: Source, inventory: Inventory, splitting: Splitting) -> tuple[str, np.ndarray, list[str]]:
    """Splits the items.

    ``auto`` takes the data set's own partition if it fills more than one split, else identities if the source has
    them, else single samples.

    Returns:
        How it was split, int8 (num_items,) positions in ``SPLITS``, and sentences for the user.

    Raises:
        UserError: The source has no partition or identities to split by.
    """
    by, notes = splitting.by, []
    named = {SPLITS[number] for number in np.unique(inventory.partitions) if number >= 0}
    if by == "auto":
        by = "partition" if len(named) > 1 else "identity" if source.identity_field else "sample"
        if len(named) == 1:
            notes.append(f"The data set's own partition puts all images into {named.pop()}: splitting by {by} instead.")
    if by == "partition":
        if not named:
            raise UserError(f"source '{source.name}' has no partition of its own; pass --split_by auto.")
        num_unnamed = int((inventory.partitions < 0).sum())
        if num_unnamed:
            notes.append(f"{num_unnamed} images are not in the data set's own partition and are used for training.")
        return by, split_by_partition(inventory.partitions), notes
    if by == "identity":
        if source.identity_field is None:
            raise UserError(f"source '{source.name}' names no identities; pass --split_by sample.")
        field, column = source.fields[source.identity_field], inventory.labels[source.identity_field]
        identities = (field.classes[position] if position >= 0 else None for position in column)
        return by, split_by_identity(inventory.keys, identities, splitting.fractions, splitting.seed), notes
    return by, split_by_sample(inventory.keys, splitting.fractions, splitting.seed), notes


def _shard_tasks(split: int, order: np.ndarray, splits: np.ndarray, samples_per_shard: int) -> Iterator[ShardTask]:
    """Cuts one split, in shuffled order, into shards whose sizes differ by at most one."""
    positions = order[splits[order] == split]
    positions = positions.astype(smallest_type(positions))
    num_shards = -(-len(positions) // samples_per_shard)
    if num_shards:
        for number, part in enumerate(np.array_split(positions, num_shards)):
            yield ShardTask(f"{SPLITS[split]}-{number:06d}.tar", SPLITS[split], part)
