"""The loader delivers what the plan says, from any number of threads and ranks, and names what is damaged."""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import ImageFormat, LabelField, Manifest, Shard
from shards.dataset.tar import ShardWriter, read_samples, sha256_file
from shards.dataset.writer import Columns, write_dataset
from shards.images.codecs import encode
from shards.loading import reader
from shards.loading.batch import Batch, BatchReader, Share
from shards.loading.batch_plan import BatchPlan
from shards.loading.loader import TrainLoader, _in_order, evaluation_batches
from shards.loading.order import EpochOrder
from shards.loading.reader import Reader

SHARD_SIZES = {"train": (7, 12, 1, 9, 6), "val": (5, 4)}
NUM_TRAIN, NUM_VAL = 35, 9
HEIGHT, WIDTH = 16, 24
FIELDS = {"smile": LabelField("float"), "glasses": LabelField("bool"), "person": LabelField("class", ("ann", "bob"))}


def labels_of(number: int) -> dict[str, float | bool | str | None]:
    """Labels of the sample with that number, some of them missing."""
    return {
        "smile": None if number % 7 == 3 else number / 100,
        "glasses": None if number % 5 == 1 else number % 2 == 0,
        "person": None if number % 6 == 2 else ("ann", "bob")[number % 3 == 0],
    }


