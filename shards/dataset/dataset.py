"""A data set, opened for reading: its manifest, the columns of its index, and its shards."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from shards.base.errors import UserError
from shards.base.plain_files import open_plain
from shards.dataset.addresses import is_address
from shards.dataset.index_file import IndexFile, max_index_bytes
from shards.dataset.manifest import DATASET_FILE, INDEX_FILE, SPLITS, ImageFormat, LabelField, Shard, read_manifest
from shards.dataset.remote import Remote


class Dataset:
    """A complete data set, opened for reading. Picklable; columns load on first use.

    Attributes:
        address: Where it is, as the user gave it: a folder, or an address such as ``s3://bucket/faces``.
        root: Folder of its manifest and index on this machine.
        remote: Fetches the files of a data set behind an address; None for a folder.
        mix: Fingerprint of the mix that it is a part of, if any.
    """

    def __init__(self, root: str | Path) -> None:
        """Opens a folder or an address.

        Raises:
            UserError: Nothing is there, the packing is unfinished, the manifest is damaged, or its format is newer.
        """
        self.address = str(root)
        self.remote = Remote(self.address, DATASET_FILE) if is_address(self.address) else None
        self.root = self.remote.folder if self.remote else Path(root)
        self.manifest = read_manifest(self.root)
        self.fingerprint = self.manifest.fingerprint
        self.mix: str | None = None

    @property
    def image(self) -> ImageFormat:
        """Shape and codec of every image."""
        return self.manifest.image

    @property
    def fields(self) -> dict[str, LabelField]:
        """The label schema, by name."""
        return self.manifest.fields

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold at least one sample."""
        return tuple(name for name in SPLITS if self.num_samples(name))

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split, in index order."""
        return tuple(shard for shard in self.manifest.shards if shard.split == split)

    def shard_sizes(self, split: str) -> np.ndarray:
        """Samples of each shard of a split, int64, in index order."""
        return np.array([shard.num_samples for shard in self.shards(split)], np.int64)

    def num_samples(self, split: str) -> int:
        """Number of samples of a split, 0 if there is no such split."""
        return sum(shard.num_samples for shard in self.shards(split))

    def rows(self, split: str) -> slice:
        """The rows of the index that belong to a split."""
        start = 0
        for shard in self.manifest.shards:
            if shard.split == split:
                return slice(start, start + self.num_samples(split))
            start += shard.num_samples
        return slice(0, 0)

    def column(self, name: str, split: str) -> np.ndarray:
        """One index column (``offset`` or ``size``) of a split."""
        return self._index.column(name)[self.rows(split)]

    def checksums(self, split: str) -> np.ndarray | None:
        """CRC-32 (zlib's) of each image's bytes of a split, uint32; None in data sets without checksums."""
        return self.column("crc32", split) if self._index.has_checksums() else None

    def labels(self, name: str, split: str) -> np.ndarray:
        """One label column of a split.

        Raises:
            UserError: A field that the data set does not have.
        """
        if name not in self.fields:
            raise UserError(
                f"data set {self.address} has no label '{name}'; it has {', '.join(self.fields) or 'none'}."
            )
        return self._index.column(f"label.{name}")[self.rows(split)]

    def key(self, split: str, row: int) -> str:
        """The key of one sample; ``row`` counts within the split."""
        text, ends = self._index.keys
        position = self.rows(split).start + row
        start = ends[position - 1] if position else 0
        return text[start : ends[position]].tobytes().decode()

    def keys(self, split: str) -> list[str]:
        """The sample keys of a split, in index order."""
        rows = self.rows(split)
        text, ends = self._index.keys
        starts = np.concatenate([[0], ends[:-1]])
        return [text[starts[row] : ends[row]].tobytes().decode() for row in range(rows.start, rows.stop)]

    def check_index(self) -> None:
        """Reads the whole index once.

        Raises:
            DamagedFile: It is missing or damaged.
        """
        self._index.check()

    @property
    def parts(self) -> tuple[Dataset, ...]:
        """The data sets of a mix; a single one is its only part."""
        return (self,)

    def owner(self, shard: Shard) -> tuple[Dataset, Shard]:
        """The data set whose folder or address holds a shard, and the shard as that one names it."""
        return self, shard

    def open_shard(self, shard: Shard) -> int:
        """Opens a shard's file; the caller closes the descriptor.

        Raises:
            OSError: It is missing or unreadable.
            UserError: It cannot be fetched.
        """
        return self.remote.open(shard) if self.remote else open_plain(self.root / shard.name)

    @cached_property
    def _index(self) -> IndexFile:
        path = self.root / INDEX_FILE
        if self.remote is None:
            return IndexFile(path, self.manifest, f"make it again with: python -m shards.index {self.root}")
        self.remote.fetch(
            INDEX_FILE,
            max_index_bytes(self.manifest),
            lambda fetched: IndexFile(fetched, self.manifest, "copy it to its address again").check(),
        )
        return IndexFile(path, self.manifest, "delete it, then rerun the command")
