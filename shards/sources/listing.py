"""Finds the image files of a folder, and the tree of a published data set inside a folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from shards.base.names import find_repeated
from shards.images.reading import IMAGE_SUFFIXES

_NUM_PROBED_FOLDERS = 20
_NUM_NAMED = 10


def list_files(root: Path, exclude: Path | None = None) -> tuple[list[str], list[str]]:
    """Walks a folder, symbolic links included.

    Args:
        root: Where to start.
        exclude: A file to leave out of both lists.

    Returns:
        Sorted relative paths, with ``/``, of the image files and of all others. Hidden files are never images: those
        with image suffixes are mostly the resource forks that macOS leaves behind.
    """
    images, others = [], []
    excluded = exclude.resolve() if exclude else None
    for folder, name in _walk(root):
        relative = (PurePosixPath(Path(folder).relative_to(root).as_posix()) / name).as_posix()
        if excluded and name == excluded.name and Path(folder, name).resolve() == excluded:
            continue
        is_image = not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        (images if is_image else others).append(relative)
    return sorted(images), sorted(others)


def unique_keys(files: Sequence[str]) -> Iterator[str]:
    """A key for each relative path: without the suffix, except where ``a.jpg`` and ``a.png`` lie side by side."""
    repeated = find_repeated(lambda: map(path_key, files))
    return (file if key in repeated else key for file, key in zip(files, map(path_key, files), strict=True))


def path_key(file: str) -> str:
    """The relative path without the suffix."""
    return str(PurePosixPath(file).with_suffix(""))


def find_tree(root: Path, is_tree: Callable[[Path], bool]) -> Path | None:
    """The first folder for which ``is_tree`` holds: ``root``, or one at most two levels below it."""
    if not root.is_dir():
        return None
    children = _subfolders(root)
    grandchildren = itertools.chain.from_iterable(map(_subfolders, children))
    folders = itertools.chain([root], children, grandchildren)
    return next((folder for folder in folders if is_tree(folder)), None)


def probe(folder: Path) -> Iterator[str]:
    """Entries of the first sub-folders, as ``FOLDER/NAME``: enough to recognize a tree without listing all of it."""
    with os.scandir(folder) as entries:
        subfolders = itertools.islice((entry for entry in entries if entry.is_dir()), _NUM_PROBED_FOLDERS)
        for subfolder in list(subfolders):
            yield from (f"{subfolder.name}/{name}" for name in os.listdir(subfolder.path))


def first_few(names: Sequence[str]) -> str:
    """The first ten names, and dots if there are more."""
    return ", ".join(names[:_NUM_NAMED]) + (", ..." if len(names) > _NUM_NAMED else "")


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # A link back to a folder above.
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in names:
            yield folder, name


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())
