"""Uploads to the studio: kept in memory under names that cannot be guessed; the oldest are dropped first."""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from safetensors.numpy import load, save

from eval.latent.fitted_files import read_version
from eval.latent.photo import MAX_UPLOAD_BYTES, read_upload
from shards.base.errors import UserError
from shards.base.formats import Format

MAX_UPLOADS = 100
"""At 512 x 512 pixels they take 79 MB."""
MAX_LATENT_SIZE = 1_000_000
Kind = TypeVar("Kind")
_LATENT = "latent"
FORMAT = Format("latent", version=1, first=1)
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY", b"PK\x03\x04")
"""First bytes of files that are pickles or may hold them: pickle's own, NumPy's, and PyTorch's zip."""


@dataclass(frozen=True)
class Photo:
    """An uploaded photo."""

    pixels: np.ndarray
    """uint8 (H, W, 3), upright."""


@dataclass(frozen=True)
class Latent:
    """An uploaded latent."""

    values: np.ndarray
    """float32 (L,)."""
    snapshot: str
    """Identity of the weights it belongs to."""


class Uploads:
    """Photos and latents by token."""

    def __init__(self, capacity: int = MAX_UPLOADS) -> None:
        """Keeps the newest ``capacity`` uploads."""
        self._capacity = capacity
        self._kept: OrderedDict[str, Photo | Latent] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = threading.Lock()

    def add(self, data: bytes) -> tuple[str, Photo | Latent]:
        """Reads an image or a latent that ``latent_file`` made, and keeps it.

        Returns:
            The upload's token and content.

        Raises:
            UserError: Neither of the two, or unusable.
        """
        # One at a time: memory must not grow with the number of people.
        with self._decoding:
            item = read_latent(data) if _is_safetensors(data) else Photo(np.asarray(_read_photo(data)))
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[token] = item
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return token, item

    def photo(self, token: str) -> Photo:
        """The photo of a token.

        Raises:
            UserError: Unknown, or dropped.
        """
        return self._find(token, Photo)

    def latent(self, token: str) -> Latent:
        """The latent of a token.

        Raises:
            UserError: Unknown, or dropped.
        """
        return self._find(token, Latent)

    def _find(self, token: str, kind: type[Kind]) -> Kind:
        with self._lock:
            item = self._kept.get(token)
            if isinstance(item, kind):
                self._kept.move_to_end(token)
                return item
        raise UserError("this upload is no longer kept; send the file again.")


def latent_file(latent: np.ndarray, snapshot: str, run: str) -> bytes:
    """A latent (L,) as a safetensors file that ``Uploads.add`` reads."""
    metadata = {FORMAT.key: str(FORMAT.version), "snapshot": snapshot, "run": run}
    return save({_LATENT: np.ascontiguousarray(latent, np.float32)}, metadata)


def read_latent(data: bytes) -> Latent:
    """Reads what ``latent_file`` made.

    Raises:
        UserError: Not a latent, or one that a newer facegen saved.
    """
    if len(data) > MAX_UPLOAD_BYTES:
        raise UserError(f"the file is larger than {MAX_UPLOAD_BYTES // 1_000_000} MB, too large for one latent.")
    advice = "open a latent that the studio saved."
    try:
        tensors = load(data)
        metadata = dict(_header(data)["__metadata__"])
        snapshot = str(metadata["snapshot"])
    except Exception:
        raise UserError(f"this safetensors file is damaged or is not a latent; {advice}") from None
    read_version(FORMAT, Path("this file"), metadata)
    values = tensors.get(_LATENT)
    if set(tensors) != {_LATENT} or values is None or values.dtype != np.float32 or values.ndim != 1:
        raise UserError(f"this safetensors file is not a latent of one face; {advice}")
    if not 0 < len(values) <= MAX_LATENT_SIZE or not np.isfinite(values).all():
        raise UserError(f"this latent is empty or has values that are not finite; {advice}")
    return Latent(values, snapshot)


def _read_photo(data: bytes) -> Image.Image:
    if data.startswith(_PICKLES):
        raise UserError("pickled and archived files are never opened; send an image, or a latent as .safetensors.")
    return read_upload(data)


def _header(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file; the library reads it from paths only, not from bytes."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _is_safetensors(data: bytes) -> bool:
    """Whether a file begins like a safetensors file: the header's length, then JSON."""
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8
