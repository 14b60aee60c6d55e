"""Decoded images stay in memory: the same batches, with less reading."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.batch import BatchReader, Share
from shards.loading.decoded import DecodedImages
from shards.loading.loader import TrainLoader
from shards.loading.reader import Reader

EPOCHS = 4


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each row is read from its shard."""
    counts: Counter[int] = Counter()
    read = Reader.read

    def counting(self: Reader, rows: np.ndarray) -> Iterator[bytes]:
        counts.update(rows.tolist())
        return read(self, rows)

    monkeypatch.setattr(Reader, "read", counting)
    return counts


def batches(dataset: Dataset, **options: int) -> list[tuple[list[int], torch.Tensor]]:
    loader = TrainLoader(dataset, "train", global_batch_size=16, seed=3, **options)
    taken = itertools.islice(iter(loader), EPOCHS * loader.steps_per_epoch)
    return [(batch.rows.tolist(), batch.images.clone()) for batch in taken]


def image_bytes(dataset: Dataset) -> int:
    return dataset.image.height * dataset.image.width * dataset.image.channels


@pytest.mark.parametrize("num_threads", [0, 3])
@pytest.mark.parametrize("num_fitting", [0, 20, 10_000])
def test_batches_are_the_same(tiny_dataset: Path, num_threads: int, num_fitting: int) -> None:
    dataset = Dataset(tiny_dataset)
    expected = batches(dataset, num_threads=0)
    kept = batches(dataset, num_threads=num_threads, decoded_bytes=num_fitting * image_bytes(dataset))
    assert len(kept) == len(expected)
    for (rows, images), (expected_rows, expected_images) in zip(kept, expected, strict=True):
        assert rows == expected_rows
        assert torch.equal(images, expected_images)


def test_what_fits_is_read_once(tiny_dataset: Path, reads: Counter[int]) -> None:
    dataset = Dataset(tiny_dataset)
    used = Counter(itertools.chain(*(rows for rows, _ in batches(dataset, num_threads=0))))
    assert reads == used and max(used.values()) == EPOCHS
    reads.clear()
    batches(dataset, num_threads=0, decoded_bytes=10_000 * image_bytes(dataset))
    assert reads == Counter(dict.fromkeys(used, 1))
    reads.clear()
    batches(dataset, num_threads=0, decoded_bytes=20 * image_bytes(dataset) + 1)
    assert reads == Counter({row: 1 if row < 20 else number for row, number in used.items()})


def test_shards_with_all_images_decoded_are_not_fetched(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(tiny_dataset)
    first, second = dataset.shard_sizes("train")[:2]
    announced: list[list[int]] = []
    monkeypatch.setattr(Reader, "expect", lambda self, shards: announced.append(list(shards)))
    read = BatchReader(dataset, "train", None, decoded_bytes=10_000 * image_bytes(dataset))
    read([Share(np.arange(first - 1))])
    read.expect([0, 1])
    read([Share(np.arange(first - 1, first + second - 1))])
    read.expect([0, 1])
    assert announced == [[0, 1], [1]]


def test_too_little_memory_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"cannot reserve 12[0-9,.]* GB of memory .* lower --loader\.decoded_gb"):
        DecodedImages(10**13, (64, 64, 3), 123 * 10**15)
