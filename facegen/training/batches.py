"""One process's share of a global batch as families take it: on the device, augmented, split for accumulation."""

from __future__ import annotations

import torch

from facegen.families.base import TrainBatch
from facegen.options import TrainConfig
from facegen.randomness import SlotRandom
from facegen.training.augment import augment
from shards.loading.batch import Batch


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
        parts.append(TrainBatch(augment(images, config.augment, random), labels, random, images_seen))
    return parts
