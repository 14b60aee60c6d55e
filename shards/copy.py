"""``python -m shards.copy FROM TO``: copies a data set between folders and addresses, and checks every byte."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shards.base.errors import UserError
from shards.base.files import json_bytes, writing_to
from shards.base.progress import ProgressLine
from shards.command_line.cli import parse, run
from shards.dataset.addresses import as_address
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import DATASET_FILE, INDEX_FILE, PACKING_DIR, Shard
from shards.dataset.stores import Store, open_store
from shards.dataset.tar import sha256_file

_MARK = f"{PACKING_DIR}/copy.json"
_AT_A_TIME = 4


@dataclass
class DatasetCopyConfig:
    """Options of ``shards.copy``."""

    source: Path
    """A complete data set: a folder, or an address such as s3://bucket/faces."""
    target: Path
    """Folder or address: new, empty, or with an interrupted copy of the same data set."""


def copy(source: str | Path, target: str | Path) -> Dataset:
    """Copies a data set; ``dataset.json`` comes last, so that what is there is complete or not there at all.

    An interrupted copy resumes: shards that arrived are not sent again.

    Args:
        source: Folder or address of a complete data set.
        target: Folder or address to copy it to.

    Returns:
        The copy.

    Raises:
        UserError: There is no such data set, a file of it is damaged, or something else is at the target.
    """
    dataset, store = Dataset(as_address(source) or source), open_store(target)
    if store.has(DATASET_FILE):
        there = Dataset(str(store))
        if there.fingerprint != dataset.fingerprint:
            raise UserError(f"{store} holds another data set ({there.fingerprint}); give another place.")
        print(f"{store} holds this data set already; nothing to do.")
        return there
    dataset.check_index()
    busy = f"another process is writing to {store}; wait for it or stop it."
    with store.hold(busy) as held, writing_to(f"to {store}", "fix this, then rerun the command"):
        sizes = store.sizes()
        _begin(dataset, store, sizes)
        _copy_shards(dataset, store, sizes)
        with store.making(INDEX_FILE) as path:
            shutil.copyfile(dataset.root / INDEX_FILE, path)
        store.write(DATASET_FILE, (dataset.root / DATASET_FILE).read_bytes())
        store.clear(held)
    return Dataset(str(store))


def _begin(dataset: Dataset, store: Store, sizes: Mapping[str, int]) -> None:
    """Marks the place as that of this copy."""
    mark = json_bytes({"fingerprint": dataset.fingerprint})
    if any(name.startswith(f"{PACKING_DIR}/plan") for name in sizes) or store.settle(_MARK, mark) != mark:
        raise UserError(f"{store} holds an unfinished packing or another copy; finish it, or give another place.")


def _copy_shards(dataset: Dataset, store: Store, sizes: Mapping[str, int]) -> None:
    shards = dataset.manifest.shards
    missing = [shard for shard in shards if sizes.get(shard.name) != shard.num_bytes]
    done = sum(shard.num_bytes for shard in shards) - sum(shard.num_bytes for shard in missing)
    total = sum(shard.num_bytes for shard in shards)
    with ProgressLine("copying", total, "B", initial=done) as progress, ThreadPoolExecutor(_AT_A_TIME) as pool:
        try:
            for shard in pool.map(lambda shard: _copy_shard(dataset, shard, store), missing):
                progress.update(shard.num_bytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _copy_shard(dataset: Dataset, shard: Shard, store: Store) -> Shard:
    """Copies one shard.

    Raises:
        UserError: Its bytes are not those that ``dataset.json`` describes.
    """
    try:
        descriptor = dataset.open_shard(shard)
    except OSError as error:
        raise UserError(f"{dataset.address}/{shard.name} cannot be read ({error.strerror}); restore it.") from None
    with open(descriptor, "rb") as file, store.making(shard.name) as path:
        with open(path, "wb") as copied:
            shutil.copyfileobj(file, copied)
        if sha256_file(path) != shard.sha256:
            raise UserError(f"{dataset.address}/{shard.name} is damaged: its checksum differs; restore it.")
    return shard


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse(
        DatasetCopyConfig,
        prog="python -m shards.copy",
        description="Copies a data set between folders and addresses such as s3://bucket/faces, and checks every byte.",
        positional=("source", "target"),
        args=args,
    )
    dataset = copy(config.source, config.target)
    print(f"{dataset.address}: {len(dataset.manifest.shards)} shards; fingerprint {dataset.fingerprint}")


if __name__ == "__main__":
    run(main)