def write_shard(path: Path, numbers: range, extension: str) -> list[tuple[str, int, int]]:
    """Writes one shard of pictures that differ by number; gives key, offset and size of each."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    with ShardWriter(path) as writer:
        for number in numbers:
            image = np.stack([4 * number + x // 4, 255 - 4 * number - y // 4, 5 * y], axis=-1).astype(np.uint8)
            writer.add(f"face/{number:04d}", extension, encode(image, extension))
            writer.add(f"face/{number:04d}", "json", json.dumps(labels_of(number)).encode())
    found = [(sample.key, sample.find((extension,))) for sample in read_samples(path)]
    return [(key, member.offset, member.size) for key, member in found if member]


def make_dataset(root: Path, extension: str = "jpg") -> Dataset:
    """A small data set with uneven shards in two splits."""
    root.mkdir(parents=True, exist_ok=True)
    shards, index, number = [], [], 0
    for split, sizes in SHARD_SIZES.items():
        for size in sizes:
            path = root / f"{split}-{len(shards):06d}.tar"
            index += write_shard(path, range(number, number + size), extension)
            shards.append(Shard(path.name, split, size, path.stat().st_size, sha256_file(path)))
            number += size
    keys, offsets, sizes = zip(*index, strict=True)
    labels = [labels_of(number) for number in range(number)]
    columns = {name: label.encode([values[name] for values in labels]) for name, label in FIELDS.items()}
    manifest = Manifest("tiny", ImageFormat(HEIGHT, WIDTH, 3, extension), FIELDS, tuple(shards), {}, {})
    write_dataset(root, manifest, Columns(np.array(offsets), np.array(sizes), keys, columns))
    return Dataset(root)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("tiny") / "set")


@pytest.fixture(scope="module")
def pictures(dataset: Dataset) -> np.ndarray:
    """All train images, found by name with ``tarfile`` and decoded by Pillow: uint8 (35, 16, 24, 3)."""
    found = {}
    for shard in dataset.shards("train"):
        with tarfile.open(dataset.root / shard.name) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if member.name.endswith(".jpg") and content:
                    found[member.name] = np.asarray(Image.open(BytesIO(content.read())))
    return np.stack([found[name] for name in sorted(found)])


def train_loader(dataset: Dataset, **options: Any) -> TrainLoader:
    defaults: dict[str, Any] = {"global_batch_size": 12, "seed": 5}
    return TrainLoader(dataset, "train", **defaults | options)


def take(loader: TrainLoader, num_batches: int) -> list[Batch]:
    return list(itertools.islice(iter(loader), num_batches))


def assert_equal(batch: Batch, other: Batch) -> None:
    assert torch.equal(batch.rows, other.rows)
    assert torch.equal(batch.images, other.images)
    assert batch.labels.keys() == other.labels.keys()
    for name, values in batch.labels.items():
        torch.testing.assert_close(values, other.labels[name], rtol=0, atol=0, equal_nan=True)
    assert (batch.epoch, batch.first_slot) == (other.epoch, other.first_slot)


def assert_threads_end() -> None:
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("shards-loader") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "loader threads are still running"
        time.sleep(0.01)


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_batches_are_the_images_and_labels_of_the_planned_rows(
    dataset: Dataset, pictures: np.ndarray, num_threads: int
) -> None:
    plan = BatchPlan(EpochOrder(SHARD_SIZES["train"], 5), 12, 1, 2)
    loader = train_loader(dataset, rank=1, world_size=2, num_threads=num_threads)
    for step, batch in enumerate(take(loader, 5)):
        epoch, rows = plan.batch(12 * step)
        assert (batch.epoch, batch.first_slot) == (epoch, 6)
        assert batch.rows.tolist() == rows.tolist()
        assert batch.images.dtype == torch.uint8
        # The two decoders round differently.
        assert np.abs(batch.images.numpy().astype(int) - pictures[rows]).max() <= 2
        for position, row in enumerate(rows.tolist()):
            expected = labels_of(row)
            smile = batch.labels["smile"][position].item()
            assert (smile != smile) if expected["smile"] is None else smile == pytest.approx(expected["smile"])
            glasses = expected["glasses"]
            assert batch.labels["glasses"][position].item() == (-1 if glasses is None else int(bool(glasses)))
            person = {"ann": 0, "bob": 1, None: -1}[expected["person"]]  # type: ignore[index]
            assert batch.labels["person"][position].item() == person
        dtypes = [batch.labels[name].dtype for name in FIELDS]
        assert dtypes == [torch.float32, torch.int64, torch.int64]
    assert loader.steps_per_epoch == 2
    assert loader.epoch_size == 24


@pytest.mark.parametrize("extension", ["png", "webp", "raw"])
def test_other_codecs_load_the_same_pictures(tmp_path: Path, pictures: np.ndarray, extension: str) -> None:
    batch = next(iter(train_loader(make_dataset(tmp_path, extension))))
    assert np.abs(batch.images.numpy().astype(int) - pictures[batch.rows.numpy()]).max() <= 24


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world_size=st.sampled_from([1, 2, 3, 6]),
    num_threads=st.integers(0, 3),
    prefetch_batches=st.integers(1, 5),
    num_done=st.integers(0, 6),
    seed=st.integers(0, 2**32),
)
def test_any_ranks_and_threads_resume_the_same_sequence(
    dataset: Dataset, world_size: int, num_threads: int, prefetch_batches: int, num_done: int, seed: int
) -> None:
    alone = take(train_loader(dataset, seed=seed, num_threads=0), num_done + 3)
    before = train_loader(dataset, seed=seed, num_threads=num_threads, prefetch_batches=prefetch_batches)
    take(before, num_done)
    state = before.state_dict()
    assert state == {"samples_seen": 12 * num_done, "canonical_nodes": 1}
    ranks = []
    for rank in range(world_size):
        loader = train_loader(dataset, seed=seed, rank=rank, world_size=world_size, num_threads=num_threads)
        loader.load_state_dict(json.loads(json.dumps(state)))
        ranks.append(take(loader, 3))
    for expected, shares in zip(alone[num_done:], zip(*ranks, strict=True), strict=True):
        assert torch.equal(torch.cat([share.rows for share in shares]), expected.rows)
        assert torch.equal(torch.cat([share.images for share in shares]), expected.images)
        smiles = torch.cat([share.labels["smile"] for share in shares])
        torch.testing.assert_close(smiles, expected.labels["smile"], rtol=0, atol=0, equal_nan=True)


def test_a_state_brings_its_order_along(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = take(train_loader(dataset, canonical_nodes=4), 5)[2:]
    loader = train_loader(dataset, canonical_nodes=4)
    take(loader, 2)
    resumed = train_loader(dataset)
    resumed.load_state_dict(loader.state_dict())
    for batch, other in zip(take(resumed, 3), expected, strict=True):
        assert_equal(batch, other)
    monkeypatch.setattr("shards.loading.loader.default_canonical_nodes", lambda *_: 2)
    resumed = train_loader(dataset)
    assert resumed.canonical_nodes == 2
    resumed.load_state_dict({"samples_seen": 12})  # Of a release without lanes.
    assert_equal(take(resumed, 1)[0], take(train_loader(dataset, canonical_nodes=1), 2)[1])
    with pytest.raises(UserError, match="canonical_nodes was 1 .* and is 4 now"):
        loader.load_state_dict({"samples_seen": 12})


def test_samples_seen_counts_what_was_yielded_not_what_was_prefetched(dataset: Dataset) -> None:
    loader = train_loader(dataset, num_threads=2, prefetch_batches=4)
    batches = iter(loader)
    assert loader.samples_seen == 0
    for step in range(1, 4):
        next(batches)
        assert loader.samples_seen == 12 * step


def test_small_batches_are_read_together(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here all that an epoch has; another one's batches are another read."""
    reads: list[int] = []
    read = BatchReader.__call__

    def count(self: BatchReader, shares: Sequence[Share]) -> tuple[list[Batch], UserError | None]:
        reads.append(len(shares))
        return read(self, shares)

    monkeypatch.setattr(BatchReader, "__call__", count)
    alone = take(train_loader(dataset, global_batch_size=4, num_threads=0), 16)
    assert reads == [8, 8]
    monkeypatch.setattr("shards.loading.loader._READ_IMAGES", 11)
    for batch, expected in zip(take(train_loader(dataset, global_batch_size=4), 16), alone, strict=True):
        assert_equal(batch, expected)
    assert reads[2:10] == [2] * 8


