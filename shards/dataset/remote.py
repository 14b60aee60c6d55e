"""Data sets behind an address, such as ``s3://bucket/faces``: their files come through a cache on the local disk.

Shards download on demand, one block ahead, once per machine, and are checked against the manifest's sha256 before use.
The cache is bounded: the least recently used shards are deleted, and open files stay readable even then.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from shards.base.errors import ENDING, DamagedFile, UserError
from shards.base.files import publish, write_bytes
from shards.base.operating_system import READ_FLAGS, touch
from shards.dataset.addresses import CHUNK_BYTES, NUM_TRIES, DamagedOnItsWay, RemoteFolder, TooLong
from shards.dataset.cache import SIZE_VARIABLE, cache_bytes, locked, make_room, shards_folder, writing
from shards.dataset.tar import sha256_file

if TYPE_CHECKING:
    from shards.dataset.manifest import Shard

_MAX_MANIFEST_BYTES = 2**28
"""Above that of a million shards. An index may be larger, up to the size of the cache."""
_NUM_PREFETCHING = 2
ResultT = TypeVar("ResultT")
_ENDLESS = f"check the address, or raise {SIZE_VARIABLE}"


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
        self._files = RemoteFolder(self.address)
        self._begin()
        content = self._files.persistently(manifest_name, lambda: self._manifest(manifest_name))
        self.folder = shards_folder() / hashlib.sha256(content).hexdigest()[:24]
        with self.locked(manifest_name), writing(self.folder):
            write_bytes(self.folder / manifest_name, content, durable=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "folder": self.folder, "_files": self._files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._expected: set[str] = set()
        self.after_prefetch: Callable[[Shard], None] = lambda shard: None
        """Fetches what else a prefetched shard needs."""
        self._pool = ThreadPoolExecutor(_NUM_PREFETCHING, thread_name_prefix="shards-prefetch")

    def fetch(self, name: str, max_bytes: int, check: Callable[[Path], None]) -> None:
        """Fetches a file beside the manifest, once.

        Args:
            name: Of the file.
            max_bytes: More than it can have; a server that sends even more is refused.
            check: Gets the path of what has arrived, and raises ``DamagedFile`` if that must not be kept.

        Raises:
            UserError: It cannot be fetched.
        """
        path, part = self.folder / name, self._part(name)

        def attempt() -> None:
            with self._open(part, "wb") as file:
                self._copy(name, file, min(max_bytes, max(cache_bytes(), _MAX_MANIFEST_BYTES)), _ENDLESS)
            try:
                check(part)
            except DamagedFile as error:  # Perhaps only on its way here.
                raise DamagedOnItsWay(str(error).replace(str(part), "what arrived")) from None
            with writing(self.folder):
                publish(part, path, durable=False)

        with self.locked(name):
            if path.is_file():
                with suppress(OSError):
                    os.utime(path)  # It is in use: others make room for theirs elsewhere.
                return
            try:
                self._files.persistently(name, attempt)
            finally:
                part.unlink(missing_ok=True)

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Reads a part of a file beside the manifest, once.

        Raises:
            Exception: As ``RemoteFolder.read``.
        """
        return self._files.read(name, start, stop)

    def persistently(self, name: str, attempt: Callable[[], ResultT], num_tries: int = NUM_TRIES) -> ResultT:
        """Retries what reads a file beside the manifest; as ``RemoteFolder.persistently``.

        Raises:
            UserError: Every try failed.
        """
        return self._files.persistently(name, attempt, num_tries)

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Holds the lock of a file beside the manifest, between processes and threads alike."""
        return locked(self.folder / f".{name}.lock")

    def open(self, shard: Shard) -> int:
        """Opens a shard's checked copy, fetched if needed; the caller closes the descriptor.

        Raises:
            UserError: The shard cannot be fetched, is damaged, or does not fit on the disk.
        """
        path = self.folder / shard.name
        while True:
            try:
                descriptor = os.open(path, READ_FLAGS)
            except FileNotFoundError:  # Never fetched, or just deleted to make room.
                self._ensure(shard)
                continue
            touch(descriptor, path)  # By its descriptor: another process may delete the path meanwhile.
            return descriptor

    def prefetch(self, shards: Iterable[Shard]) -> None:
        """Fetches shards in the background; whoever reads them meets the errors again."""
        for shard in shards:
            with self._lock:
                if shard.name in self._expected or (self.folder / shard.name).is_file():
                    continue
                self._expected.add(shard.name)
            self._pool.submit(self._prefetch, shard)

    def check_room(self, num_bytes: int, advice: str = "copy the data set here") -> None:
        """Checks that shards that are read in turn fit into the cache together.

        Args:
            num_bytes: What they take.
            advice: What else helps than a larger cache.

        Raises:
            UserError: They do not: each would be fetched many times.
        """
        if num_bytes > cache_bytes():
            raise UserError(
                f"shards of {self.address} that are read in turn take {num_bytes / 1e9:.2g} GB and the cache holds "
                f"{cache_bytes() / 1e9:.2g} GB; raise the variable {SIZE_VARIABLE}, or {advice}."
            )

    def _prefetch(self, shard: Shard) -> None:
        try:
            if not ENDING.is_set():
                self._ensure(shard, num_tries=1)  # Once: readers wait for its lock meanwhile, and retry themselves.
                self.after_prefetch(shard)
        except UserError:
            pass
        finally:
            with self._lock:
                self._expected.discard(shard.name)

    def _ensure(self, shard: Shard, num_tries: int = NUM_TRIES) -> None:
        """Fetches a shard unless another process has done so."""
        path = self.folder / shard.name
        with self.locked(shard.name):
            if path.is_file():
                return
            part = self._part(shard.name)
            num_missing = shard.num_bytes - (part.stat().st_size if part.is_file() else 0)
            with locked(shards_folder() / ".lock"):
                make_room(shards_folder(), cache_bytes() - num_missing, self.folder)
            try:
                self._files.persistently(shard.name, lambda: self._fetch_shard(shard, part), num_tries)
                with writing(self.folder):
                    publish(part, path, durable=False)
            finally:
                if num_tries == NUM_TRIES or ENDING.is_set():  # Otherwise a call with more tries resumes it.
                    part.unlink(missing_ok=True)

    def _fetch_shard(self, shard: Shard, part: Path) -> None:
        """Fetches what a part lacks, then checks the whole."""
        with self._open(part, "ab") as file:
            while file.tell() < shard.num_bytes:
                if ENDING.is_set():
                    raise InterruptedError("the program ends")
                start = file.tell()
                try:
                    chunk = self._files.read(shard.name, start, min(start + CHUNK_BYTES, shard.num_bytes))
                except TooLong:  # A server that sends whole files only.
                    file.truncate(0)
                    advice = "its manifest says so: copy the whole data set there again, as it was packed"
                    self._copy(shard.name, file, shard.num_bytes, advice)
                    break
                self._append(file, chunk)
        if sha256_file(part) != shard.sha256:
            part.unlink()
            raise DamagedOnItsWay("its sha256 differs from the manifest's")

    def _manifest(self, name: str) -> bytes:
        content = io.BytesIO()  # Gives its bytes away without a copy.
        self._files.copy(name, content.write, _MAX_MANIFEST_BYTES, _ENDLESS)
        return content.getvalue()

    def _copy(self, name: str, file: BinaryIO, max_bytes: int, advice: str) -> None:
        self._files.copy(name, lambda data: self._append(file, data), max_bytes, advice)

    def _open(self, part: Path, mode: str) -> BinaryIO:
        with writing(self.folder):
            return open(part, mode)  # type: ignore[return-value]

    def _append(self, file: BinaryIO, data: bytes) -> None:
        with writing(self.folder):
            file.write(data)
            file.flush()

    def _part(self, name: str) -> Path:
        return self.folder / f".{name}.part"
