"""A data set, opened for reading: its manifest, the columns of its index, and its shards."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shards.base.errors import UserError
from shards.base.plain_files import open_plain
from shards.dataset.addresses import TooLong, is_address
from shards.dataset.index_file import IndexFile, max_index_bytes
from shards.dataset.manifest import DATASET_FILE, INDEX_FILE, SPLITS, ImageFormat, LabelField, Shard, read_manifest
from shards.dataset.remote import Remote
from shards.dataset.sparse_index import SparseIndex, is_sparse

_REOPENED = ("_index", "_whole_index", "_splits")
"""What a pickled data set leaves behind."""


class Places(NamedTuple):
    """Where the images of some samples (N,) lie in their shards.

    Attributes:
        offset: int64, the first byte of each.
        size: int32, bytes of each.
        crc32: uint32, zlib's checksum of each; None in data sets without checksums.
    """

    offset: np.ndarray
    size: np.ndarray
    crc32: np.ndarray | None


class Dataset:
    """A complete data set, opened for reading. Picklable; columns are checked on first use and stay on the disk.

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
        return self._splits[split][0] if split in self._splits else ()

    def shard_sizes(self, split: str) -> np.ndarray:
        """Samples of each shard of a split, int64, in index order."""
        return np.array([shard.num_samples for shard in self.shards(split)], np.int64)

    def num_samples(self, split: str) -> int:
        """Number of samples of a split, 0 if there is no such split."""
        rows = self.rows(split)
        return rows.stop - rows.start

    def rows(self, split: str) -> slice:
        """The rows of the index that belong to a split."""
        return self._splits[split][1] if split in self._splits else slice(0, 0)

    def column(self, name: str, split: str) -> np.ndarray:
        """One index column (``offset`` or ``size``) of a split, read-only."""
        return self._whole_index.column(name)[self.rows(split)]

    def places(self, split: str, rows: np.ndarray) -> Places:
        """Where the images of some rows of a split lie.

        Of a large data set behind an address, this is known for shards that were opened.
        """
        rows = rows + self.rows(split).start
        offset, size = (self._index.place(name)[rows] for name in ("offset", "size"))
        return Places(offset, size, self._index.place("crc32")[rows] if self._index.has_checksums() else None)

    def labels(self, name: str, split: str, rows: np.ndarray | None = None) -> np.ndarray:
        """One label column of a split, read-only, or its values in some rows of the split.

        Raises:
            UserError: A field that the data set does not have.
        """
        if name not in self.fields:
            raise UserError(
                f"data set {self.address} has no label '{name}'; it has {', '.join(self.fields) or 'none'}."
            )
        column = self._index.column(f"label.{name}")[self.rows(split)]
        return column if rows is None else column[rows]

    def key(self, split: str, row: int) -> str:
        """The key of one sample; ``row`` counts within the split."""
        return self._index.key(self.rows(split).start + row)

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
        self._whole_index.check()

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
        descriptor = self.remote.open(shard) if self.remote else open_plain(self.root / shard.name)
        try:
            self._index.open_rows(shard, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _REOPENED}

    @cached_property
    def _splits(self) -> dict[str, tuple[tuple[Shard, ...], slice]]:
        """Shards of each split that has any, and their rows."""
        found, start = {}, 0
        for split in SPLITS:
            shards = tuple(shard for shard in self.manifest.shards if shard.split == split)
            stop = start + sum(shard.num_samples for shard in shards)
            found[split], start = (shards, slice(start, stop)), stop
        return found

    @cached_property
    def _index(self) -> IndexFile:
        if self.remote and is_sparse(self.manifest) and not (self.root / INDEX_FILE).is_file():
            with suppress(TooLong):  # The server sends whole files only.
                return SparseIndex(self.remote, self.manifest)
        return self._whole_index

    @cached_property
    def _whole_index(self) -> IndexFile:
        path = self.root / INDEX_FILE
        if self.remote is None:
            return IndexFile(path, self.manifest, f"make it again with: python -m shards.index {self.root}")
        self.remote.fetch(
            INDEX_FILE,
            max_index_bytes(self.manifest),
            lambda fetched: IndexFile(fetched, self.manifest, "copy it to its address again").check(),
        )
        return IndexFile(path, self.manifest, "delete it, then rerun the command")