@pytest.mark.parametrize("decoded_bytes", [0, 10**6])
@pytest.mark.parametrize("number", [0, 5, 7])
def test_batches_before_a_damaged_one_arrive_though_read_together(
    tmp_path: Path, number: int, decoded_bytes: int
) -> None:
    damaged = make_dataset(tmp_path)
    expected = take(train_loader(damaged, global_batch_size=4), 8)
    row = int(expected[number].rows[2])
    shard = int(np.searchsorted(np.cumsum(SHARD_SIZES["train"]), row, side="right"))
    with open(tmp_path / f"train-{shard:06d}.tar", "r+b") as file:
        file.seek(int(damaged.column("offset", "train")[row]))
        file.write(b"\x00" * 20)
    batches = iter(train_loader(damaged, global_batch_size=4, decoded_bytes=decoded_bytes))
    for batch in expected[:number]:
        assert_equal(next(batches), batch)
    with pytest.raises(UserError, match=f"sample face/{row:04d} "):
        next(batches)


def test_iterating_again_continues(dataset: Dataset) -> None:
    expected = take(train_loader(dataset), 5)
    loader = train_loader(dataset)
    for batch, other in zip(take(loader, 2) + take(loader, 3), expected, strict=True):
        assert_equal(batch, other)


def test_moving_the_loader_while_iterating_is_an_error(dataset: Dataset) -> None:
    loader = train_loader(dataset)
    batches = iter(loader)
    next(batches)
    loader.samples_seen = 0
    with pytest.raises(RuntimeError, match="moved while it was being iterated"):
        next(batches)
    with pytest.raises(UserError, match="global batches of 12"):
        loader.samples_seen = 30


def test_only_the_chosen_labels_are_loaded(dataset: Dataset) -> None:
    loader = TrainLoader(dataset, "train", global_batch_size=4, seed=0, fields=["person"])
    assert set(next(iter(loader)).labels) == {"person"}
    batch = next(evaluation_batches(dataset, "val", 4, fields=[]))
    assert batch.labels == {}


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("limit", [None, 1, 7, 100])
def test_evaluation_yields_each_sample_once_in_sequence(
    dataset: Dataset, limit: int | None, world_size: int, num_threads: int
) -> None:
    ranks = [
        evaluation_batches(dataset, "val", 2, rank=rank, world_size=world_size, limit=limit, num_threads=num_threads)
        for rank in range(world_size)
    ]
    batches = list(itertools.chain.from_iterable(ranks))
    assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(min(limit or NUM_VAL, NUM_VAL)))
    for batch in batches:
        smiles = [labels_of(NUM_TRAIN + row)["smile"] for row in batch.rows.tolist()]
        expected = torch.tensor([float("nan") if smile is None else smile for smile in smiles])
        torch.testing.assert_close(batch.labels["smile"], expected, equal_nan=True)
        # The red channel's first pixel is four times the sample's number.
        red = batch.images[:, 0, 0, 0].int() - 4 * (NUM_TRAIN + batch.rows)
        assert red.abs().max() <= 3


def test_threads_end_when_the_iterator_is_closed_dropped_or_failed(dataset: Dataset) -> None:
    batches = iter(train_loader(dataset))
    next(batches)
    assert any(thread.name.startswith("shards-loader") for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]
    assert_threads_end()

    batches = iter(train_loader(dataset))
    next(batches)
    del batches
    gc.collect()
    assert_threads_end()

    list(evaluation_batches(dataset, "val", 2))
    assert_threads_end()


def test_closing_drops_the_queued_work() -> None:
    started: list[int] = []

    def load(number: int) -> int:
        started.append(number)
        time.sleep(0.01)
        return number

    results = _in_order(load, itertools.count(), num_threads=1, num_ahead=100)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert_threads_end()
    assert len(started) < 50


