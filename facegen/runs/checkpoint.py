"""Directories that are either complete or not there: checkpoints (all the state) and snapshots (for inference).

A directory is written under a temporary name, its files are fsynced, a marker file with the checksum of each file seals
it, and only then is it renamed. So a crash at any moment leaves the older directories intact; one that was being
replaced may have a hidden name then, and the next writer restores it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from shards.base.errors import DamagedFile, Note, UserError, shown
from shards.base.operating_system import fsync, rename
from shards.base.plain_files import is_plain_name
from shards.base.records import parse_json

ModuleT = TypeVar("ModuleT", bound=nn.Module)

MARKER = "COMPLETE"
SET_ASIDE = "damaged_"
_REPLACED = ".replaced"


def directory_name(images_seen: int) -> str:
    """Name of a directory that was saved after so many images; names sort by age."""
    return f"images_{images_seen:012d}"


def write_complete(directory: Path, write: Callable[[Path], None]) -> None:
    """Makes ``directory`` with what ``write`` puts into it, all or nothing.

    Args:
        directory: The final path; replaces a directory that this function made.
        write: Gets an empty directory and writes plain files into it.

    Raises:
        UserError: Something else lies there.
        OSError: The disk is full or not writable; no part of the new directory stays.
    """
    temporary, replaced = (directory.with_name(f".{directory.name}{ending}") for ending in (".tmp", _REPLACED))
    put_back(directory.parent)
    if directory.exists() and not (directory / MARKER).is_file():
        raise UserError(
            f"{directory} exists and is not a complete directory of facegen; move it away, then rerun the command."
        )
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        checksums = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / MARKER).write_text(json.dumps(checksums, indent=1) + "\n", encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            fsync(path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if directory.exists():
        rename(directory, replaced)
    rename(temporary, directory)
    fsync(directory.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def put_back(root: Path) -> None:
    """Undoes half-finished replacements of killed writers."""
    for replaced in root.glob(f".*{_REPLACED}"):
        directory = root / replaced.name[1:].removesuffix(_REPLACED)
        if directory.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            rename(replaced, directory)


def newest_complete(root: Path) -> Path | None:
    """The newest undamaged directory under ``root``, or None; newer damaged ones are skipped with a warning."""
    for path in sorted(root.glob("images_*"), reverse=True):
        problem = damage(path)
        if not problem:
            return path
        warnings.warn(f"{path} is skipped: {problem}", Note, stacklevel=2)
    return None


def set_aside_damaged(root: Path) -> None:
    """Renames damaged directories to ``damaged_...``, with a warning, so that none counts among those to keep.

    A new owner of ``root`` calls this first, so it also calls ``put_back``.

    Raises:
        UserError: One may not be read, or its file system does not answer, which says nothing about its content.
    """
    try:
        os.listdir(root)  # A folder that may not be listed looks empty to ``glob``.
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(root, error) from None
    put_back(root)
    for path in sorted(root.glob("images_*")):
        try:
            problem = _finding(path)
        except OSError as error:
            if error.errno != errno.EIO:
                raise _unreadable(path, error) from None
            problem = f"it cannot be read ({error})"
        if problem:
            aside = path.with_name(f"{SET_ASIDE}{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            rename(path, aside)
            warnings.warn(f"{path} is set aside as {aside.name}: {problem}", Note, stacklevel=2)


def prune(root: Path, keep: int) -> None:
    """Deletes all but the newest ``keep`` directories that have their marker; call it after a new one is complete.

    It also deletes what killed writers left, so nobody else may be writing under ``root``.
    """
    sealed = [path for path in sorted(root.glob("images_*")) if (path / MARKER).is_file()]
    delete(root, sealed[:-keep])


def delete(root: Path, directories: Iterable[Path]) -> None:
    """Deletes complete directories under ``root``, and what killed writers left there.

    The next call retries what cannot be deleted: NFS keeps a folder while somebody reads from it.
    """
    for directory in directories:
        # Renamed first: half of it, after a kill, would look like a damaged one.
        rename(directory, directory.with_name(f".{directory.name}.tmp"))
    for leftover in root.glob(".images_*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def save_module(module: nn.Module, path: Path) -> None:
    """Writes a module's parameters and buffers as safetensors."""
    # Not save_file, whose files only their owner may read.
    path.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}))


def load_module(module: nn.Module, path: Path) -> None:
    """Reads what ``save_module`` wrote into a module of the same structure.

    Raises:
        DamagedFile: The file cannot be read, or holds another structure.
    """
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise DamagedFile(f"{path} does not hold these networks ({shown(error)}); restore it from a copy.") from None


def build_described(make: Callable[[], ModuleT], source: Path, weights: Path) -> ModuleT:
    """Builds a module from a description that may come from elsewhere.

    Args:
        make: Builds it.
        source: File of the description.
        weights: File of its weights, which bounds how much memory the module may take.

    Raises:
        DamagedFile: It cannot be built, or would be larger than its weights.
    """
    try:
        with torch.device("meta"):
            num_bytes = sum(tensor.nbytes for tensor in make().state_dict().values())
        if num_bytes <= weights.stat().st_size:
            return make()
        finding = f"{num_bytes:,} bytes of weights, and {weights.name} holds {weights.stat().st_size:,}"
    except (OSError, ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        finding = f"networks that cannot be built ({shown(error)})"
    raise DamagedFile(f"{source} describes {finding}; restore it from a copy.")


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes nested dicts and lists of tensors and numbers."""
    # Through memory, as torch reports a full disk as an error of its zip writer.
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    path.write_bytes(buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Reads what ``save_state`` wrote, onto the CPU; nothing else is unpickled.

    Raises:
        DamagedFile: The file cannot be read, or holds something else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no error of its own for a damaged file.
        raise DamagedFile(f"{path} cannot be read ({shown(error)}); restore it from a copy.") from None


def damage(directory: Path) -> str | None:
    """What is wrong with a directory that ``write_complete`` should have made; None if it is complete."""
    try:
        return _finding(directory)
    except OSError as error:
        return f"it cannot be read ({error})"


def _finding(directory: Path) -> str | None:
    """As ``damage``, but an ``OSError`` where it cannot be read."""
    marker = directory / MARKER
    if marker.exists() and not marker.is_file():  # Reading from a pipe would never end.
        return f"its {MARKER} is not a plain file"
    try:
        checksums = parse_json(marker.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return f"it has no {MARKER} file, so its writing was not finished"
    except ValueError:
        return f"its {MARKER} file is damaged"
    if not isinstance(checksums, dict) or not checksums:
        return f"its {MARKER} file is damaged"
    for name, checksum in checksums.items():
        if not is_plain_name(name):
            return f"its {MARKER} file names {name!r}, which is not a file of this directory"
        if not (directory / name).is_file():  # Reading from a pipe would never end.
            return f"its file {name} is missing"
        try:
            if _sha256(directory / name) != checksum:
                return f"its file {name} is damaged"
        except FileNotFoundError:
            return f"its file {name} is missing"
    return None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error.strerror}); fix this, then rerun the command.")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
