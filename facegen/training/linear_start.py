"""First weights from principal components of the training images (``--init pca``)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from accelerate import Accelerator

from facegen.families.base import Family
from facegen.latents.image_components import image_components
from facegen.networks.conv_config import ConvNetConfig
from facegen.options import TrainConfig
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset


def linear_start(family: Family, config: TrainConfig, dataset: Dataset, accelerator: Accelerator) -> None:
    """Makes a family the best linear model of the training images.

    Every process must call it.

    Raises:
        UserError: A network that has no linear shortcut, or a cache that cannot be written.
    """
    wanted = family.linear_start()
    if wanted is None:
        raise UserError(
            f"--init pca needs a linear map around encoder and decoder, which this {config.family} lacks; "
            f"{_remedy(config.model)}."
        )
    family.start_from(image_components(*wanted, dataset, config.augment.flip, accelerator))


def _remedy(model: Any) -> str:
    """The options of a family that give it the linear map."""
    names = [item.name for item in fields(model) if isinstance(getattr(model, item.name), ConvNetConfig)]
    if not names:
        return "set --init random"
    options = [f"--model.{names[0]}.shortcut linear --model.{names[0]}.output linear"]
    if getattr(model, "architecture", "conv") != "conv":
        options.insert(0, "--model.architecture conv")
    return f"set {' '.join(options)}, or --init random"
