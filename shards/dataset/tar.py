"""WebDataset tar shards: writing them reproducibly, and finding where each sample's members lie.

Shards of other programs are grouped into samples by webdataset itself. Writing uses plain ``tarfile``, with the bytes
that ``webdataset.TarWriter`` would write (a test compares them): webdataset imports torch, which would cost every
worker process of a packing more than a second and 200 MB.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from shards.base.errors import UserError
from shards.base.operating_system import sync_descriptor

MAX_KEY_BYTES = 80
"""Longest key that stays as it is: USTAR holds 100 bytes of name, and this leaves room for any extension."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_\-/]")
_SKIPPED = re.compile(r"__[^/]*__($|/)|(.*/)?\.[^/]*$", re.DOTALL)
"""Names that WebDataset keeps for itself and skips, and hidden files, such as the resource forks of macOS."""
_COMPRESSION = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7z": "xz", b"\x28\xb5": "zstandard"}

_IMPORTING = threading.Lock()
"""webdataset imports itself in a circle: two threads that import it first, together, see half of it."""


@dataclass(frozen=True)
class Member:
    """One file inside a tar: its extension, and which bytes of the tar are its content."""

    extension: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarSample:
    """Consecutive members of a tar that share a key, as WebDataset groups them."""

    key: str
    members: tuple[Member, ...]

    def find(self, extensions: tuple[str, ...]) -> Member | None:
        """The first member with one of the extensions; WebDataset reads ``a.left.jpg`` as an image, too."""
        return next((member for member in self.members if member.extension.rsplit(".", 1)[-1] in extensions), None)


def member_key(key: str) -> str:
    """A key that every tar reader and WebDataset understand.

    Keys of up to 80 letters, digits, ``_``, ``-`` and ``/`` stay as they are. In others, odd characters become ``_``
    (WebDataset ends a key at its first dot), a long end is cut off, and a hash of the whole key is appended to keep it
    unique. A key that starts like WebDataset's reserved names also gets a letter in front.
    """
    safe = "/".join(part for part in _UNSAFE.sub("_", key).split("/") if part)
    safe = f"x{safe}" if safe.startswith("__") else safe
    if safe and safe == key and len(safe) <= MAX_KEY_BYTES:
        return key
    suffix = "-" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return safe[: MAX_KEY_BYTES - len(suffix)].rstrip("/") + suffix


class ShardWriter:
    """Writes one tar whose bytes depend on the members only: no times, no owners."""

    def __init__(self, path: Path) -> None:
        """Creates ``path``, or empties it."""
        self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, key: str, extension: str, data: bytes) -> int:
        """Appends ``KEY.EXTENSION``; members of one sample follow each other.

        Returns:
            Where the content starts in the file, in bytes.
        """
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size = len(data)
        start = self._tar.offset + tarfile.BLOCKSIZE  # USTAR has one block of header, however long the name.
        self._tar.addfile(info, BytesIO(data))
        return start

    def close(self) -> None:
        """Ends the archive and makes it durable."""
        self._tar.close()
        self._file.flush()
        sync_descriptor(self._file.fileno())
        self._file.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_samples(path: Path) -> Iterator[TarSample]:
    """Lists a shard from its headers alone, in file order.

    Raises:
        UserError: A compressed, truncated or damaged tar.
    """
    with open(path, "rb") as file:
        yield from read_samples_of(file, path)


def read_samples_of(file: BinaryIO, name: object) -> Iterator[TarSample]:
    """As ``read_samples``, from an open file, whose position the caller may change between two samples.

    Args:
        file: Opened to read, can seek.
        name: Of the shard, for messages.

    Raises:
        UserError: As ``read_samples``.
    """
    head = _read_at(file, 0, 3)
    compression = next((kind for magic, kind in _COMPRESSION.items() if head.startswith(magic)), None)
    if compression:
        raise UserError(
            f"{name} is compressed ({compression}), so images cannot be read by offset; unpack it to a plain .tar."
        )
    with _IMPORTING:
        from webdataset.handlers import ignore_and_continue
        from webdataset.tariterators import group_by_keys

    files = (
        {"fname": member, "data": (offset, size), "__url__": str(name)}
        for member, offset, size in _read_headers(file, name)
        if not _SKIPPED.match(member)
    )
    # The handler skips a second file of the same name.
    for sample in group_by_keys(files, handler=ignore_and_continue):
        key = sample.pop("__key__")
        del sample["__url__"]
        yield TarSample(key, tuple(Member(extension, *place) for extension, place in sample.items()))


def sha256_file(path: Path) -> str:
    """Hex digest of a file's content, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_headers(file: BinaryIO, name: object) -> Iterator[tuple[str, int, int]]:
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                # tarfile would otherwise keep every header of the archive in memory.
                tar.members = []  # type: ignore[attr-defined]
                if info.isreg():
                    if info.issparse() or info.offset_data + info.size > num_bytes:
                        raise tarfile.ReadError("unexpected end of data")
                    yield _readable(info.name.removeprefix("./")), info.offset_data, info.size
            # tarfile takes a damaged or cut-off header for the end of the archive.
            if _read_at(file, tar.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("the end mark is missing")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{name} is truncated or not a tar file ({error}); fetch or make it again.") from None


def _readable(name: str) -> str:
    """The name, with bytes that are not UTF-8, as in old archives, replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
