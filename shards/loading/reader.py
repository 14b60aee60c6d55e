"""Random access to the samples of a split: rows in, bytes or pixels out.

Shards are uncompressed tars and the index knows where each image starts, so a sample is one ``pread``.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from shards.base.errors import UserError
from shards.base.operating_system import read_at
from shards.base.plain_files import check_plain
from shards.dataset.cache import cache_bytes
from shards.dataset.dataset import Dataset
from shards.images.codecs import decode

MAX_OPEN_SHARDS = 128
"""Most open files of a reader. The blocks that it reads in turn, one of each lane, have fewer shards, unless shards are
tiny."""


class _ShardFile:
    """A file that closes when the last thread that reads it lets go.

    The cache below may drop a shard while another thread reads it. Closing it at once would free its descriptor for the
    next file, and that thread would read from the wrong one.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, num_bytes: int) -> bytes:
        return read_at(self._descriptor, num_bytes, offset)

    def __del__(self) -> None:
        os.close(self._descriptor)


class Reader:
    """Reads samples of one split by row, in any order, from any number of threads."""

    def __init__(self, dataset: Dataset, split: str) -> None:
        """Opens the index; shards are opened on demand.

        Raises:
            UserError: A split without samples, or a shard that is missing or of another size.
        """
        check_split(dataset, split)
        check_shards(dataset, split)
        self._dataset = dataset
        self._split = split
        self._shards = dataset.shards(split)
        self._shard_ends = np.cumsum([shard.num_samples for shard in self._shards])
        dataset.places(split, np.empty(0, np.int64))  # Checks the index.
        shards, max_open = self._shards, MAX_OPEN_SHARDS
        if dataset.remote:  # An open file takes disk space even after the cache has deleted it.
            max_open = max(1, min(max_open, cache_bytes() // (4 * max(shard.num_bytes for shard in shards))))
        # Without ``self``: a reference cycle would keep the files open until garbage collection.
        self._open = lru_cache(maxsize=max_open)(lambda shard: _ShardFile(dataset.open_shard(shards[shard])))

    def read(self, rows: np.ndarray) -> Iterator[bytes]:
        """The encoded images of some samples.

        Args:
            rows: Rows of the split (N,), from 0.

        Yields:
            The bytes of each, in the order of ``rows``.

        Raises:
            UserError: A shard that is missing, unreadable or shorter than the index says, or an image whose bytes
                changed since they were indexed.
        """
        shards = np.searchsorted(self._shard_ends, rows, side="right").tolist()
        if self._dataset.remote:  # Places are known in shards that were opened.
            for shard in dict.fromkeys(shards):
                self._opened(shard)
        offsets, sizes, checksums = self._dataset.places(self._split, rows)
        known = itertools.repeat(None) if checksums is None else checksums.tolist()
        for row, shard, offset, num_bytes, crc32 in zip(
            rows.tolist(), shards, offsets.tolist(), sizes.tolist(), known, strict=False
        ):
            try:
                data = self._opened(shard).read(offset, num_bytes)
            except OSError as error:
                raise self._unreadable(shard, error) from None
            if len(data) != num_bytes:
                raise UserError(f"shard {self._place(shard)} is shorter than its index says; {self._advice(shard)}")
            # Decoders notice only some damage.
            if crc32 is not None and zlib.crc32(data) != crc32:
                raise self._damaged(row, shard, "its bytes are not those that were packed")
            yield data

    def read_images(self, rows: np.ndarray, out: np.ndarray | list[np.ndarray]) -> None:
        """Reads and decodes some samples.

        Args:
            rows: Rows of the split (N,), from 0.
            out: C-contiguous uint8 (N, H, W, C) that takes the images, or N arrays (H, W, C).

        Raises:
            UserError: As ``read``, and for an image whose bytes are damaged.
        """
        for position, data in enumerate(self.read(rows)):
            try:
                decode(data, self._dataset.image, out[position])
            except ValueError as error:
                row = int(rows[position])
                shard = int(np.searchsorted(self._shard_ends, row, side="right"))
                raise self._damaged(row, shard, str(error)) from None

    def expect(self, shards: Iterable[int]) -> None:
        """Prefetches remote shards of the split that will be read soon."""
        if self._dataset.remote:
            self._dataset.remote.prefetch(self._shards[shard] for shard in shards)

    def _opened(self, shard: int) -> _ShardFile:
        try:
            return self._open(shard)
        except OSError as error:
            raise self._unreadable(shard, error) from None

    def _unreadable(self, shard: int, error: OSError) -> UserError:
        return UserError(f"shard {self._place(shard)} cannot be read ({error.strerror}); {self._advice(shard)}")

    def _damaged(self, row: int, shard: int, finding: str) -> UserError:
        key = self._dataset.key(self._split, row)
        return UserError(f"sample {key} of shard {self._place(shard)}: {finding}; {self._advice(shard)}")

    def _place(self, shard: int) -> str:
        dataset, own = self._dataset.owner(self._shards[shard])
        return f"{dataset.address}/{own.name}"

    def _advice(self, shard: int) -> str:
        dataset, _ = self._dataset.owner(self._shards[shard])
        return f"find the damage with: python -m shards.index {dataset.root} --verify"


def check_shards(dataset: Dataset, split: str) -> None:
    """Checks that every shard of a split exists and is as long as the index says, without reading it.

    Raises:
        UserError: One is not.
    """
    for own, shard in map(dataset.owner, dataset.shards(split)):
        if own.remote:
            continue  # Each is checked when it is fetched.
        path = own.root / shard.name
        try:
            check_plain(path)
            num_bytes = path.stat().st_size
        except OSError as error:
            raise UserError(
                f"shard {path} cannot be read ({error.strerror}); copy or pack the data set again."
            ) from None
        if num_bytes != shard.num_bytes:
            raise UserError(
                f"shard {path} has {num_bytes:,} bytes and should have {shard.num_bytes:,}; "
                "copy or pack the data set again."
            )


def check_split(dataset: Dataset, split: str) -> None:
    """Checks that a split has samples.

    Raises:
        UserError: It has none; the sentence names those that do.
    """
    if not dataset.num_samples(split):
        raise UserError(
            f"data set {dataset.address} has no split '{split}'; it has {', '.join(dataset.splits) or 'none'}."
        )
