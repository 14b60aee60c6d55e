"""The index of a large data set behind an address: it comes in parts, and reads as the whole one does."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import unreliable_server
from shards.base.errors import UserError
from shards.dataset import sparse_index
from shards.dataset.addresses import NUM_TRIES
from shards.dataset.cache import make_room
from shards.dataset.dataset import Dataset
from shards.inspect import main as inspect
from shards.loading.loader import TrainLoader, evaluation_batches
from shards.loading.reader import Reader
from shards.pack import main as pack
from unreliable_server import Fault, Handler

INDEX = "index.safetensors"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sparse") / "faces"
    pack(["synthetic", str(root), "--num", "240", "--size", "16", "--samples_per_shard", "32", "--workers", "1"])
    return root


@pytest.fixture
def server(local: Path) -> Iterator[type[Handler]]:
    with unreliable_server.serving(local) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    unreliable_server.retry_at_once(monkeypatch)
    monkeypatch.setattr(sparse_index, "WHOLE_SAMPLES", 0)
    return tmp_path / "cache" / "shards"


def images(dataset: Dataset, split: str, limit: int | None = None) -> torch.Tensor:
    return torch.cat([batch.images for batch in evaluation_batches(dataset, split, 32, limit=limit, fields=[])])


def test_images_labels_and_keys_are_those_of_the_whole_index(local: Path, server: type[Handler], cache: Path) -> None:
    here, there = Dataset(local), Dataset(server.url)
    for split in here.splits:
        assert torch.equal(images(there, split), images(here, split))
        assert [there.key(split, row) for row in (0, 5)] == here.keys(split)[:6:5]
        assert there.keys(split) == here.keys(split)
        for name in here.fields:
            np.testing.assert_array_equal(there.labels(name, split), here.labels(name, split))
    assert not list(cache.glob(f"*/{INDEX}"))


def test_training_reads_the_same_batches(local: Path, server: type[Handler]) -> None:
    loaders = [
        iter(TrainLoader(Dataset(root), "train", global_batch_size=16, seed=3)) for root in (str(local), server.url)
    ]
    for _ in range(20):
        here, there = (next(loader) for loader in loaders)
        assert torch.equal(here.images, there.images)
        assert all(torch.equal(here.labels[name], there.labels[name]) for name in here.labels)


def test_only_the_rows_of_the_shards_that_are_read_come_and_only_once(local: Path, server: type[Handler]) -> None:
    header = int.from_bytes((local / INDEX).read_bytes()[:8], "little")
    for _ in range(2):
        list(Reader(Dataset(server.url), "train").read(np.arange(32)))
    read = [name for name in server.requests if name.endswith(".tar")]
    row_bytes = 8 + 4 + 4  # Offset, size and checksum.
    num_rows = sum(shard.num_samples for shard in Dataset(local).manifest.shards if shard.name in read)
    assert server.sent[INDEX] == 8 + header + num_rows * row_bytes
    before = server.sent[INDEX]
    Dataset(server.url).labels("smile", "train")
    Dataset(server.url).labels("smile", "val")
    assert server.sent[INDEX] - before == 240 * 4  # One column, of all splits.


@pytest.mark.parametrize("fault", ["breaks off", "short", "corrupt", "busy"])
def test_damaged_parts_are_fetched_again_and_never_kept(
    local: Path, server: type[Handler], cache: Path, fault: Fault
) -> None:
    server.failing = ".safetensors"
    here = Dataset(local)
    for num_good in range(7):  # Length, header, three columns of a shard, a label.
        server.faults[:] = [*([None] * num_good), *([fault] * (NUM_TRIES - 1))]  # type: ignore[list-item]
        there = Dataset(server.url)
        assert torch.equal(images(there, "val"), images(here, "val"))
        np.testing.assert_array_equal(there.labels("identity", "val"), here.labels("identity", "val"))
        shutil.rmtree(cache)


def test_an_index_of_other_shards_is_refused(local: Path, server: type[Handler], tmp_path: Path) -> None:
    changed = Path(shutil.copytree(local, tmp_path / "changed"))
    content = bytearray((changed / INDEX).read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start:] = bytes(len(content) - start)
    (changed / INDEX).write_bytes(content)
    server.folder = changed
    with pytest.raises(UserError, match="its rows do not fit the shard"):
        images(Dataset(server.url), "val")
    with pytest.raises(UserError, match="its column label.smile is not the one that was written"):
        Dataset(server.url).labels("smile", "train")


def test_a_server_that_sends_whole_files_only_sends_the_whole_index(
    local: Path, server: type[Handler], cache: Path
) -> None:
    server.failing, server.always = ".safetensors", "whole"
    assert torch.equal(images(Dataset(server.url), "val"), images(Dataset(local), "val"))
    assert list(cache.glob(f"*/{INDEX}"))


def test_whole_columns_of_places_come_with_the_whole_index(local: Path, server: type[Handler], cache: Path) -> None:
    there = Dataset(server.url)
    images(there, "val")
    inspect([server.url])
    np.testing.assert_array_equal(there.column("size", "train"), Dataset(local).column("size", "train"))
    assert torch.equal(images(Dataset(server.url), "train"), images(Dataset(local), "train"))


def test_a_deleted_copy_does_not_disturb_its_readers(local: Path, server: type[Handler], cache: Path) -> None:
    first = Dataset(server.url)
    images(first, "val")
    make_room(cache, 0, cache / "another")
    second = Dataset(server.url)
    for dataset in (second, first, pickle.loads(pickle.dumps(first))):
        assert torch.equal(images(dataset, "train"), images(Dataset(local), "train"))


def test_holes_do_not_count_as_used_disk(server: type[Handler], cache: Path) -> None:
    images(Dataset(server.url), "val")
    [sparse] = cache.glob("*/index.sparse")
    with open(sparse, "r+b") as file:
        file.truncate(10**12)
    make_room(cache, 10**9, cache / "another")
    assert sparse.exists()


def test_prefetching_fetches_the_rows_too(local: Path, server: type[Handler]) -> None:
    dataset = Dataset(server.url)
    reader = Reader(dataset, "train")
    reader.expect([1, 2])
    assert dataset.remote is not None
    dataset.remote._pool.shutdown(wait=True)
    before = server.requests.copy()
    start, _, stop = np.cumsum(dataset.shard_sizes("train"))[:3]
    rows = np.arange(start, stop)
    assert list(reader.read(rows)) == list(Reader(Dataset(local), "train").read(rows))
    assert server.requests == before


def test_a_failing_image_is_named_without_fetching_all_keys(local: Path, server: type[Handler], cache: Path) -> None:
    dataset = Dataset(server.url)
    reader = Reader(dataset, "val")
    next(reader.read(np.array([3])))
    [shard] = cache.glob("*/val-*.tar")
    damaged = bytearray(shard.read_bytes())
    damaged[int(dataset.places("val", np.array([3])).offset[0]) + 5] ^= 255
    with open(shard, "r+b") as file:
        file.write(damaged)
    before = server.sent[INDEX]
    with pytest.raises(UserError, match=f"sample {Dataset(local).keys('val')[3]} of shard"):
        list(reader.read(np.array([3])))
    assert server.sent[INDEX] - before < 100
