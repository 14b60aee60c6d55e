"""``python -m shards.index DIR``: indexes WebDataset shards of other programs, and verifies checksums.

The first image member of each sample is its image; samples without one are left out, counted and named. Labels come
from ``json`` (scalars of the object), ``cls`` (a class) and ``txt`` (by content). A lost index of shards that
``shards.pack`` wrote is restored with their own schema and splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from shards.base.errors import DamagedFile, UserError
from shards.base.plain_files import check_plain, is_shard_name
from shards.base.progress import tracked
from shards.command_line.cli import parse, run
from shards.dataset.addresses import refuse_address
from shards.dataset.dataset import Dataset
from shards.dataset.label_types import Scalar, convert, find_identity, infer_fields
from shards.dataset.manifest import (
    DATASET_FILE,
    PACKING_DIR,
    SPLITS,
    ImageFormat,
    LabelField,
    Manifest,
    Shard,
)
from shards.dataset.tar import sha256_file
from shards.dataset.writer import Columns, write_dataset
from shards.execution.dispatch import run_tasks
from shards.execution.executor import OnItem
from shards.execution.ray_cluster import RayCluster
from shards.images.codecs import find_codec
from shards.images.contents import (
    CLASS_LABELS,
    ShardContents,
    note_ignored,
    read_contents,
    require_same,
    split_of_name,
)

_COMPRESSED = ("*.tar.gz", "*.tgz", "*.tar.bz2", "*.tar.xz", "*.tar.zst")
_VERIFY_THREADS = 4
_NUM_NAMED = 10


@dataclass
class IndexConfig:
    """Options of ``shards.index``."""

    root: Path
    """Folder of *.tar shards."""
    split: Literal["train", "val", "test"] | None = None
    """Split of all shards. Default: by the words train, val or test in each file's name."""
    verify: bool = False
    """Only verify the checksums of a complete data set: names damaged shards, with exit code 1."""
    address: str | None = None
    """With --verify: Ray cluster whose machines do it, auto, or host:port of its head. They see the folder under the
    same path. Needs the extra tuning."""
    replace: bool = False
    """Index the shards that are there now, even if they differ from an existing dataset.json."""

    def __post_init__(self) -> None:
        """Raises ValueError for a folder that is an address, and a cluster with nothing to verify."""
        if self.address is not None and not self.verify:
            raise ValueError("--address needs --verify: an index is written by one process.")
        refuse_address(self.root, "index a copy of its shards on this machine, then copy the index there")


def index(root: Path, split: str | None = None, replace: bool = False) -> Dataset:
    """Writes ``dataset.json`` and the index for the shards of a folder.

    Args:
        root: The folder.
        split: Split of all shards; None takes it from their names.
        replace: Ignore an existing ``dataset.json``.

    Raises:
        UserError: No shards, an unfinished packing, damaged or compressed shards, no images, images of several sizes or
            codecs, or a difference to the existing ``dataset.json``.
    """
    if (root / PACKING_DIR).exists():
        raise UserError(f"{root} holds an unfinished packing; finish it by rerunning its `shards.pack` command.")
    paths = sorted(root.glob("*.tar"))
    if not paths:
        raise UserError(f"no *.tar shards in {root}; give the folder that holds them, uncompressed.")
    old = None if replace else _existing(root)
    if old is not None:
        manifest, contents = _restore(old, split)
    else:
        manifest, contents = _index_afresh(root, paths, split)
    images = [image for content in contents for image in content.images]
    rows = [labels for content in contents for labels in content.labels]
    columns = Columns(
        offset=np.array([image.offset for image in images], np.int64),
        size=np.array([image.size for image in images], np.int32),
        crc32=np.array([crc32 for content in contents for crc32 in content.crc32], np.uint32),
        keys=[key for content in contents for key in content.keys],
        labels={name: _encode(name, label, rows) for name, label in manifest.fields.items()},
    )
    write_dataset(root, manifest, columns)
    return Dataset(root)


def verify(dataset: Dataset, address: str | None = None) -> list[str]:
    """Compares every shard, and the index, with their checksums.

    Args:
        dataset: A complete data set.
        address: Of a Ray cluster whose machines read the shards; None for this one.

    Returns:
        One sentence for each file that is missing or damaged.

    Raises:
        UserError: There is no such cluster.
    """
    damaged = _damaged_shards(dataset, address)
    try:
        dataset.check_index()
    except DamagedFile as error:
        damaged.append(str(error))
    return damaged


def _index_afresh(root: Path, paths: Sequence[Path], split: str | None) -> tuple[Manifest, list[ShardContents]]:
    for path in paths:
        if not is_shard_name(path.name):
            raise UserError(f"{path}: a shard's name has letters, digits, '.', '_' and '-' only; rename the file.")
        try:
            check_plain(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); replace it with a copy of the file.") from None
    splits = {path: split or split_of_name(path.name) for path in paths}
    unnamed = [path.name for path, name in splits.items() if name is None]
    if unnamed:
        raise UserError(
            f"the names of {len(unnamed)} shards (first: {unnamed[0]}) hold none of the words train, val, test; rename "
            "them, or pass --split train."
        )
    paths = sorted(paths, key=lambda path: (SPLITS.index(splits[path] or ""), path.name))
    with closing(tracked(paths, "reading", len(paths), "shards")) as counted:
        contents = [read_contents(path) for path in counted]
    for path, content in zip(paths, contents, strict=True):
        require_same(path, content.keys[0], "codec", contents[0].extension, content.extension)
        require_same(path, content.keys[0], "size", contents[0].shape, content.shape)
    fields, notes = _infer_fields(contents)
    compressed = sorted(path.name for pattern in _COMPRESSED for path in root.glob(pattern))
    if compressed:
        notes.append(f"Compressed shards are left out ({', '.join(compressed[:_NUM_NAMED])}); unpack them to use them.")
    imageless = [key for content in contents for key in content.imageless]
    if imageless:
        more = ", ..." if len(imageless) > _NUM_NAMED else ""
        named = ", ".join(imageless[:_NUM_NAMED])
        notes.append(f"{len(imageless)} samples hold no image and are left out: {named}{more}")
    for note in notes:
        print(note)
    manifest = Manifest(
        name=root.resolve().name,
        image=ImageFormat(
            *contents[0].shape,
            channels=max(content.num_channels for content in contents),
            extension=contents[0].extension,
        ),
        fields=fields,
        shards=tuple(_shard(path, splits[path] or "", content) for path, content in zip(paths, contents, strict=True)),
        split={"by": "shard name" if split is None else "option"},
        provenance={"source": "index", "notes": notes},
        identity_field=find_identity(fields, None),
    )
    return manifest, contents


