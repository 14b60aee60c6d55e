"""Files that appear whole or not at all, and one sentence where none can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from shards.base.errors import UserError


@contextmanager
def writing_to(path: str | Path) -> Iterator[None]:
    """Inside, an error of the disk becomes a ``UserError`` that names what could not be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another place.") from None


def make_folder(path: str | Path) -> Path:
    """Makes a folder and those above it, or says that it cannot be."""
    with writing_to(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def save_whole(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file under a temporary name and renames it; makes the folders above it."""
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    os.close(handle)
    try:
        # An array that is not in C order would be written as its memory lies, which is another array.
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        save_file(contiguous, temporary, dict(metadata) if metadata else None)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it.

    Raises:
        UserError: Nothing can be written there.
    """
    with writing_to(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)  # mkstemp makes it readable to its owner only; a report is to be passed on.
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