def test_the_interpreter_exits_while_batches_are_prefetched(dataset: Dataset) -> None:
    program = (
        "import sys; from shards.dataset.dataset import Dataset; from shards.loading.loader import TrainLoader\n"
        "loader = TrainLoader(Dataset(sys.argv[1]), 'train', global_batch_size=12, seed=0, prefetch_batches=50)\n"
        "batches = iter(loader); next(batches); print('first')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, str(dataset.root)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "first\n", "")


def truncate(path: Path) -> None:
    os.truncate(path, 600)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, r"train-000001\.tar has 600 bytes and should have [\d,]+; copy or pack"),
        (Path.unlink, r"train-000001\.tar cannot be read \(No such file or directory\); copy or pack"),
    ],
)
def test_missing_and_short_shards_are_found_before_any_batch(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    damaged = make_dataset(tmp_path)
    damage(tmp_path / "train-000001.tar")
    with pytest.raises(UserError, match=sentence):
        train_loader(damaged)
    with pytest.raises(UserError, match=sentence):
        list(evaluation_batches(damaged, "train", 4))


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, r"train-000001\.tar is shorter than its index says"),
        (Path.unlink, r"train-000001\.tar cannot be read \(No such file or directory\)"),
        (zero, r"sample face/00(0[7-9]|1[0-8]) of shard .*train-000001\.tar: damaged or wrongly sized jpg"),
    ],
)
def test_damage_names_the_shard_and_what_to_do(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str, num_threads: int
) -> None:
    damaged = make_dataset(tmp_path)
    loader = train_loader(damaged, num_threads=num_threads)
    damage(tmp_path / "train-000001.tar")
    with pytest.raises(UserError, match=sentence + r".*python -m shards\.index .* --verify"):
        take(loader, loader.steps_per_epoch)
    assert_threads_end()
    assert loader.samples_seen < loader.epoch_size


def test_a_damaged_sample_is_named_by_its_key(tmp_path: Path) -> None:
    damaged = make_dataset(tmp_path)
    row = 21
    offset = int(damaged.column("offset", "train")[row])
    with open(tmp_path / "train-000003.tar", "r+b") as file:
        file.seek(offset)
        file.write(b"\x00" * 20)
    with pytest.raises(UserError, match=r"sample face/0021 of shard .*train-000003\.tar"):
        list(evaluation_batches(damaged, "train", 5))


def test_wrong_settings_are_refused_before_any_batch(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"no split 'test'; it has train, val"):
        TrainLoader(dataset, "test", global_batch_size=4, seed=0)
    with pytest.raises(UserError, match=r"no label 'smle'; it has smile, glasses, person"):
        evaluation_batches(dataset, "val", 4, fields=["smle"])
    with pytest.raises(UserError, match="use 10 or 15"):
        train_loader(dataset, world_size=5)
    for name in ("num_threads", "prefetch_batches"):
        with pytest.raises(UserError, match=name):
            train_loader(dataset, **{name: -1})
    for name in ("batch_size", "limit"):
        sizes: dict[str, Any] = {"batch_size": 4, name: 0}
        with pytest.raises(UserError, match=name):
            evaluation_batches(dataset, "val", **sizes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device to pin memory for")
def test_pinned_memory_needs_a_device(dataset: Dataset) -> None:
    with pytest.raises(UserError, match="CUDA"):
        TrainLoader(dataset, "train", global_batch_size=4, seed=0, pin_memory=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a CUDA device")
def test_pinned_batches_hold_the_same_images(dataset: Dataset) -> None:
    pinned = TrainLoader(dataset, "train", global_batch_size=12, seed=5, pin_memory=True)
    for batch, expected in zip(take(pinned, 4), take(train_loader(dataset), 4), strict=True):
        assert batch.images.is_pinned()
        assert_equal(batch, expected)


def test_few_files_stay_open_while_threads_read_many_shards(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_OPEN_SHARDS", 2)
    rows = np.random.default_rng(0).integers(0, NUM_TRAIN, 4000)
    expected = list(Reader(dataset, "train").read(np.arange(NUM_TRAIN)))
    shared = Reader(dataset, "train")
    num_open = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda part: list(shared.read(part)), np.array_split(rows, 40))
        data = list(itertools.chain.from_iterable(results))
    assert data == [expected[row] for row in rows]
    if num_open is not None:
        assert len(os.listdir("/proc/self/fd")) <= num_open + 2
