"""First weights from principal components of the training images (``--init pca``), cached for each data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from facegen.families.base import Family
from facegen.latents.streaming_pca import principal_components
from facegen.networks.conv_config import ConvNetConfig
from facegen.networks.patches import Grid, PrincipalComponents
from facegen.options import TrainConfig
from facegen.pixels import to_float
from facegen.processes.group import sum_over_processes
from shards.base.errors import UserError
from shards.base.files import save_tensors
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

_CACHE_VERSION = 2
_BATCH_SIZE = 1024


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
    family.start_from(_components(*wanted, dataset, config.augment.flip, accelerator))


def _remedy(model: Any) -> str:
    """The options of a family that give it the linear map."""
    names = [item.name for item in fields(model) if isinstance(getattr(model, item.name), ConvNetConfig)]
    if not names:
        return "set --init random"
    options = [f"--model.{names[0]}.shortcut linear --model.{names[0]}.output linear"]
    if getattr(model, "architecture", "conv") != "conv":
        options.insert(0, "--model.architecture conv")
    return f"set {' '.join(options)}, or --init random"


def _components(
    grid: Grid, num_components: int, dataset: Dataset, flip: bool, accelerator: Accelerator
) -> PrincipalComponents:
    """Principal components of the training split, mirrored images included where training mirrors them."""
    content = f"{_CACHE_VERSION} {dataset.fingerprint} {flip} {tuple(grid)} {num_components}"
    path = cache_directory() / "image_components" / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.safetensors"
    cached = _read(path)
    # All or none: processes of machines without a common disk may find different things.
    num_missing = sum_over_processes(torch.tensor(float(cached is None)), accelerator)
    if cached is not None and not num_missing:
        return cached
    components = principal_components(
        lambda: _images(dataset, accelerator),
        grid,
        num_components,
        device=accelerator.device,
        reduce=lambda value: sum_over_processes(value, accelerator),
        mirrored=flip,
    )
    if accelerator.is_main_process:
        _write(path, components)
    return components


def _images(dataset: Dataset, accelerator: Accelerator) -> Iterable[Tensor]:
    batches = evaluation_batches(
        dataset,
        "train",
        _BATCH_SIZE,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        fields=(),
    )
    num_images = -(-dataset.num_samples("train") // accelerator.num_processes)
    with ProgressLine("principal components", num_images, quiet=not accelerator.is_main_process) as progress:
        for batch in batches:
            yield to_float(batch.images)
            progress.update(len(batch.images))


def _read(path: Path) -> PrincipalComponents | None:
    try:
        tensors = load_file(path)
        residual = float(tensors["residual"])
        return PrincipalComponents(tensors["mean"], tensors["directions"], tensors["variances"], residual)
    except (OSError, SafetensorError, KeyError):
        return None


def _write(path: Path, components: PrincipalComponents) -> None:
    tensors = {name: getattr(components, name).numpy() for name in ("mean", "directions", "variances")}
    save_tensors(path, tensors | {"residual": torch.tensor(components.residual, dtype=torch.float64).numpy()})
