"""The index of a large data set behind an address: a sparse copy of its file, into which parts come when they are used.

Where a shard's images lie comes with the shard, and is checked against the images themselves. Labels and keys come by
column, each checked against the manifest. Processes of a machine share the file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from shards.base.errors import DamagedFile, UserError
from shards.base.files import publish
from shards.base.operating_system import READ_FLAGS, read_at
from shards.dataset.addresses import CHUNK_BYTES, NUM_TRIES, DamagedOnItsWay
from shards.dataset.cache import SIZE_VARIABLE, cache_bytes, writing
from shards.dataset.index_file import MAX_KEY_BYTES, IndexFile, max_index_bytes
from shards.dataset.manifest import INDEX_FILE, Manifest, Shard
from shards.dataset.remote import Remote
from shards.dataset.tensor_file import LENGTH_BYTES, MAX_HEADER_BYTES, Tensor, TensorFile, parse_header

WHOLE_SAMPLES = 2**21
"""Up to so many samples an index, some 64 MB, is fetched at once."""
_FILE = "index.sparse"
_PLACES = ("crc32", "offset", "size")
"""In the order in which they are written: no image has no bytes, so a size says that its row is there."""


class SparseIndex(IndexFile):
    """As ``IndexFile``; where images lie (``place``) is known in the rows of shards that were opened."""

    def __init__(self, remote: Remote, manifest: Manifest) -> None:
        """Fetches the header.

        Raises:
            TooLong: The server does not send parts of files.
            UserError: It cannot be fetched, or what was kept of it is damaged.
        """
        path = remote.folder / _FILE
        super().__init__(path, manifest, "delete it, then rerun the command")
        self._remote = remote
        with remote.locked(_FILE), writing(remote.folder):
            if path.is_file():
                os.utime(path)
            else:
                remote.persistently(INDEX_FILE, lambda: self._begin(path))
            try:
                self._file = TensorFile(path, writable=True)
            except (SafetensorError, ValueError) as error:
                raise self._damaged(f"it cannot be read ({error})") from None
        remote.after_prefetch = self._prefetch_rows

    def place(self, name: str) -> np.ndarray:
        """``offset``, ``size`` or ``crc32``, whole; zeros in the rows of shards that were never opened."""
        if name not in self._columns:
            self._columns[name] = self._mapped(name)
        return self._columns[name]

    def open_rows(self, shard: Shard, descriptor: int, num_tries: int = NUM_TRIES) -> None:
        """Fetches where the images of an open shard lie, unless it is known.

        Raises:
            UserError: That cannot be fetched.
        """
        rows = self._rows[shard.name]
        if self.place("size")[rows].all():
            return
        with self._remote.locked(shard.name):
            if not self.place("size")[rows].all():
                self._remote.persistently(INDEX_FILE, lambda: self._fetch_rows(shard, rows, descriptor), num_tries)

    def key(self, row: int) -> str:
        """The key of one row, without fetching the others; for people to read.

        Raises:
            UserError: It cannot be fetched.
        """
        if "key_bytes" in self._columns:
            return super().key(row)
        text, ends = self._tensor("key_bytes"), self._tensor("key_end")

        def attempt() -> str:
            bounds = np.frombuffer(self._fetch(ends, max(0, row - 1), row + 1), np.int64).tolist()
            start, stop = (0, *bounds)[-2:]
            if not 0 <= start <= stop <= min(start + MAX_KEY_BYTES, text.num_bytes):
                raise DamagedOnItsWay("its keys do not rise")
            return self._fetch(text, start, stop).decode(errors="replace")

        return self._remote.persistently(INDEX_FILE, attempt)

    def _begin(self, path: Path) -> None:
        """Makes a file with the header and the length of the index, and nothing else."""
        length = int.from_bytes(self._remote.read(INDEX_FILE, 0, LENGTH_BYTES), "little")
        if not 0 < length <= MAX_HEADER_BYTES:
            raise DamagedOnItsWay(f"its header has {length:,} bytes")
        header = self._remote.read(INDEX_FILE, LENGTH_BYTES, LENGTH_BYTES + length)
        try:
            num_bytes = max(tensor.start + tensor.num_bytes for tensor in parse_header(header).values())
        except ValueError as error:
            raise DamagedOnItsWay(str(error)) from None
        if num_bytes > max_index_bytes(self._manifest):
            raise DamagedOnItsWay(f"its header leads to {num_bytes:,} bytes")
        part = path.with_name(f".{path.name}.part")
        try:
            with open(part, "wb") as file:
                file.write(length.to_bytes(LENGTH_BYTES, "little") + header)
                file.truncate(num_bytes)
            self._file = TensorFile(part)
            for name in _PLACES:
                self._tensor(name)
            publish(part, path, durable=False)
        except (SafetensorError, DamagedFile) as error:
            raise DamagedOnItsWay(str(error)) from None
        finally:
            part.unlink(missing_ok=True)

    def _check(self, name: str) -> None:
        """Checks a column, which is fetched unless it is here."""
        with self._remote.locked(INDEX_FILE):
            try:
                super()._check(name)
            except DamagedFile:  # It has not arrived, or not as a whole.
                self._remote.persistently(INDEX_FILE, lambda: self._fetch_column(name))

    def _fetch_column(self, name: str) -> None:
        tensor = self._tensor(name)
        if tensor.num_bytes > cache_bytes():
            raise UserError(
                f"column {name} of {self._remote.address}/{INDEX_FILE} takes {tensor.num_bytes / 1e9:.2g} GB and the "
                f"cache holds {cache_bytes() / 1e9:.2g} GB; raise the variable {SIZE_VARIABLE}."
            )
        end = tensor.start + tensor.num_bytes
        for start in range(tensor.start, end, CHUNK_BYTES):
            stop = min(start + CHUNK_BYTES, end)
            data = self._remote.persistently(
                INDEX_FILE, lambda start=start, stop=stop: self._remote.read(INDEX_FILE, start, stop)
            )
            with writing(self._remote.folder):
                self._file.write(start, data)
        try:
            super()._check(name)
        except DamagedFile as error:
            raise DamagedOnItsWay(str(error)) from None

    def _fetch_rows(self, shard: Shard, rows: slice, descriptor: int) -> None:
        found = {name: self._fetch(self._tensor(name), rows.start, rows.stop) for name in _PLACES}
        places = {name: np.frombuffer(data, self._tensor(name).dtype) for name, data in found.items()}
        if not _lead_to_images(places, shard, descriptor):
            raise DamagedOnItsWay(f"its rows do not fit the shard {shard.name}")
        with writing(self._remote.folder):
            for name, data in found.items():
                self._file.write(self._tensor(name).start + rows.start * places[name].itemsize, data)

    def _fetch(self, tensor: Tensor, first: int, stop: int) -> bytes:
        """Rows of a column."""
        assert tensor.dtype is not None
        size = tensor.dtype.itemsize
        return self._remote.read(INDEX_FILE, tensor.start + first * size, tensor.start + stop * size)

    def _prefetch_rows(self, shard: Shard) -> None:
        try:
            descriptor = os.open(self._remote.folder / shard.name, READ_FLAGS)
        except OSError:  # Deleted to make room; whoever reads it fetches both.
            return
        try:
            self.open_rows(shard, descriptor, num_tries=1)
        finally:
            os.close(descriptor)

    @cached_property
    def _rows(self) -> dict[str, slice]:
        shards = self._manifest.shards
        return {
            shard.name: slice(end - shard.num_samples, end)
            for shard, end in zip(shards, self._shard_ends.tolist(), strict=True)
        }


def is_sparse(manifest: Manifest) -> bool:
    """Whether the index of a data set behind an address comes in parts, which needs checksums of the images."""
    return "crc32" in manifest.index and sum(shard.num_samples for shard in manifest.shards) > WHOLE_SAMPLES


def _lead_to_images(places: Mapping[str, np.ndarray], shard: Shard, descriptor: int) -> bool:
    """Whether an open shard has bytes of the right checksums at all places."""
    offset, size = places["offset"], places["size"]
    if (offset < 0).any() or (size < 1).any() or (offset + size > shard.num_bytes).any():
        return False
    return all(
        zlib.crc32(read_at(descriptor, *place)) == crc32
        for *place, crc32 in zip(size.tolist(), offset.tolist(), places["crc32"].tolist(), strict=True)
    )
