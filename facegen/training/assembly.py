"""A run's family, its loader and its state, from the config and the data set."""

from __future__ import annotations

from dataclasses import asdict

import torch
from accelerate import Accelerator

from facegen.families import build
from facegen.families.base import Family
from facegen.networks.conv_config import ImageShape
from facegen.networks.norm import batch_norms
from facegen.optimization.batch_statistics import BatchStatistics
from facegen.optimization.early_stop import EarlyStop
from facegen.optimization.ema import EMA
from facegen.optimization.optim import Updater
from facegen.optimization.state import TrainState
from facegen.options import TrainConfig
from facegen.processes.group import local_world_size
from facegen.randomness import derive_seed
from facegen.training.batches import StatisticsBatches
from facegen.training.freezing import freeze
from shards.base.errors import UserError, shown
from shards.dataset.dataset import Dataset
from shards.loading.loader import TrainLoader


def make_loader(config: TrainConfig, dataset: Dataset, family: Family, accelerator: Accelerator) -> TrainLoader:
    """This process's loader of the training split, in the family's units and with the labels that it uses.

    Raises:
        UserError: Labels that make no units, or a batch that cannot be shared equally.
    """
    units = family.units(dataset, "train", config.seed)
    loader = TrainLoader(
        dataset,
        "train",
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        local_world_size=local_world_size(),
        canonical_nodes=config.loader.canonical_nodes,
        num_threads=config.loader.num_threads,
        prefetch_batches=config.loader.prefetch_batches,
        decoded_bytes=round(config.loader.decoded_gb * 1e9),
        fields=family.labels,
        images=family.reads_images,
        pin_memory=accelerator.device.type == "cuda",
        units=units,
    )
    unit = accelerator.num_processes * config.gradient_accumulation_steps * (units.unit_size if units else 1)
    if config.global_batch_size % unit:
        nearest = max(unit, round(config.global_batch_size / unit) * unit)
        groups = f" in groups of {units.unit_size}" if units else ""
        raise UserError(
            f"global_batch_size {config.global_batch_size} cannot be shared equally by {accelerator.num_processes} "
            f"processes x {config.gradient_accumulation_steps} gradient_accumulation_steps{groups}; use {nearest}."
        )
    return loader


def build_family(config: TrainConfig, dataset: Dataset) -> Family:
    """The family with its initial weights, the same in every process.

    Raises:
        UserError: A config that does not fit the images, or augmentation that the family does not allow.
    """
    image = dataset.image
    torch.manual_seed(derive_seed(config.seed, "weights"))
    try:
        family = build(config.family, config.model, ImageShape(image.channels, image.height, image.width))
    except ValueError as error:
        raise UserError(str(error)) from None
    except (RuntimeError, MemoryError, OverflowError) as error:
        finding = shown(" ".join(str(error).split()))
        raise UserError(f"the networks of these options cannot be made ({finding}); make them smaller.") from None
    augmented = {name: value for name, value in asdict(config.augment).items() if value}
    if augmented and not family.augmentable:
        switched_off = " ".join(f"--augment.{name} {'false' if on is True else 0}" for name, on in augmented.items())
        raise UserError(
            f"{config.family} learns from the differences between the images of a group, which augmentation would "
            f"change at random; set {switched_off}."
        )
    unread = [name for name in augmented if name != "flip"]
    if unread and not family.reads_images:
        raise UserError(
            f"{config.family} learns from the latents of images and of their mirror images, which {', '.join(unread)} "
            f"would not change; set {' '.join(f'--augment.{name} 0' for name in unread)}."
        )
    freeze(family, config.freeze)
    return family


def make_state(
    config: TrainConfig, dataset: Dataset, family: Family, early_stop: EarlyStop, accelerator: Accelerator
) -> TrainState:
    """The state at the start of a run: initial weights, and optimizers that have seen nothing.

    Raises:
        UserError: A learning rate of a network that the family does not have.
    """
    unknown = [name for name in config.optim.lr_of if name not in family.networks]
    if unknown:
        raise UserError(
            f"optim.lr_of names {', '.join(unknown)}; the networks of this {config.family} are "
            f"{', '.join(family.networks)}."
        )
    use_fp16 = accelerator.mixed_precision == "fp16"
    updaters = {
        name: Updater(network, config.optim, accelerator.device, use_fp16) for name, network in family.networks.items()
    }
    ema, statistics = None, None
    if config.ema.half_life_images:
        ema = EMA(family, config.ema.half_life_images, config.ema.ramp_up)
        if config.ema.statistics_images and batch_norms(family.networks):
            statistics = BatchStatistics(StatisticsBatches(config, dataset, family, accelerator), accelerator)
    return TrainState(family, ema, updaters, early_stop, statistics)
