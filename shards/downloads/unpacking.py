"""Unpacks archives that came from elsewhere: whole or not at all, and never outside their folder."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from shards.base.errors import UserError
from shards.base.files import publish
from shards.base.progress import tracked

_MAX_DEPTH = 100
"""Folders within each other: Python makes and deletes them recursively, and no data set has as many."""
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,  # An encrypted zip; NotImplementedError, an unknown method.
)
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.endswith((*_TAR_SUFFIXES, ".zip"))


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpacks into a folder; existing top-level files and folders of the same name stay as they are.

    Args:
        archive: A tar, compressed or not, or a zip.
        folder: Where its top-level files and folders appear, once all are unpacked.

    Returns:
        Names of the top-level files and folders.

    Raises:
        UserError: A damaged archive, a path that leads out of the folder, or a full disk.
    """
    temporary = folder / f".{archive.name}.unpacking"
    extract: Callable[[Path, Path], None] = _unzip if archive.suffix == ".zip" else _untar
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        extract(archive, temporary)
        names = sorted(path.name for path in temporary.iterdir())
        if not names:
            raise ValueError("it holds no files")
        for name in names:
            if not (folder / name).exists():
                publish(temporary / name, folder / name, durable=False)
    except _DAMAGE as error:
        raise UserError(f"{archive} cannot be unpacked ({error}); delete it and fetch it again.") from None
    except OSError as error:
        if error.errno is None:  # Not of the disk: bz2 says so of damaged data.
            raise UserError(f"{archive} cannot be unpacked ({error}); delete it and fetch it again.") from None
        raise UserError(
            f"{archive} cannot be unpacked into {folder} ({error.strerror}); fix this, then rerun the command."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tracked(tar, f"unpacking {archive.name}", None, "files"):
            _check_inside(member.name)
            path = folder / member.name
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            if not member.isfile():
                raise tarfile.ExtractError(f"'{member.name}' is neither a file nor a folder")
            # Not tar.extract: it is safe only with a filter, which Python has from 3.11.4 on (Debian 12 has 3.11.2).
            content = tar.extractfile(member)
            assert content is not None  # Regular files have content.
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, open(path, "wb") as file:
                shutil.copyfileobj(content, file)


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in tracked(members, f"unpacking {archive.name}", len(members), "files"):
            _check_inside(member.filename)
            file.extract(member, folder)


def _check_inside(name: str) -> None:
    if not name:
        raise ValueError("an entry has no name")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"'{name}' leads out of the folder")
    if len(Path(name).parts) > _MAX_DEPTH:
        raise ValueError(f"'{name[:40]}...' lies more than {_MAX_DEPTH} folders deep")
