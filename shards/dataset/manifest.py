"""The data set format: WebDataset tar shards beside ``dataset.json`` and ``index.safetensors``.

A data set is a directory::

    dataset.json         schema, splits, shards with counts, sizes and checksums, provenance, fingerprint
    index.safetensors    one row a sample: byte offset, byte size, checksum, key and every label, as columns
    train-000000.tar     uncompressed USTAR; a sample is KEY.jpg (or .png .webp .raw) and KEY.json
    ...

``dataset.json`` is written last, so a directory that has one is complete. Offsets and labels are columns of a
safetensors file, which are mapped into memory: a billion samples cost disk, not memory.
Rows follow the order of ``shards`` in ``dataset.json``, which lists them split by split: a split is one range of rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from shards.base.errors import DamagedFile, UserError, shown
from shards.base.formats import Format
from shards.base.plain_files import is_shard_name
from shards.base.records import Count, as_record, read_json

DATASET_FORMAT = Format("data set", version=2, upgrades={1: lambda content: {**content, "index": {}}})
"""Version 2 adds the checksums of the index."""
_FINGERPRINT_VERSION = 1
"""Part of the fingerprint; another number would give every existing data set another fingerprint."""
SPLITS = ("train", "val", "test")
DATASET_FILE = "dataset.json"
INDEX_FILE = "index.safetensors"
PACKING_DIR = ".packing"
"""Folder inside a data set that is still being packed."""
_SAMPLE_BYTES = 1024
"""Least that a sample takes in a tar: a block for its header, and one for its image."""

Side = Annotated[int, Ge(1), Le(65_500)]
"""Pixels, as many as JPEG allows."""
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
    num_samples: Count
    num_bytes: Count
    sha256: str


@dataclass(frozen=True)
class ImageFormat:
    """How every image of the data set is stored: ``height`` x ``width`` x ``channels``, and the codec's settings."""

    height: Side
    width: Side
    channels: Annotated[int, Ge(1), Le(4)]
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
    index: dict[str, str] = field(default_factory=dict)
    """sha256 of each column of the index; empty in data sets of format version 1."""

    @property
    def fingerprint(self) -> str:
        """A short name for the exact content: changes when any image, label or split does."""
        content = [(shard.name, shard.split, shard.num_samples, shard.sha256) for shard in self.shards]
        schema = {name: [label.kind, list(label.classes)] for name, label in sorted(self.fields.items())}
        text = json.dumps([_FINGERPRINT_VERSION, asdict(self.image), schema, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Reason:
    num: Count
    first: list[str]


@dataclass(frozen=True)
class _Skipped:
    num: Count
    reasons: dict[str, _Reason]


@dataclass(frozen=True)
class _Input:
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Provenance:
    source: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    input: _Input = field(default_factory=_Input)
    notes: list[str] = field(default_factory=list)
    skipped: _Skipped | None = None
    num_enlarged: Count = 0


@dataclass(frozen=True)
class _Described:
    """The parts of a provenance that are shown; sources and options add others of any form."""

    provenance: _Provenance


def column_dtypes(manifest: Manifest, has_checksums: bool) -> dict[str, type[np.generic]]:
    """Type of each column of an index.

    Args:
        manifest: Whose index it is.
        has_checksums: Whether it holds checksums of the images.
    """
    checksums: dict[str, type[np.generic]] = {"crc32": np.uint32} if has_checksums else {}
    labels = {f"label.{name}": label.dtype for name, label in manifest.fields.items()}
    keys = {"key_bytes": np.uint8, "key_end": np.int64}
    return {"offset": np.int64, "size": np.int32, **keys, **checksums, **labels}


def read_manifest(root: Path) -> Manifest:
    """Reads the ``dataset.json`` of a folder.

    Raises:
        DamagedFile: It is damaged.
        UserError: There is none, or one of a newer format, or one that names shards outside its folder.
    """
    path = root / DATASET_FILE
    try:
        is_there = path.is_file()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); ask its owner for read permission.") from None
    if not is_there:
        if (root / PACKING_DIR).is_dir():
            advice = "finish it by rerunning its `python -m shards.pack` command"
        elif any(root.glob("*.tar")):
            advice = f"index its shards with: python -m shards.index {root}"
        else:
            advice = f"make one with: python -m shards.pack synthetic {root}"
        raise UserError(f"{root} holds no complete data set (no {DATASET_FILE}); {advice}.")
    advice = f"make it again with: python -m shards.index {root}"
    content = DATASET_FORMAT.read(path, read_json(path, advice), advice)
    fingerprint = content.pop("fingerprint", None)
    missing = [item.name for item in fields(Manifest) if item.name not in content]
    if missing:  # Not even those with a default: without identity_field, persons would not count.
        raise DamagedFile(f"{path}: {missing[0]} is missing; {advice}.")
    manifest = as_record(content, Manifest, path, advice)
    as_record(content, _Described, path, advice, other_fields=True)
    _check_shard_names(path, [shard.name for shard in manifest.shards])
    problem = _contradiction(manifest)
    if not problem and manifest.fingerprint != fingerprint:
        problem = f"its content has the fingerprint {manifest.fingerprint}, not {shown(fingerprint)}"
    if problem:
        raise DamagedFile(f"{path}: {problem}; {advice}.")
    return manifest


def _contradiction(manifest: Manifest) -> str | None:
    """What cannot be true of a data set, as part of a sentence; None if nothing is found."""
    for name, label in manifest.fields.items():
        if len(set(label.classes)) < len(label.classes):
            return f"fields.{shown(name)}.classes names a class twice"
    identity = manifest.identity_field
    if identity is not None and (identity not in manifest.fields or manifest.fields[identity].kind != "class"):
        return f"identity_field is {shown(identity)}, which is not a field of classes"
    for shard in manifest.shards:
        if shard.split not in SPLITS:
            return f"the shard {shard.name} has the split {shown(shard.split)}, not one of {', '.join(SPLITS)}"
        if shard.num_samples * _SAMPLE_BYTES > shard.num_bytes:
            return f"the shard {shard.name} has {shard.num_bytes:,} bytes, too few for {shard.num_samples:,} samples"
    order = [SPLITS.index(shard.split) for shard in manifest.shards]
    if order != sorted(order):
        return f"the shards are not in the order of their splits, {', '.join(SPLITS)}"
    if manifest.index and set(manifest.index) != set(column_dtypes(manifest, "crc32" in manifest.index)):
        return "index does not name the columns of its label fields"
    return None


def _check_shard_names(path: Path, names: Sequence[object]) -> None:
    """Refuses a manifest with shards that could lie outside its folder.

    Raises:
        UserError: A name that is not a plain name of a tar file, or that two shards share.
    """
    for name in names:
        if not is_shard_name(name):
            raise UserError(
                f"{path} names a shard {shown(name)}; a shard's name has letters, digits, '.', '_' and '-', no leading "
                "dot, and ends with .tar. Do not use this data set unless you trust where it comes from."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} lists the shard {twice} more than once; copy or pack the data set again.")
