"""Batches as families take them, on the device and augmented: of a training step, and for batch norm's statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from accelerate import Accelerator

from facegen.families.base import Family, TrainBatch
from facegen.options import TrainConfig
from facegen.randomness import SlotRandom
from facegen.training.augment import augment, mirrored
from shards.dataset.dataset import Dataset
from shards.loading.batch import Batch
from shards.loading.loader import TrainLoader

_STATISTICS_BATCH = 64
"""Images of a batch that statistics are estimated from, at most: the same on any number of processes."""


def micro_batches(batch: Batch, config: TrainConfig, images_seen: int, device: torch.device) -> list[TrainBatch]:
    """The parts of one optimizer step.

    Args:
        batch: This process's images, uint8 N x C x H x W, and labels.
        config: Seed, augmentation, and the number of parts.
        images_seen: Images before the step, over all processes; noise and augmentation follow from it.
        device: Where the parts go.

    Returns:
        As many parts as there are accumulation steps; images float in [-1, 1].
    """
    size = len(batch.images) // config.gradient_accumulation_steps
    parts = []
    for start in range(0, len(batch.images), size):
        slots = slice(batch.first_slot + start, batch.first_slot + start + size)
        random = SlotRandom(config.seed, images_seen, slots, config.global_batch_size, device)
        images = batch.images[start : start + size].to(device, non_blocking=True)
        labels = {
            name: label[start : start + size].to(device, non_blocking=True) for name, label in batch.labels.items()
        }
        part = TrainBatch(augment(images, config.augment, random), labels, random, images_seen)
        if not images.numel():
            part.rows = batch.rows[start : start + size].to(device, non_blocking=True)
            part.mirrored = mirrored(config.augment, random)
        parts.append(part)
    return parts


class StatisticsBatches:
    """This process's share of the first training batches; images stay in memory as bytes after the first use."""

    def __init__(self, config: TrainConfig, dataset: Dataset, family: Family, accelerator: Accelerator) -> None:
        """Reads nothing yet."""
        self._config = config
        self._dataset = dataset
        self._family = family
        self._accelerator = accelerator
        self._read: list[tuple[int, Batch]] | None = None

    def __call__(self) -> Iterator[TrainBatch]:
        """Batches of ``ema.statistics_images`` images over all processes, one epoch at most; always the same."""
        if self._read is None:
            self._read = self._read_share()
        for start, batch in self._read:
            config = replace(self._config, global_batch_size=len(batch.images), gradient_accumulation_steps=1)
            yield from micro_batches(batch, config, start, self._accelerator.device)

    def _read_share(self) -> list[tuple[int, Batch]]:
        """Batches, and the number of images before each."""
        config, accelerator = self._config, self._accelerator
        units = self._family.units(self._dataset, "train", config.seed)
        unit_size = units.unit_size if units else 1
        size = max(1, min(_STATISTICS_BATCH, config.global_batch_size) // unit_size) * unit_size
        loader = TrainLoader(
            self._dataset,
            "train",
            global_batch_size=size,
            seed=config.seed,
            canonical_nodes=1,
            num_threads=config.loader.num_threads,
            fields=self._family.labels,
            units=units,
        )
        num_batches = max(1, min(config.ema.statistics_images, loader.epoch_size) // size)
        numbered = [*zip(range(0, num_batches * size, size), loader, strict=False)]
        return numbered[accelerator.process_index :: accelerator.num_processes]
