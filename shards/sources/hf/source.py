"""Any Hugging Face image data set, by its name on the hub, by a local path or by an address, streamed.

Rows pass through one by one. What packing needs, the encoded images and the scalar labels, is kept in a spool in the
cache directory, because packing shuffles and a stream has one order. A stream that broke off resumes where it stopped.
Needs ``pip install 'facegen[hf]'``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from PIL import Image

from shards.base.errors import UserError
from shards.base.hub_address import hub_address
from shards.base.places import cache_directory
from shards.dataset.addresses import is_address
from shards.dataset.label_types import convert, find_identity, infer_fields
from shards.images.reading import Crop, open_image_bytes
from shards.sources.base import Item, SourceEntry
from shards.sources.files.spool import Spool, SpoolWriter
from shards.sources.hf import library, parquet
from shards.sources.hf.rows import MISSING_EXTRA, Splits

_SPLIT_OF_WORD = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
_ADVICE = "check the name, the network and, for a gated data set, HF_TOKEN"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ON_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?(/.*)?")
"""Repository, revision and folder; of the revisions with slashes, the hub's own may be written as they are."""
_TIMEOUT_SEC = 30.0


@dataclass
class HfConfig:
    """Any Hugging Face image data set, by name, local path or address of parquet files; needs the extra hf."""

    input: str
    """Name on the hub, such as nielsr/CelebA-faces; a local folder: parquet or other data files, an image folder, or
    what save_to_disk wrote; or an address of parquet files, such as s3://bucket/faces or hf://datasets/USER/NAME."""
    subset: str | None = None
    """Configuration of a data set that has several; not for addresses, which name a folder."""
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
        """Raises ValueError for a limit below 1, and for what an address says itself."""
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be at least 1, not {self.limit}.")
        if is_address(self.input) and (self.subset or self.revision):
            raise ValueError(
                f"{self.input} is an address: put the folder of the subset into it, and the revision behind the name, "
                "as in hf://datasets/USER/NAME@REVISION/FOLDER."
            )


class HfSource:
    """The images in the order of the stream. Implements ``shards.sources.base.Source``."""

    name = "hf"
    crop: Crop | None = None

    def __init__(self, config: HfConfig) -> None:
        """Streams the data set into the spool, unless it is complete, and infers the types of the labels.

        Raises:
            UserError: The extra is missing, no such data set, no images in it, or a stream that broke off.
        """
        place, commit = pinned(config)
        self._spool = Spool(fill_spool(config, place, commit))
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


def pinned(config: HfConfig) -> tuple[str, str | None]:
    """The place to read, and the commit that the revision stands for on the hub today: a packing is of one version.

    Returns:
        The input, in an address with the commit; and the commit, None for a folder and for other services.

    Raises:
        UserError: The extra is missing, there is no such data set, or the hub does not answer.
    """
    if not is_address(config.input):
        return config.input, None if Path(config.input).exists() else _commit(config, config.input, config.revision)
    on_hub = hub_address(config.input)
    address = on_hub.url("datasets") if on_hub else config.input
    found = _ON_HUB.fullmatch(address)
    if found is None:
        return address, None
    repository, revision, folder = found.groups()
    commit = _commit(config, repository, unquote(revision) if revision else None)
    return f"hf://datasets/{repository}@{quote(commit, safe='')}{folder or ''}", commit


def _commit(config: HfConfig, repository: str, revision: str | None) -> str:
    if revision and _COMMIT.fullmatch(revision):
        return revision  # So that a packing that knows its commit needs no network.
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(MISSING_EXTRA) from None
    try:
        return str(HfApi().dataset_info(repository, revision=revision, timeout=_TIMEOUT_SEC).sha)
    except Exception as error:  # Network libraries have errors of their own.
        raise _not_streamed(config, error) from None


def fill_spool(config: HfConfig, place: str, commit: str | None) -> Path:
    """Streams a data set into its spool, resuming a stream that broke off.

    Args:
        config: What to stream.
        place: As ``pinned`` returns it.
        commit: As ``pinned`` returns it.

    Returns:
        The folder of the complete spool.

    Raises:
        UserError: As ``HfSource``.
    """
    folder = cache_directory() / "hf" / _spool_name(config, place, commit)
    writer = SpoolWriter(folder)
    if writer.is_complete:
        writer.close()
        return folder
    if writer.num_rows:
        print(f"Resuming: {writer.num_rows} images are in {folder}.")
    try:
        for split, rows_from in _splits(config, place, commit).items():
            num_there = writer.num_of_split(split)
            num_wanted = None if config.limit is None else config.limit - num_there
            for image, labels in itertools.islice(rows_from(num_there), num_wanted):
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


def _splits(config: HfConfig, place: str, commit: str | None) -> Splits:
    if is_address(place):
        splits = parquet.open_splits(place, config.image_column)
    else:
        splits = library.open_splits(place, config.subset, commit, config.image_column)
    if config.split is None:
        return splits
    if config.split not in splits:
        raise UserError(f"{config.input} has no split '{config.split}'; it has {', '.join(splits)}.")
    return {config.split: splits[config.split]}


def _not_streamed(config: HfConfig, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(f"{config.input} cannot be streamed ({reason}); {_ADVICE}, then rerun the command.")


def _keys(splits: list[str]) -> list[str]:
    """SPLIT/NUMBER, numbered within the split."""
    counters = {split: itertools.count() for split in dict.fromkeys(splits)}
    return [f"{split}/{next(counters[split]):08d}" for split in splits]


def _spool_name(config: HfConfig, place: str, commit: str | None) -> str:
    """A name for the exact data: it changes when a file does, here or behind an address."""
    content: dict[str, Any] = asdict(config) | {"identity_column": None, "revision": commit}
    path = Path(config.input)
    if is_address(place):
        content |= {"input": place} | ({} if commit else {"files": parquet.stamps(place)})
    elif path.exists():
        stats = [(str(file.relative_to(path)), file.stat()) for file in sorted(path.rglob("*")) if file.is_file()]
        content["files"] = [(name, status.st_size, status.st_mtime_ns) for name, status in stats]
        content["input"] = str(path.resolve())
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


SOURCE = SourceEntry(
    HfConfig,
    lambda config, size: HfSource(config),
    elsewhere="Hugging Face data sets need no fetching: python -m shards.pack hf NAME OUTPUT streams them",
)
