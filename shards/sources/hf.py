"""Any Hugging Face image data set, by its name on the hub or by a local path, streamed.

Rows pass through one by one. What packing needs, the encoded images and the scalar labels, is kept in a spool in the
cache directory, because packing shuffles and a stream has one order. A stream that broke off resumes where it stopped.
Needs ``pip install 'facegen[hf]'``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from shards.base.errors import UserError
from shards.base.places import cache_directory
from shards.dataset.label_types import Scalar, convert, find_identity, infer_fields
from shards.images.reading import Crop, open_image_bytes
from shards.sources.base import Item, SourceEntry
from shards.sources.files.spool import Spool, SpoolWriter

_SPLIT_OF_WORD = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
_ADVICE = "check the name, the network and, for a gated data set, HF_TOKEN"
_MISSING_EXTRA = "source 'hf' needs the package datasets: pip install 'facegen[hf]'"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_SEC = 30.0


@dataclass
class HfConfig:
    """Any Hugging Face image data set, by name or local path; needs the extra hf."""

    input: str
    """Name on the hub, such as nielsr/CelebA-faces, or a local folder: parquet or other data files, an image folder, or
    what save_to_disk wrote."""
    subset: str | None = None
    """Configuration of a data set that has several."""
    split: str | None = None
    """Split to take, such as train; when not given, all of them, which then are the data set's own partition."""
    revision: str | None = None
    """Branch, tag or commit on the hub; the data set records which commit it was. Offline, give the commit."""
    image_column: str | None = None
    """Column of the images; the first image column when not given."""
    identity_column: str | None = None
    """Column that names the person; one called identity, person or subject when not given."""
    limit: int | None = None
    """Number of images to take from the start of each split; no more are downloaded."""

    def __post_init__(self) -> None:
        """Raises ValueError for a limit below 1."""
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be at least 1, not {self.limit}.")


class HfSource:
    """The images in the order of the stream. Implements ``shards.sources.base.Source``."""

    name = "hf"
    crop: Crop | None = None

    def __init__(self, config: HfConfig) -> None:
        """Streams the data set into the spool, unless it is complete, and infers the types of the labels.

        Raises:
            UserError: The extra is missing, no such data set, no images in it, or a stream that broke off.
        """
        commit = commit_of(config)
        self._spool = Spool(fill_spool(replace(config, revision=commit)))
        splits, rows = self._spool.splits, self._spool.labels
        self._partitions = [_SPLIT_OF_WORD.get(split) for split in splits] if len(set(splits)) > 1 else None
        self._keys = _keys(splits)
        self.fields, notes = infer_fields(rows, "Column")
        self._columns = {
            name: convert([row.get(name) for row in rows], label.kind) for name, label in self.fields.items()
        }
        self.identity_field = find_identity(self.fields, config.identity_column, "column")
        others = sorted(set(splits) - set(_SPLIT_OF_WORD)) if self._partitions else []
        if others:
            notes.append(f"Splits {', '.join(others)} are not train, validation or test; they are used for training.")
        self.provenance: dict[str, Any] = {
            **asdict(config),
            # A path of this machine means nothing elsewhere.
            "input": Path(config.input).resolve().name if Path(config.input).exists() else config.input,
            **({"commit": commit} if commit else {}),
            "num_files": len(rows),
            "notes": notes,
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._keys)

    def __getitem__(self, position: int) -> Item:
        """The image at a position."""
        labels = {name: column[position] for name, column in self._columns.items()}
        partition = self._partitions[position] if self._partitions else None
        return Item(self._keys[position], labels, ref=position, partition=partition)

    def load(self, item: Item) -> Image.Image:
        """Decodes the image's bytes from the spool."""
        return open_image_bytes(self._spool.read(item.ref))


def commit_of(config: HfConfig) -> str | None:
    """The commit that the revision stands for on the hub today, so that a packing is of one version; None for a folder.

    Raises:
        UserError: The extra is missing, there is no such data set, or the hub does not answer.
    """
    if Path(config.input).exists():
        return None
    if config.revision and _COMMIT.fullmatch(config.revision):
        return config.revision  # So that a packing that knows its commit needs no network.
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(_MISSING_EXTRA) from None
    try:
        return HfApi().dataset_info(config.input, revision=config.revision, timeout=_TIMEOUT_SEC).sha
    except Exception as error:  # Network libraries have errors of their own.
        raise _not_streamed(config, error) from None


