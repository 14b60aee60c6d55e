"""What reconstructions are compared with: principal components, and the images' own features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.features.space_names import frechet_name
from eval.features.spaces import FeatureSpace, load_efflite0, load_inception
from eval.metrics.frechet import FeatureStatistics, frechet_distance
from facegen.latents.streaming_pca import principal_components
from facegen.networks.patches import Grid
from facegen.pixels import to_float
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

_BATCH_SIZE = 256
_PCA = "pca-"


class RFD:
    """Fréchet distance of reconstructions from the images themselves."""

    def __init__(self, images: Tensor, inception: Path | None) -> None:
        """Takes the features of uint8 images N x H x W x C: Inception's, or without its weights EfficientNet-Lite0's.

        Raises:
            UserError: Weights that are not there.
        """
        cpu = torch.device("cpu")
        self._space = load_inception(inception, cpu) if inception else load_efflite0(cpu)
        self._images = _statistics(self._space, images)

    @property
    def name(self) -> str:
        """Of the distance."""
        return f"r{frechet_name(self._space.name)}"

    def __call__(self, reconstructions: np.ndarray) -> float:
        """The distance of uint8 images N x H x W x C."""
        return frechet_distance(_statistics(self._space, torch.from_numpy(reconstructions)), self._images)


def _statistics(space: FeatureSpace, images: Tensor) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(space.dim)
    for part in images.split(_BATCH_SIZE):
        statistics.update(space(part))
    return statistics


def parse_target(text: str) -> float | int:
    """A target: a float is an MSE; an int is a number of principal components, whose MSE it is (``pca-256``).

    Raises:
        ValueError: Neither.
    """
    try:
        value = int(text.removeprefix(_PCA)) if text.startswith(_PCA) else float(text)
    except ValueError:
        value = 0
    if not value > 0:
        raise ValueError(f"target must be an MSE, or pca-N for that of N principal components, not {text}.")
    return value


def pca_mse(num_components: int, dataset: Dataset, held_out: Tensor) -> float:
    """MSE on [-1, 1] of uint8 images N x H x W x C, from the principal components of the training images."""
    (reconstructions,) = pca_reconstructions([num_components], dataset, held_out)
    return float((reconstructions - to_float(held_out)).double().square().mean())


@torch.inference_mode()
def pca_reconstructions(
    numbers: Sequence[int], dataset: Dataset, held_out: Tensor, mirrored: bool = False
) -> Iterator[Tensor]:
    """Uint8 images N x H x W x C from each number of principal components, N x C x H x W.

    The components are of the training images, where ``mirrored`` with their mirror images.
    """
    image = dataset.image
    grid = Grid(image.channels, 1, 1, image.height, image.width)
    if max(numbers) > grid.num_values:
        raise UserError(f"these images have {grid.num_values} values, so no {max(numbers)} principal components.")

    def batches() -> Iterator[Tensor]:
        for batch in evaluation_batches(dataset, "train", _BATCH_SIZE, fields=()):
            yield to_float(batch.images)

    components = principal_components(batches, grid, max(numbers), mirrored=mirrored)
    centered = (to_float(held_out) - components.mean).flatten(1)
    for number in numbers:
        directions = components.directions[:, :number]
        yield (centered @ directions @ directions.T).view(-1, *components.mean.shape) + components.mean
