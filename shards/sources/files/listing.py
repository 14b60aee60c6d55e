"""Finds the image files of a folder, and the tree of a published data set inside a folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NoReturn

from shards.base.errors import UserError
from shards.base.names import find_repeated
from shards.base.printing import printable
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

    Raises:
        UserError: The folder, or one below it, cannot be listed.
    """
    images, others = [], []
    excluded = exclude.resolve() if exclude else None
    with listing(root):
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
    with listing(folder), os.scandir(folder) as entries:
        subfolders = itertools.islice((entry for entry in entries if entry.is_dir()), _NUM_PROBED_FOLDERS)
        for subfolder in list(subfolders):
            yield from (f"{subfolder.name}/{name}" for name in os.listdir(subfolder.path))


def first_few(names: Sequence[str]) -> str:
    """The first ten names, and dots if there are more."""
    return ", ".join(map(printable, names[:_NUM_NAMED])) + (", ..." if len(names) > _NUM_NAMED else "")


@contextmanager
def listing(folder: Path) -> Iterator[None]:
    """Turns an error of listing a folder inside into one sentence: its images must not vanish silently.

    Raises:
        UserError: It cannot be listed.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be listed ({error.strerror or error}); fix its permissions, or move it "
            "elsewhere."
        ) from None


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Folder and name of each file; each folder once, though links may lead to it as well.

    A file's path says who is on it, so it must not depend on the order in which the disk lists folders: a folder counts
    where it lies, else at the first link to it in alphabetical order.
    """
    seen: set[tuple[int, int]] = set()
    starts = [str(root)]
    while starts:
        links: list[str] = []
        for folder, subfolders, names in itertools.chain.from_iterable(map(_walk_without_links, starts)):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            links += filter(os.path.islink, (os.path.join(folder, name) for name in subfolders))
            for name in names:
                yield folder, name
        starts = sorted(links)


def _walk_without_links(start: str) -> Iterator[tuple[str, list[str], list[str]]]:
    def refuse(error: OSError) -> NoReturn:
        raise error

    return os.walk(start, onerror=refuse)


def _subfolders(folder: Path) -> list[Path]:
    with listing(folder):
        return sorted(path for path in folder.iterdir() if path.is_dir())