def fill_spool(config: HfConfig) -> Path:
    """Streams a data set into its spool, resuming a stream that broke off.

    Args:
        config: What to stream; its ``revision`` is a commit, so that a spool holds rows of one version.

    Returns:
        The folder of the complete spool.

    Raises:
        UserError: As ``HfSource``.
    """
    folder = cache_directory() / "hf" / _spool_name(config)
    writer = SpoolWriter(folder)
    if writer.is_complete:
        writer.close()
        return folder
    if writer.num_rows:
        print(f"Resuming: {writer.num_rows} images are in {folder}.")
    try:
        for split, stream in _streams(config).items():
            num_there = writer.num_of_split(split)
            rows = stream.skip(num_there) if num_there else stream
            num_wanted = None if config.limit is None else config.limit - num_there
            for image, labels in itertools.islice(_rows(rows, config), num_wanted):
                writer.add(split, image, labels)
        if not writer.num_rows:
            raise UserError(f"{config.input} holds no rows.")
        writer.complete()
    except UserError:
        raise
    except Exception as error:  # The library's formats and file systems raise errors of every kind.
        raise _not_streamed(config, error) from None
    finally:
        writer.close()
    return folder


def _streams(config: HfConfig) -> Mapping[Any, Any]:
    """An iterable data set for each split."""
    try:
        import datasets
    except ImportError:
        raise UserError(_MISSING_EXTRA) from None
    path = Path(config.input)
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        loaded = datasets.load_from_disk(str(path))
        splits = loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
        streams: Mapping[Any, Any] = {str(split): part.to_iterable_dataset() for split, part in splits.items()}
    else:
        streams = datasets.load_dataset(config.input, config.subset, revision=config.revision, streaming=True)
    if config.split is None:
        return streams
    if config.split not in streams:
        raise UserError(f"{config.input} has no split '{config.split}'; it has {', '.join(streams)}.")
    return {config.split: streams[config.split]}


def _rows(stream: Any, config: HfConfig) -> Iterator[tuple[bytes, dict[str, Scalar]]]:
    """Encoded image and labels of each row; classes by their names."""
    import datasets

    # Formats without a schema, such as CSV, reveal their columns in the first row.
    features = stream.features or dict.fromkeys(next(iter(stream), {}))
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    column = config.image_column or next(iter(images), None)
    if column not in images:
        wanted = f"no image column '{column}'" if config.image_column else "no column of images"
        raise UserError(f"{config.input} has {wanted}; its columns are {', '.join(features) or 'unknown'}.")
    names = {name: kind.names for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    for row in stream.cast_column(column, datasets.Image(decode=False)):
        labels = {name: value for name, value in row.items() if name not in images and _is_scalar(value)}
        for name, classes in names.items():
            value = labels.get(name)
            # The library writes an unknown class as -1.
            labels[name] = classes[value] if isinstance(value, int) and value >= 0 else None
        yield _image_bytes(row[column]), labels


def _image_bytes(value: Mapping[str, Any] | None) -> bytes:
    """The file's content; empty if it is missing, so that packing counts it as bad."""
    if value is None:
        return b""
    if value.get("bytes") is not None:
        return value["bytes"]
    from datasets.utils.file_utils import xopen

    try:
        with xopen(value["path"], "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _not_streamed(config: HfConfig, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"{config.input} cannot be streamed ({reason}); {_ADVICE}, then rerun the command.")


def _keys(splits: list[str]) -> list[str]:
    """SPLIT/NUMBER, numbered within the split."""
    counters = {split: itertools.count() for split in dict.fromkeys(splits)}
    return [f"{split}/{next(counters[split]):08d}" for split in splits]


def _spool_name(config: HfConfig) -> str:
    """A name for the exact data: it changes when a local file does."""
    content: dict[str, Any] = asdict(config) | {"identity_column": None}
    path = Path(config.input)
    if path.exists():
        stats = [(str(file.relative_to(path)), file.stat()) for file in sorted(path.rglob("*")) if file.is_file()]
        content["files"] = [(name, status.st_size, status.st_mtime_ns) for name, status in stats]
        content["input"] = str(path.resolve())
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


SOURCE = SourceEntry(
    HfConfig,
    lambda config, size: HfSource(config),
    elsewhere="Hugging Face data sets need no fetching: python -m shards.pack hf NAME OUTPUT streams them",
)
