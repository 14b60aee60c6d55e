"""Simple baselines: real faces of other people, the mean face, principal components ("eigenfaces"), double exposures.

A model that does not beat eigenfaces with as many components as it has latents has learned less than linear algebra;
real faces are what no distance can be expected to go below.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from eval.stand_ins.baseline_names import Baseline
from eval.stand_ins.stand_in import StandIn, fixed, read_rows
from facegen.latents.image_components import image_components
from facegen.networks.patches import Grid, PrincipalComponents
from facegen.pixels import to_float, to_uint8
from facegen.randomness import derive_seed, numbered_noise
from shards.dataset.dataset import Dataset

DEFAULT_COMPONENTS, MAX_COMPONENTS = 256, 1024
"""Numbers of components: the default where no run has latents, and the largest that is taken from a run without
``--eigenfaces``, since the search for more takes longer than the report."""


def training_rows(num_images: int, seed: int, first: int, num: int) -> np.ndarray:
    """Rows ``first`` to ``first + num - 1`` of a training split in an order that a seed decides, int64 (num,).

    In their own order the first images can be of few people. After the last one they begin again.
    """
    return np.random.default_rng(seed).permutation(num_images)[np.arange(first, first + num) % num_images]


class RealFaces(StandIn):
    """Images of a split, in an order that a seed decides."""

    is_baseline = True

    def __init__(self, dataset: Dataset, split: str = "train") -> None:
        """Takes those of ``split``."""
        self._dataset, self._split = dataset, split
        self._images = "training images" if split == "train" else f"images of {split}"
        num = dataset.num_samples(split)
        super().__init__("real", f"set of {self._images}", {"sample"}, f"real {split}", dataset.fingerprint, num)

    def sample(self, num: int, *, seed: int = 0, std: float = 1.0, labels: Any = None, first: int = 0) -> Tensor:
        """As ``StandIn.sample``."""
        fixed(std, self.name)
        assert self.num_images
        return to_float(read_rows(self._dataset, self._split, training_rows(self.num_images, seed, first, num)))


class DoubleExposures(RealFaces):
    """Means of two images of a split, pixel by pixel; a distance that they do well in does not see ghosts."""

    def __init__(self, dataset: Dataset, split: str = "train") -> None:
        """Takes those of ``split``."""
        super().__init__(dataset, split)
        self.name, self.identity = "double exposure", f"double exposure {split}"
        self.family = f"mean of two {self._images}"

    def sample(self, num: int, *, seed: int = 0, std: float = 1.0, labels: Any = None, first: int = 0) -> Tensor:
        """As ``StandIn.sample``."""
        images = super().sample(num, seed=seed, std=std, first=first)
        others = super().sample(num, seed=derive_seed(seed, "others"), first=first)
        return (images + others) / 2


class Eigenfaces(StandIn):
    """The linear autoencoder of K principal components, and a Gaussian over them; with K = 0, the mean face.

    The mean face has one latent dim, which changes nothing.
    """

    is_baseline = True

    def __init__(self, components: PrincipalComponents, num: int, fingerprint: str, device: torch.device) -> None:
        """Takes the first ``num`` components."""
        name, can = (f"eigenfaces {num}", {"sample"}) if num else ("mean face", set())
        family = f"Gaussian over {num} principal components" if num else "mean of the training images"
        super().__init__(name, family, can | {"encode", "decode"}, name, fingerprint)
        self._mean = components.mean.to(device)
        self.is_constant = num == 0
        self.latent_size = max(num, 1)
        self._directions = (components.directions[:, : self.latent_size] * (num > 0)).to(device)
        self._deviations = components.variances[: self.latent_size].sqrt()

    def sample(self, num: int, *, seed: int = 0, std: float = 1.0, labels: Any = None, first: int = 0) -> Tensor:
        """As ``StandIn.sample``, at any ``std``."""
        return self.decode(numbered_noise(self.latent_size, num, seed, first) * self._deviations * std)

    def posterior(self, images: Tensor, labels: Any = None) -> tuple[Tensor, None]:
        """Components N x K of float images N x C x H x W, and no log variance."""
        return (images.to(self._mean.device) - self._mean).flatten(1) @ self._directions, None

    def encode(self, images: Any, labels: Any = None) -> Any:
        """Components N x K of images in either form."""
        if isinstance(images, np.ndarray):
            return self.posterior(to_float(torch.from_numpy(images)))[0].cpu().numpy()
        return self.posterior(images)[0]

    def decode(self, latents: Any, labels: Any = None) -> Any:
        """Images of components N x K, in the form of the latents' library."""
        components = torch.as_tensor(latents, dtype=torch.float32, device=self._mean.device)
        images = (components @ self._directions.T).view(-1, *self._mean.shape) + self._mean
        return to_uint8(images).cpu().numpy() if isinstance(latents, np.ndarray) else images


def make_baselines(
    names: Collection[Baseline],
    nums_components: Sequence[int],
    dataset: Dataset,
    real_split: str | None,
    accelerator: Accelerator,
) -> list[StandIn]:
    """The baselines of a report; every rank has to call it.

    Args:
        names: Which of them.
        nums_components: Of eigenfaces, one baseline each; at most as many as an image has values.
        dataset: Its training split is what eigenfaces and the mean face know.
        real_split: Split of the real faces, none of which distances are measured from; None leaves out real faces and
            double exposures.
        accelerator: Ranks and device.

    Raises:
        UserError: A damaged data set, or a cache that cannot be written.
    """
    if "train" not in dataset.splits:
        return []
    kinds = {"real": RealFaces, "double_exposure": DoubleExposures} if real_split else {}
    found: list[StandIn] = [kind(dataset, real_split) for name, kind in kinds.items() if name in names]
    image = dataset.image
    grid = Grid(image.channels, 1, 1, image.height, image.width)
    nums = sorted({min(num, grid.num_values) for num in nums_components}) if "eigenfaces" in names else []
    if nums or "mean_face" in names:
        components = image_components(grid, max([1, *nums]), dataset, True, accelerator)
        nums = ([0] if "mean_face" in names else []) + nums
        available = len(components.variances)
        chosen = dict.fromkeys(min(num, available) for num in nums)
        found += [Eigenfaces(components, num, dataset.fingerprint, accelerator.device) for num in chosen]
    return found
