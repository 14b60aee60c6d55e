"""The data set format: WebDataset tar shards beside ``dataset.json`` and ``index.safetensors``.

A data set is a directory::

    dataset.json         schema, splits, shards with counts, sizes and checksums, provenance, fingerprint
    index.safetensors    one row a sample: byte offset, byte size, checksum, key and every label, as columns
    train-000000.tar     uncompressed USTAR; a sample is KEY.jpg (or .png .webp .raw) and KEY.json
    ...

``dataset.json`` is written last, so a directory that has one is complete. Offsets and labels are columns of a
safetensors file instead of JSON so that ten million samples open in a fraction of a second and cost a few bytes each.
Rows follow the order of ``shards`` in ``dataset.json``, which lists them split by split: a split is one range of rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shards.base.errors import UserError
from shards.base.formats import Format
from shards.base.plain_files import is_shard_name

DATASET_FORMAT = Format("data set", version=1)
_FINGERPRINT_VERSION = 1
"""Part of the fingerprint; another number would give every existing data set another fingerprint."""
SPLITS = ("train", "val", "test")
DATASET_FILE = "dataset.json"
INDEX_FILE = "index.safetensors"
PACKING_DIR = ".packing"
"""Folder inside a data set that is still being packed."""

LabelKind = Literal["float", "bool", "class"]
_LABEL_DTYPES: dict[LabelKind, type[np.generic]] = {"float": np.float32, "bool": np.int8, "class": np.int32}


@dataclass(frozen=True)
class LabelField:
    """One label of the schema.

    A ``float`` is stored as float32 (missing: NaN), a ``bool`` as int8 (1, 0; missing: -1), a ``class`` as an int32
    position in ``classes`` (missing: -1).
    """

    kind: LabelKind
    classes: tuple[str, ...] = ()
    description: str = ""

    @property
    def dtype(self) -> type[np.generic]:
        """Numpy type of the column."""
        return _LABEL_DTYPES[self.kind]

    @property
    def missing(self) -> float:
        """The value that stands for "no label"."""
        return float("nan") if self.kind == "float" else -1

    def encode(self, values: Sequence[float | bool | str | None]) -> np.ndarray:
        """Turns label values into a column.

        Args:
            values: One a sample; None is a missing label. Class labels are given by name.

        Raises:
            ValueError: A class that ``classes`` does not list.
        """
        if self.kind == "class":
            positions = {name: position for position, name in enumerate(self.classes)}
            unknown = {str(value) for value in values if value is not None and value not in positions}
            if unknown:
                raise ValueError(f"class labels {sorted(unknown)[:5]} are not among the field's classes")
            values = [None if value is None else positions[value] for value in values]  # type: ignore[index]
        return np.array([self.missing if value is None else value for value in values], dtype=self.dtype)


@dataclass(frozen=True)
class Shard:
    """One tar file: its name in the data set directory, its split, and what it holds."""

    name: str
    split: str
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class ImageFormat:
    """How every image of the data set is stored: ``height`` x ``width`` x ``channels``, and the codec's settings."""

    height: int
    width: int
    channels: int
    extension: str
    """Name of the codec, see ``shards.images.codecs``."""
    codec_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What ``dataset.json`` says."""

    name: str
    image: ImageFormat
    fields: dict[str, LabelField]
    shards: tuple[Shard, ...]
    split: dict[str, Any]
    """How the splits were made: ``by`` (identity, partition, sample), ``fractions``, ``seed``."""
    provenance: dict[str, Any]
    """Source, its options, crop, skipped inputs, library versions: all that says where the images come from."""
    identity_field: str | None = None
    """The class field that names the person, where there is one."""

    @property
    def fingerprint(self) -> str:
        """A short name for the exact content: changes when any image, label or split does."""
        content = [(shard.name, shard.split, shard.num_samples, shard.sha256) for shard in self.shards]
        schema = {name: [label.kind, list(label.classes)] for name, label in sorted(self.fields.items())}
        text = json.dumps([_FINGERPRINT_VERSION, asdict(self.image), schema, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class DamagedManifest(UserError):
    """A ``dataset.json`` that cannot be understood."""


def read_manifest(root: Path) -> Manifest:
    """Reads the ``dataset.json`` of a folder.

    Raises:
        DamagedManifest: It is damaged.
        UserError: There is none, or one of a newer format.
    """
    path = root / DATASET_FILE
    try:
        text = path.read_text() if path.is_file() else None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); ask its owner for read permission.") from None
    except UnicodeDecodeError:
        text = ""
    if text is None:
        if (root / PACKING_DIR).is_dir():
            advice = "finish it by rerunning its `python -m shards.pack` command"
        elif any(root.glob("*.tar")):
            advice = f"index its shards with: python -m shards.index {root}"
        else:
            advice = f"make one with: python -m shards.pack synthetic {root}"
        raise UserError(f"{root} holds no complete data set (no {DATASET_FILE}); {advice}.")
    try:
        content = json.loads(text)
        _ = content[DATASET_FORMAT.key]
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    content = DATASET_FORMAT.read(path, content)
    try:
        manifest = _manifest(content)
    except (KeyError, TypeError, AttributeError):
        raise _damaged(path) from None
    _check_shard_names(path, [shard.name for shard in manifest.shards])
    return manifest


def _damaged(path: Path) -> DamagedManifest:
    return DamagedManifest(f"{path} is damaged; make it again with: python -m shards.index {path.parent}")


def _manifest(content: dict[str, Any]) -> Manifest:
    return Manifest(
        name=content["name"],
        image=ImageFormat(**content["image"]),
        fields={
            name: LabelField(**{**label, "classes": tuple(label["classes"])})
            for name, label in content["fields"].items()
        },
        shards=tuple(Shard(**shard) for shard in content["shards"]),
        split=content["split"],
        provenance=content["provenance"],
        identity_field=content["identity_field"],
    )


def _check_shard_names(path: Path, names: Sequence[object]) -> None:
    """Refuses a manifest with shards that could lie outside its folder.

    Raises:
        UserError: A name that is not a plain name of a tar file, or that two shards share.
    """
    for name in names:
        if not is_shard_name(name):
            raise UserError(
                f"{path} names a shard {name!r}; a shard's name has letters, digits, '.', '_' and '-', no leading dot, "
                "and ends with .tar. Do not use this data set unless you trust where it comes from."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} lists the shard {twice} more than once; copy or pack the data set again.")
