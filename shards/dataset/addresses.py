"""The place behind an address, read and written with patience: its server may fail, and may send anything.

fsspec reads the addresses (s3, gs, http, https and more, and ``hub:USER/NAME`` through huggingface_hub); endpoints and
keys come from its configuration and from the usual variables of each service.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import Any, TypeVar

from shards.base.errors import ENDING, UserError
from shards.base.hub_address import HUB, hub_address
from shards.dataset.remote_listing import Listed, list_files
from shards.dataset.services import find_service, upload_sec

NUM_TRIES = 6
_FIRST_DELAY_SEC, _MAX_DELAY_SEC = 0.5, 15.0
CHUNK_BYTES = 8 * 2**20
_ADDRESS = re.compile(rf"(\w[\w+.-]+)://|{HUB}")
ResultT = TypeVar("ResultT")


class DamagedOnItsWay(OSError):
    """The received bytes are not the requested ones; another try may bring them."""


class TooLong(UserError):
    """A server sent more bytes than a file can have."""


class _Bounded(RawIOBase):
    """What fsspec writes a file to: refuses more bytes than it can have."""

    def __init__(self, write: Callable[[bytes], object], max_bytes: int, refusal: str) -> None:
        self._write, self._left, self._refusal = write, max_bytes, refusal

    def write(self, data: Any) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise TooLong(self._refusal)
        if ENDING.is_set():
            raise InterruptedError("the program ends")
        self._write(data)
        return len(data)


def is_address(root: str) -> bool:
    """Whether the place of a data set is an address, not a folder."""
    return _ADDRESS.match(root) is not None


def as_address(place: str | Path) -> str | None:
    """The address that the user gave, also as a path, which has lost one of its two slashes; None for a folder."""
    text = str(place) if isinstance(place, str) else str(place).replace(":/", "://", 1)
    return text if is_address(text) else None


def refuse_address(path: Path, advice: str) -> None:
    """Raises ``ValueError`` for an address where only a folder of this machine will do.

    Args:
        path: What the user gave.
        advice: What to do instead.
    """
    if as_address(path):
        raise ValueError(f"{path} is an address, not a folder; {advice}.")


class RemoteFolder:
    """The folder behind an address. Picklable."""

    def __init__(self, address: str) -> None:
        """Connects to nothing yet.

        Raises:
            UserError: fsspec cannot read the address, or the extra ``remote`` is not installed.
        """
        import fsspec  # Takes a second; local data sets do not need it.

        self.address = address
        on_hub = hub_address(address)
        url = on_hub.url("datasets") if on_hub else address
        protocol = url.split("://", 1)[0]
        extra = "hub" if protocol == "hf" else "remote"
        self._is_http = protocol in ("http", "https")
        try:
            self._service = find_service(protocol)
            self._files, self._root = fsspec.core.url_to_fs(url, **self._service.options)
            if protocol == "s3":
                self._files.retries = 1  # The tries of s3fs itself, which no option sets.
        except ImportError as error:
            raise UserError(f"{address} needs more packages ({error}): pip install 'facegen[{extra}]'") from None
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{address} is not an address that fsspec can read ({error}).") from None

    def __reduce__(self) -> tuple[type[RemoteFolder], tuple[str]]:
        return RemoteFolder, (self.address,)

    def copy(self, name: str, write: Callable[[bytes], object], max_bytes: int, advice: str) -> None:
        """Reads a file of unknown length, piece by piece.

        Args:
            name: Of the file.
            write: Gets each piece.
            max_bytes: More than it can have.
            advice: What to do where it has more.

        Raises:
            TooLong: It has more than ``max_bytes``.
            Exception: Errors of the service; ``persistently`` knows them.
        """
        bounded = _Bounded(write, max_bytes, f"{self.address}/{name} has more than {max_bytes:,} bytes; {advice}.")
        if self._is_http:
            self._files.get_file(self._path(name), bounded)
            return
        size = self._files.size(self._path(name))
        for start in range(0, size, CHUNK_BYTES):
            stop = min(start + CHUNK_BYTES, size)
            bounded.write(self._files.cat_file(self._path(name), start=start, end=stop, **self._service.part))

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Reads a part of a file: bytes from ``start`` up to ``stop``.

        Raises:
            TooLong: A server that does not send parts of files.
            DamagedOnItsWay: Fewer bytes came.
            Exception: As ``copy``.
        """
        content = bytearray()
        bounded = _Bounded(content.extend, stop - start, f"{self.address}/{name} is not sent in parts.")
        if self._is_http:  # Not cat_file, which reads whatever the server sends into memory.
            headers = {**self._files.kwargs.get("headers", {}), "Range": f"bytes={start}-{stop - 1}"}
            self._files.get_file(self._path(name), bounded, headers=headers)
        else:
            bounded.write(self._files.cat_file(self._path(name), start=start, end=stop, **self._service.part))
        if len(content) != stop - start:
            raise DamagedOnItsWay(f"received {len(content):,} bytes instead of {stop - start:,}")
        return bytes(content)

    def content(self, name: str) -> bytes | None:
        """Reads a whole file; None if there is none.

        Raises:
            UserError: As ``persistently``.
        """

        def attempt() -> bytes | None:
            try:
                return self._files.cat_file(self._path(name), **self._service.whole)
            except FileNotFoundError:
                return None

        return self.persistently(name, attempt)

    def has(self, name: str) -> bool:
        """Whether there is a file.

        Raises:
            UserError: As ``persistently``.
        """
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none.

        Raises:
            UserError: As ``persistently``.
        """

        def attempt() -> int | None:
            self._files.invalidate_cache()
            try:
                info = self._files.info(self._path(name))
            except FileNotFoundError:  # isfile takes any error for an answer.
                return None
            return int(info["size"] or 0) if info["type"] == "file" else None  # Some web servers do not say how many.

        return self.persistently(name, attempt)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file below the address, by name.

        Raises:
            UserError: As ``persistently``.
        """
        return {file.name: file.num_bytes for file in self._listed()}

    def stamps(self) -> dict[str, str]:
        """What changes with every file below the address, by name: its size, and its ETag where there is one.

        Raises:
            UserError: As ``persistently``.
        """
        return {file.name: f"{file.num_bytes} {file.etag}" for file in self._listed()}

    def _listed(self) -> Iterator[Listed]:
        return list_files(self._files, self._root, partial(self.persistently, "", verb="listed"))

    def write(self, name: str, content: bytes) -> None:
        """Writes or replaces a file.

        Raises:
            UserError: As ``persistently``.
        """
        in_time = self._in_time(len(content))
        self.persistently(name, lambda: self._files.pipe_file(self._path(name), content, **in_time), verb="written")

    def settle(self, name: str, content: bytes) -> bytes:
        """Writes a file unless there is one, and returns what is there.

        Raises:
            UserError: As ``persistently``.
        """

        def attempt() -> bytes:
            try:
                self._files.pipe_file(self._path(name), content, mode="create", **self._in_time(len(content)))
            except Exception:  # It exists, perhaps from an earlier try whose answer was lost; or another error.
                there = self.content(name)
                if there is None:
                    raise
                return there
            return content

        return self.persistently(name, attempt, verb="written")

    def put(self, path: Path, name: str) -> None:
        """Uploads a file, in parts if it is large.

        Raises:
            UserError: As ``persistently``.
        """
        num_bytes = path.stat().st_size

        def attempt() -> None:
            self._files.put_file(str(path), self._path(name), **self._in_time(num_bytes))
            self._files.invalidate_cache(self._path(name))
            there = self._files.size(self._path(name))
            if there != num_bytes:
                raise DamagedOnItsWay(f"{there:,} of {num_bytes:,} bytes arrived")

        self.persistently(name, attempt, verb="written")

    def remove(self, names: Sequence[str]) -> None:
        """Removes files; missing ones are ignored.

        Raises:
            UserError: As ``persistently``.
        """

        def attempt() -> None:
            with suppress(FileNotFoundError):
                self._files.rm([self._path(name) for name in names])

        if names:
            self.persistently(names[0], attempt, verb="removed")

    def persistently(
        self, name: str, attempt: Callable[[], ResultT], num_tries: int = NUM_TRIES, verb: str = "read"
    ) -> ResultT:
        """Retries what reads or writes a file, with growing pauses.

        Args:
            name: Of the file, for the message.
            attempt: Reads or writes it.
            num_tries: How often.
            verb: What is done to it, for the message.

        Raises:
            UserError: The file is missing or forbidden, the local disk refuses, or every try failed.
        """
        where, delay, started = f"{self.address}/{name}".rstrip("/"), _FIRST_DELAY_SEC, time.monotonic()
        for trial in range(1, num_tries + 1):
            try:
                return attempt()
            except UserError:  # The local disk refused, or the file does not end.
                raise
            except FileNotFoundError:
                advice = "make its bucket" if verb != "read" else "copy the whole data set there, as it was packed"
                raise UserError(f"there is no {where}; {advice}.") from None
            except PermissionError as error:
                raise UserError(f"{where} may not be {verb} ({_reason(error)}); check keys and permissions.") from None
            except Exception as error:  # Every service has errors of its own.
                if trial == num_tries or ENDING.is_set():
                    seconds = time.monotonic() - started
                    raise UserError(
                        f"{where} could not be {verb} in {trial} tries over {seconds:.0f} s ({_reason(error)}); "
                        "rerun the command once it can be."
                    ) from None
            ENDING.wait(delay * random.uniform(0.5, 1.5))  # Spreads the retries of many processes.
            delay = min(2 * delay, _MAX_DELAY_SEC)
        raise AssertionError

    def _in_time(self, num_bytes: int) -> dict[str, float]:
        """An argument that ends an upload which the service does not take; only some file systems know it."""
        return {"timeout": upload_sec(num_bytes)} if self._files.async_impl else {}

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