def _damaged_shards(dataset: Dataset, address: str | None = None) -> list[str]:
    """One sentence for each shard that is missing or differs from its checksum."""
    shards, check = dataset.manifest.shards, partial(_damage, dataset.root)
    with ThreadPoolExecutor(_VERIFY_THREADS) as pool:  # Hashing releases the GIL.
        found: Iterable[tuple[str, str | None]]
        if address is None:
            found = pool.map(check, shards)
        else:
            found = run_tasks(RayCluster(address), check, shards, lambda count: None, dataset.root)
        findings = dict(tracked(found, "verifying", len(shards), "shards"))
    return [finding for shard in shards if (finding := findings[shard.name])]


def _damage(root: Path, shard: Shard, on_item: OnItem | None = None) -> tuple[str, str | None]:
    """The shard's name, and what is wrong with it."""
    path = root / shard.name
    try:
        check_plain(path)
    except FileNotFoundError:
        return shard.name, f"{path} is missing."
    except OSError as error:
        return shard.name, f"{path} cannot be read: {error.strerror}."
    if path.stat().st_size != shard.num_bytes:
        return shard.name, f"{path} has {path.stat().st_size} bytes instead of {shard.num_bytes}."
    damage = None if sha256_file(path) == shard.sha256 else f"{path} is damaged: its checksum differs."
    return shard.name, damage


def _restore(old: Dataset, split: str | None) -> tuple[Manifest, list[ShardContents]]:
    """Reads the shards of an existing manifest again, after verifying them."""
    if split is not None:
        raise UserError(f"{old.root} already has splits; pass --replace to index its shards again.")
    damaged = _damaged_shards(old)
    known = {shard.name for shard in old.manifest.shards}
    added = [path.name for path in sorted(old.root.glob("*.tar")) if path.name not in known]
    if damaged or added:
        finding = damaged[0] if damaged else f"{added[0]} is not in {DATASET_FILE}."
        raise UserError(f"{finding[:-1]}; restore the shards, or pass --replace to index what is there now.")
    paths = [old.root / shard.name for shard in old.manifest.shards]
    codec = find_codec(old.image.extension)
    codecs = dict.fromkeys(codec.extensions, codec)
    with closing(tracked(paths, "reading", len(paths), "shards")) as counted:
        contents = [read_contents(path, codecs) for path in counted]
    for shard, content in zip(old.manifest.shards, contents, strict=True):
        if len(content.keys) != shard.num_samples:
            raise UserError(
                f"{old.root / shard.name} holds {len(content.keys)} samples, and {DATASET_FILE} says "
                f"{shard.num_samples}; pass --replace to index what is there now."
            )
    return old.manifest, contents


def _existing(root: Path) -> Dataset | None:
    path = root / DATASET_FILE
    if not path.is_file():
        return None
    try:
        return Dataset(root)
    except DamagedFile:
        print(f"{path} is damaged; making it again from the shards' names and contents.")
        return None


def _encode(name: str, label: LabelField, rows: Sequence[Mapping[str, Scalar]]) -> np.ndarray:
    try:
        return label.encode(convert([row.get(name) for row in rows], label.kind))
    except ValueError as error:
        raise UserError(f"label '{name}': {error}; pass --replace to index the shards afresh.") from None


def _infer_fields(contents: Sequence[ShardContents]) -> tuple[dict[str, LabelField], list[str]]:
    fields, notes = infer_fields([labels for content in contents for labels in content.labels], classes=CLASS_LABELS)
    return fields, notes + note_ignored({name for content in contents for name in content.ignored})


def _shard(path: Path, split: str, content: ShardContents) -> Shard:
    return Shard(path.name, split, len(content.keys), path.stat().st_size, sha256_file(path))


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse(
        IndexConfig,
        prog="python -m shards.index",
        description="Indexes WebDataset shards that another program wrote, or verifies a data set's checksums.",
        positional=("root",),
        args=args,
    )
    if config.verify:
        dataset = Dataset(config.root)
        damaged = verify(dataset, config.address)
        for finding in damaged:
            print(finding)
        if damaged:
            raise SystemExit(1)
        print(f"{config.root}: all {len(dataset.manifest.shards)} shards are intact.")
        return
    dataset = index(config.root, config.split, config.replace)
    counts = ", ".join(f"{split} {dataset.num_samples(split)}" for split in dataset.splits)
    print(f"{config.root}: {counts}; fingerprint {dataset.fingerprint}")


if __name__ == "__main__":
    run(main)
