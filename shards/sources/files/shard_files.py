"""The tar shards of a webdataset: files of this machine, or behind an address such as ``s3://bucket/faces``."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast

from braceexpand import braceexpand

from shards.base.errors import UserError
from shards.dataset.addresses import CHUNK_BYTES, RemoteFolder, as_address
from shards.dataset.remote_file import RemoteFile
from shards.images.reading import BadImage
from shards.sources.files.listing import list_files, listing

NUM_READERS = 8
"""Requests at once where images lie behind an address: each waits for a server, and none for the processor."""
_NUM_LISTERS = 4
"""Shards listed at once there; each keeps two parts of ``CHUNK_BYTES``."""
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)", re.ASCII)
_MAX_SHARDS = 1_000_000
"""In one range: braceexpand lists all of them in memory."""


class ShardFiles(Protocol):
    """Shards by place, in the order of their names; picklable."""

    places: list[str]
    num_listers: int
    """How many shards are listed at once."""
    num_readers: int
    """How many images are read at once."""

    def opening(self, place: str) -> AbstractContextManager[BinaryIO]:
        """A context manager that opens a shard to read from start to end.

        Raises:
            UserError: It cannot be read.
        """
        ...

    def read(self, place: str, offset: int, size: int) -> bytes:
        """Reads a part of a shard.

        Raises:
            BadImage: The shard is gone.
            UserError: The server fails, several times.
            OSError: The disk fails.
        """
        ...


class LocalShards:
    """Shards on this machine; a place is a path."""

    num_listers = num_readers = 0

    def __init__(self, given: Path) -> None:
        """Finds them.

        Raises:
            UserError: As ``open_shards``.
        """
        words = [str(given)] if os.path.exists(given) else _expand_braces(str(given))
        self.places = sorted({str(shard) for word in words for path in _matches(word) for shard in _below(path)})

    def opening(self, place: str) -> AbstractContextManager[BinaryIO]:
        """As ``ShardFiles.opening``."""
        with listing(Path(place)):
            return open(place, "rb")

    def read(self, place: str, offset: int, size: int) -> bytes:
        """As ``ShardFiles.read``."""
        try:
            with open(place, "rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            raise BadImage("missing file") from None


class RemoteShards:
    """Shards behind an address; a place is a name below the folder that they share."""

    num_listers, num_readers = _NUM_LISTERS, NUM_READERS

    def __init__(self, address: str) -> None:
        """Finds them.

        Raises:
            UserError: As ``open_shards``, and where the address cannot be opened or does not answer.
        """
        folder, pattern = _split_pattern(address)
        self._files = RemoteFolder(folder)
        self._sizes = dict(self._find(pattern))
        self.places = sorted(self._sizes)

    def opening(self, place: str) -> AbstractContextManager[BinaryIO]:
        """As ``ShardFiles.opening``."""
        return cast(BinaryIO, RemoteFile(self._files, place, self._sizes[place], CHUNK_BYTES))

    def read(self, place: str, offset: int, size: int) -> bytes:
        """As ``ShardFiles.read``."""
        return self._files.persistently(place, lambda: self._files.read(place, offset, offset + size))

    def _find(self, pattern: str) -> Iterator[tuple[str, int]]:
        from fsspec.utils import glob_translate

        listed: dict[str, int] | None = None
        for word in _expand_braces(pattern):
            if not glob.has_magic(word) and word.endswith(".tar"):  # Web servers list no folders.
                size = self._files.size(word)
                if size is None:
                    raise _missing(f"{self._files.address}/{word}")
                yield word, size
                continue
            if listed is None:
                listed = {name: size for name, size in self._files.sizes().items() if _is_shard(name)}
            matches = re.compile(glob_translate(word)).match
            yield from (
                (name, size)
                for name, size in listed.items()
                if not word or any(matches(str(path)) for path in (name, *PurePosixPath(name).parents))
            )


def open_shards(given: Path) -> ShardFiles:
    """The shards that an input stands for, sorted by name, each once.

    Args:
        given: A shard, a folder that is searched recursively, or a pattern; a path or an address.

    Raises:
        UserError: There are none, or one that the pattern names is missing.
    """
    address = as_address(given)
    files = LocalShards(given) if address is None else RemoteShards(address)
    if not files.places:
        raise UserError(
            f"no *.tar shards at {address or given}; give the folder that holds them, uncompressed, or a pattern."
        )
    return files


def names_of(places: Iterable[str]) -> list[str]:
    """Relative paths without suffix: the same on every machine."""
    paths = list(map(PurePosixPath, places))
    root = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(root).with_suffix("").as_posix() for path in paths]


def _split_pattern(address: str) -> tuple[str, str]:
    """The folder of an address, and what stands below it: a shard, a pattern, or nothing for all shards."""
    parts = address.rstrip("/").split("/")
    is_pattern = [bool(set(part) & set("*?[{")) for part in parts] + [True]
    first = is_pattern.index(True)
    if first == len(parts) and not parts[-1].endswith(".tar"):
        return "/".join(parts), ""
    first = min(first, len(parts) - 1)
    return "/".join(parts[:first]), "/".join(parts[first:])


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
        raise _missing(word)


def _missing(word: str) -> UserError:
    return UserError(f"there is no file or folder {word}; give a shard, a folder of *.tar shards, or a pattern.")


def _below(path: Path) -> Iterator[Path]:
    """The path itself, or the shards of a folder; links count, pipes and devices do not."""
    if path.is_dir():
        shards = [file for file in list_files(path)[1] if _is_shard(file)]
        yield from (path / shard for shard in shards if (path / shard).is_file())
    elif path.is_file():
        yield path


def _is_shard(file: str) -> bool:
    return file.endswith(".tar") and not file.rsplit("/", 1)[-1].startswith(".")
