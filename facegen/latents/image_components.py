"""Principal components of a data set's training images, cached for each data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from facegen.latents.streaming_pca import principal_components
from facegen.networks.patches import Grid, PrincipalComponents
from facegen.pixels import to_float
from facegen.processes.consensus import main_decides, main_does
from facegen.processes.group import sum_over_processes
from shards.base.files import save_tensors
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

_CACHE_VERSION = 2
_BATCH_SIZE = 1024


def image_components(
    grid: Grid, num_components: int, dataset: Dataset, mirrored: bool, accelerator: Accelerator
) -> PrincipalComponents:
    """Principal components of the training split; every process has to call it, and the main one's cache counts.

    Args:
        grid: How images are cut.
        num_components: How many; fewer are found where images have fewer dims.
        dataset: With a training split.
        mirrored: Whether the mirror image of each image counts, too.
        accelerator: Processes and device.

    Raises:
        UserError: A damaged data set, or a cache that cannot be written.
    """
    content = f"{_CACHE_VERSION} {dataset.fingerprint} {mirrored} {tuple(grid)} {num_components}"
    path = cache_directory() / "image_components" / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.safetensors"
    # Machines without a common disk may find different things.
    cached = main_decides(lambda: _read(path))
    if cached is not None:
        return cached
    components = principal_components(
        lambda: _images(dataset, accelerator),
        grid,
        num_components,
        device=accelerator.device,
        reduce=lambda value: sum_over_processes(value, accelerator),
        mirrored=mirrored,
    )
    main_does(lambda: _write(path, components))
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
