"""Copies of run directories in a storage that all machines reach (s3, gs, any of fsspec), without a shared disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
from pyarrow import ArrowInvalid, fs

from facegen.runs.checkpoint import MARKER, damage, newest_complete
from facegen.runs.run_directory import CHECKPOINTS
from facegen.runs.snapshot import SNAPSHOTS
from shards.base.errors import UserError


def open_storage(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL, as Ray takes it, and the path on it.

    Raises:
        UserError: A URL that neither pyarrow nor fsspec knows, or that cannot be reached.
    """
    try:
        try:
            return fs.FileSystem.from_uri(url)
        except ArrowInvalid:
            system, path = fsspec.core.url_to_fs(url)
            return fs.PyFileSystem(fs.FSSpecHandler(system)), path
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"cannot use the storage {url}: {' '.join(str(error).split())}") from None


class RunStorage:
    """Copies of the run directories of a sweep's trials."""

    def __init__(self, url: str) -> None:
        """Opens the storage at ``url``; each trial has a folder below it.

        Raises:
            UserError: As ``open_storage``.
        """
        self._system, root = open_storage(url)
        self._root = root.rstrip("/")
        self._sent: dict[Path, tuple[int, int]] = {}

    def save(self, name: str, run: Path) -> None:
        """Brings the copy of a run up to date: sends what is new, and deletes checkpoints that no longer exist here."""
        files = {path: path.stat() for path in run.rglob("*") if path.is_file()}
        # Markers last: a checkpoint without one does not count.
        for path in sorted(files, key=lambda path: path.name == MARKER):
            state = (files[path].st_mtime_ns, files[path].st_size)
            if self._sent.get(path) != state:
                target = f"{self._root}/{name}/{path.relative_to(run).as_posix()}"
                self._system.create_dir(target.rpartition("/")[0], recursive=True)
                fs.copy_files(str(path), target, fs.LocalFileSystem(), self._system, use_threads=False)
                self._sent[path] = state
        for group in (CHECKPOINTS, SNAPSHOTS):
            for path in self._directories(f"{name}/{group}"):
                if not (run / group / path.rpartition("/")[2]).is_dir():
                    self._system.delete_dir(path)

    def restore(self, name: str, run: Path) -> None:
        """Fetches a run, unless the one here is as far or the storage holds none."""
        theirs = max((path.rpartition("/")[2] for path in self._directories(f"{name}/{CHECKPOINTS}")), default="")
        own = newest_complete(run / CHECKPOINTS)
        if not theirs or (own is not None and own.name >= theirs):
            return
        self.fetch(name, run)

    def fetch(self, name: str, run: Path) -> None:
        """Replaces ``run`` by the storage's copy; does nothing if there is none."""
        if not self._directories(name):
            return
        temporary = run.with_name(f".{run.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        fs.copy_files(f"{self._root}/{name}", str(temporary), self._system, fs.LocalFileSystem(), use_threads=False)
        for directory in temporary.glob("*/images_*"):
            if damage(directory):  # Its sender stopped before the marker was written.
                shutil.rmtree(directory)
        shutil.rmtree(run, ignore_errors=True)
        temporary.rename(run)

    def drop_checkpoints(self, name: str) -> None:
        """Deletes the checkpoints of a run's copy."""
        if self._directories(f"{name}/{CHECKPOINTS}"):
            self._system.delete_dir(f"{self._root}/{name}/{CHECKPOINTS}")

    def _directories(self, path: str) -> list[str]:
        selector = fs.FileSelector(f"{self._root}/{path}", allow_not_found=True)
        return [info.path for info in self._system.get_file_info(selector) if info.type == fs.FileType.Directory]
