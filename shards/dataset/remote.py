"""Data sets behind an address, such as ``s3://bucket/faces``: their files come through a cache on the local disk.

fsspec reads the addresses (s3, gs, http, https and more); endpoints and keys come from its configuration and from the
usual variables of each service. Shards download on demand, one block ahead, once per machine, and are checked against
the manifest's sha256 before use. The cache is bounded: the least recently used shards are deleted, and open files stay
readable even then.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shards.base.errors import ENDING, DamagedFile, UserError
from shards.base.files import publish, write_bytes
from shards.dataset.cache import SIZE_VARIABLE, cache_bytes, locked, make_room, shards_folder, writing
from shards.dataset.tar import sha256_file

if TYPE_CHECKING:
    from shards.dataset.manifest import Shard

NUM_TRIES = 6
_FIRST_DELAY_SEC, _MAX_DELAY_SEC = 0.5, 15.0
_TIMEOUT_SEC = 20.0
"""Shorter than the time that launchers give a process to end."""
_CHUNK_BYTES = 8 * 2**20
_MAX_MANIFEST_BYTES = 2**28
"""Above that of a million shards. An index may be larger, up to the size of the cache."""
_NUM_PREFETCHING = 2
_ADDRESS = re.compile(r"(\w[\w+.-]+)://")
# Gives up on silent servers, and leaves retries to the loop below.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": _TIMEOUT_SEC,
            "read_timeout": _TIMEOUT_SEC,
            "retries": {"total_max_attempts": 1},
        }
    },
}
ResultT = TypeVar("ResultT")


class _Bounded(RawIOBase):
    """What fsspec writes a file to: refuses more bytes than the file can have."""

    def __init__(self, write: Callable[[bytes], object], where: str, max_bytes: int) -> None:
        self._write, self._left = write, max_bytes
        self._sentence = f"{where} has more than {max_bytes:,} bytes; check the address, or raise {SIZE_VARIABLE}."

    def write(self, data: Any) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise UserError(self._sentence)
        self._write(data)
        return len(data)


class _Damaged(OSError):
    """The received bytes are not the requested ones."""


def is_address(root: str) -> bool:
    """Whether the place of a data set is an address, not a folder."""
    return _ADDRESS.match(root) is not None


def refuse_address(path: Path, advice: str) -> None:
    """Raises ``ValueError`` for an address where only a folder of this machine will do.

    Args:
        path: What the user gave; a path has lost one of an address's two slashes.
        advice: What to do instead.
    """
    if _ADDRESS.match(str(path).replace(":/", "://", 1)):
        raise ValueError(f"{path} is an address, not a folder; {advice}.")


class Remote:
    """The files of one data set behind an address.

    Attributes:
        address: As the user gave it, without a slash at its end.
        folder: Where its files appear on this machine; a data set with other content has another folder.
    """

    def __init__(self, address: str, manifest_name: str) -> None:
        """Fetches the manifest, whose hash names the folder.

        Raises:
            UserError: Nothing is there, no answer, no permission, or the extra ``remote`` is not installed.
        """
        self.address = address.rstrip("/")
        self._connect()
        content = self._persistently(manifest_name, lambda: self._manifest(manifest_name))
        self.folder = shards_folder() / hashlib.sha256(content).hexdigest()[:24]
        with self._locked(manifest_name):
            self._write(manifest_name, content)

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    def fetch(self, name: str, max_bytes: int, check: Callable[[Path], None]) -> None:
        """Fetches a file beside the manifest, once.

        Args:
            name: Of the file.
            max_bytes: More than it can have; a server that sends even more is refused.
            check: Gets the path of what has arrived, and raises ``DamagedFile`` if that must not be kept.

        Raises:
            UserError: It cannot be fetched.
        """
        path, part = self.folder / name, self.folder / f".{name}.part"

        def attempt() -> None:
            with writing(self.folder):
                file = open(part, "wb")  # noqa: SIM115

            def write(data: bytes) -> None:
                with writing(self.folder):
                    file.write(data)
                    file.flush()

            with file:
                self._copy(name, write, min(max_bytes, max(cache_bytes(), _MAX_MANIFEST_BYTES)))
            try:
                check(part)
            except DamagedFile as error:  # Perhaps only on its way here.
                raise _Damaged(str(error).replace(str(part), "what arrived")) from None
            with writing(self.folder):
                publish(part, path, durable=False)

        with self._locked(name):
            if path.is_file():
                with suppress(OSError):
                    os.utime(path)  # It is in use: others make room for theirs elsewhere.
                return
            try:
                self._persistently(name, attempt)
            finally:
                part.unlink(missing_ok=True)

    def open(self, shard: Shard) -> int:
        """Opens a shard's checked copy, fetched if needed; the caller closes the descriptor.

        Raises:
            UserError: The shard cannot be fetched, is damaged, or does not fit on the disk.
        """
        path = self.folder / shard.name
        while True:
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:  # Never fetched, or just deleted to make room.
                self._ensure(shard)
                continue
            os.utime(descriptor)  # Not the path, which another process may delete meanwhile.
            return descriptor

    def prefetch(self, shards: Iterable[Shard]) -> None:
        """Fetches shards in the background; whoever reads them meets the errors again."""
        for shard in shards:
            with self._lock:
                if shard.name in self._expected or (self.folder / shard.name).is_file():
                    continue
                self._expected.add(shard.name)
            self._pool.submit(self._prefetch, shard)

    def check_room(self, num_bytes: int) -> None:
        """Checks that shards that are read in turn fit into the cache together.

        Raises:
            UserError: They do not: each would be fetched many times.
        """
        if num_bytes > cache_bytes():
            raise UserError(
                f"shards of {self.address} that are read in turn take {num_bytes / 1e9:.2g} GB and the cache holds "
                f"{cache_bytes() / 1e9:.2g} GB; raise the variable {SIZE_VARIABLE}, or copy the data set here."
            )

    def _prefetch(self, shard: Shard) -> None:
        try:
            if not ENDING.is_set():
                self._ensure(shard, num_tries=1)  # Once: readers wait for its lock meanwhile, and retry themselves.
        except UserError:
            pass
        finally:
            with self._lock:
                self._expected.discard(shard.name)

    def _ensure(self, shard: Shard, num_tries: int = NUM_TRIES) -> None:
        """Fetches a shard unless another process has done so."""
        path = self.folder / shard.name
        with self._locked(shard.name):
            if path.is_file():
                return
            part = self.folder / f".{shard.name}.part"
            num_missing = shard.num_bytes - (part.stat().st_size if part.is_file() else 0)
            with locked(shards_folder() / ".lock"):
                make_room(shards_folder(), cache_bytes() - num_missing, self.folder)
            try:
                self._persistently(shard.name, lambda: self._fetch_shard(shard, part), num_tries)
                with writing(self.folder):
                    publish(part, path, durable=False)
            finally:
                if num_tries == NUM_TRIES or ENDING.is_set():  # Otherwise a call with more tries resumes it.
                    part.unlink(missing_ok=True)

    def _fetch_shard(self, shard: Shard, part: Path) -> None:
        """Fetches what a part lacks, then checks the whole."""
        with writing(self.folder):
            file = open(part, "ab")  # noqa: SIM115
        with file:
            start = file.tell()
            while start < shard.num_bytes:
                if ENDING.is_set():
                    raise InterruptedError("the program ends")
                stop = min(start + _CHUNK_BYTES, shard.num_bytes)
                chunk = self._files.cat_file(self._path(shard.name), start=start, end=stop)
                if len(chunk) == shard.num_bytes > stop - start:
                    chunk = chunk[start:]  # A server that sends whole files only.
                elif len(chunk) != stop - start:
                    raise _Damaged(f"received {len(chunk):,} bytes instead of {stop - start:,}")
                with writing(self.folder):
                    file.write(chunk)
                    file.flush()
                start += len(chunk)
        if sha256_file(part) != shard.sha256:
            part.unlink()
            raise _Damaged("its sha256 differs from the manifest's")

    def _manifest(self, name: str) -> bytes:
        content = bytearray()
        self._copy(name, content.extend, _MAX_MANIFEST_BYTES)
        return bytes(content)

    def _copy(self, name: str, write: Callable[[bytes], object], max_bytes: int) -> None:
        """Reads a file of unknown length, piece by piece."""
        path, file = self._path(name), _Bounded(write, f"{self.address}/{name}", max_bytes)
        if self.address.startswith("http"):  # Where a server may send more than the part that it was asked for.
            self._files.get_file(path, file)
            return
        size = self._files.size(path)
        for start in range(0, size, _CHUNK_BYTES):
            file.write(self._files.cat_file(path, start=start, end=min(start + _CHUNK_BYTES, size)))

    def _persistently(self, name: str, attempt: Callable[[], ResultT], num_tries: int = NUM_TRIES) -> ResultT:
        """Retries with growing pauses.

        Raises:
            UserError: The file is missing or forbidden, the local disk refuses, or every try failed.
        """
        where, delay, started = f"{self.address}/{name}", _FIRST_DELAY_SEC, time.monotonic()
        for trial in range(1, num_tries + 1):
            try:
                return attempt()
            except UserError:  # The local disk refused, or the file does not end.
                raise
            except FileNotFoundError:
                raise UserError(f"there is no {where}; copy the whole data set there, as it was packed.") from None
            except PermissionError as error:
                raise UserError(f"{where} may not be read ({_reason(error)}); check keys and permissions.") from None
            except Exception as error:  # Every service has errors of its own.
                if trial == num_tries or ENDING.is_set():
                    seconds = time.monotonic() - started
                    raise UserError(
                        f"{where} could not be read in {trial} tries over {seconds:.0f} s ({_reason(error)}); "
                        "rerun the command once it can be."
                    ) from None
            ENDING.wait(delay * random.uniform(0.5, 1.5))  # Spreads the retries of many processes.
            delay = min(2 * delay, _MAX_DELAY_SEC)
        raise AssertionError

    def _connect(self) -> None:
        import fsspec  # Takes a second; local data sets do not need it.

        protocol = self.address.split("://", 1)[0]
        options = dict(_OPTIONS.get(protocol, {}))
        try:
            if protocol in ("http", "https"):
                import aiohttp

                timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_SEC, sock_read=_TIMEOUT_SEC)
                options["client_kwargs"] = {"timeout": timeout}
            self._files, self._root = fsspec.core.url_to_fs(self.address, **options)
            if protocol == "s3":
                self._files.retries = 1  # The tries of s3fs itself, which no option sets.
        except ImportError as error:
            raise UserError(f"{self.address} needs more packages ({error}): pip install 'facegen[remote]'") from None
        except ValueError as error:
            raise UserError(f"{self.address} is not an address that fsspec can read ({error}).") from None
        self._lock = threading.Lock()
        self._expected: set[str] = set()
        self._pool = ThreadPoolExecutor(_NUM_PREFETCHING, thread_name_prefix="shards-prefetch")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _write(self, name: str, content: bytes) -> None:
        with writing(self.folder):
            write_bytes(self.folder / name, content, durable=False)

    def _locked(self, name: str) -> AbstractContextManager[None]:
        return locked(self.folder / f".{name}.lock")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
