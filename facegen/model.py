"""A trained model for use: ``load(run)`` and then ``encode``, ``decode``, ``reconstruct``, ``sample``, ``verify``.

Images come and go in either of two forms, told apart by their type:

* numpy uint8, N x H x W x C in [0, 255], as image files hold them;
* torch float, N x C x H x W in [-1, 1], as networks see them.

Latents are N x L, of the same library as the images asked for. Everything runs in eval mode without gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from facegen.config import model_config_from_dict
from facegen.families import Family, build
from facegen.networks.conv import ImageShape
from facegen.pixels import to_float, to_uint8
from facegen.randomness import derive_seed
from facegen.runs.checkpoint import load_module
from facegen.runs.snapshot import Description, find_snapshot, read_description
from facegen.samplers.base import Sampler
from facegen.samplers.fitted import load_sampler
from facegen.samplers.prior import PriorSampler
from shards.base.errors import UserError

Array = TypeVar("Array", np.ndarray, Tensor)
Labels = Mapping[str, Tensor | np.ndarray | Sequence[float]] | None


def load(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    weights: Literal["ema", "raw"] | None = None,
    sampler: str | None = None,
) -> Model:
    """Loads a trained model.

    Args:
        path: A run directory (its newest snapshot, or its best where it was trained with early stopping) or a
            snapshot directory.
        device: Where to compute.
        weights: The moving average or the trained weights; None takes the average where there is one.
        sampler: Name of a sampler that was fitted to this run, for ``Model.sample``; None takes the family's prior.

    Raises:
        UserError: No snapshot there, one without the weights asked for, or a sampler that was not fitted to them.
    """
    snapshot = find_snapshot(Path(path))
    description = read_description(snapshot)
    chosen = weights or description.weights[0]
    if chosen not in description.weights:
        raise UserError(f"{snapshot} has no {chosen} weights; it has {' and '.join(description.weights)}.")
    config = model_config_from_dict(description.family, description.config["model"])
    family = build(description.family, config, ImageShape(*description.image_shape))
    load_module(family, snapshot / f"{chosen}.safetensors")
    model = Model(family.to(device).eval(), description, snapshot, chosen)
    if sampler is not None:
        if model.run_dir is None:
            raise UserError(f"{path} lies in no run, and samplers are kept in runs; give the run directory.")
        model.use_sampler(sampler, load_sampler(model.run_dir, sampler, snapshot, chosen))
    return model


class Model:
    """A trained model.

    Attributes:
        name: The run's name.
        family: The family's name.
        can: What it does: ``encode``, ``posterior``, ``decode``, ``sample``, ``verify``.
        sampler: Name of the fitted sampler that ``sample`` draws from; None for the family's prior.
        image_shape: Channels, height, width.
        latent_size: Number of latent dims, or None.
        condition: Name of the label that it generates by, or None.
        condition_range: Smallest and largest degree of that label in training; None without a condition.
        decoder_variance: Variance of the Gaussian decoder whose ELBO was trained (``beta_eff``), or None.
        weights: ``ema`` or ``raw``.
        snapshot: Directory that it was loaded from.
        images_seen: Training images seen, repeats included.
        step: Optimizer steps.
        config: The full training config.
        dataset_fingerprint: Of the training data.
        num_parameters: Trained values.
        snapshot_bytes: Size of the weights' file.
        run_dir: The run it belongs to, or None for a snapshot that was moved.
    """

    def __init__(self, network: Family, description: Description, snapshot: Path, weights: str) -> None:
        """Use ``load``."""
        self.network = network
        self.description = description
        self.name = description.name
        self.family = description.family
        self.can = network.can
        self.image_shape = network.image
        self.latent_size = network.latent_size
        self.sampler: str | None = None
        self._sampler: Sampler | None = None if self.latent_size is None else PriorSampler(self.latent_size)
        self.condition = network.condition
        self.condition_range = network.condition_range
        self.decoder_variance = network.decoder_variance
        self.weights = weights
        self.images_seen = description.images_seen
        self.step = description.step
        self.config: dict[str, Any] = description.config
        self.dataset_fingerprint = description.dataset_fingerprint
        self.num_parameters = sum(parameter.numel() for parameter in network.parameters())
        self.snapshot = snapshot
        self.snapshot_bytes = (snapshot / f"{weights}.safetensors").stat().st_size
        run_dir = snapshot.parent.parent
        self.run_dir = run_dir if (run_dir / "config.yaml").is_file() else None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def posterior(self, images: Array, labels: Labels = None) -> tuple[Array, Array | None]:
        """Mean and log variance of each image's latents, N x L; the log variance of a deterministic encoder is None."""
        self._require("encode")
        mu, logvar = self.network.posterior(self._input(images), self._labels(labels, len(images)))
        return _like(mu, images), None if logvar is None else _like(logvar, images)

    def encode(self, images: Array, labels: Labels = None) -> Array:
        """Latents of images: the posterior's mean, N x L."""
        return self.posterior(images, labels)[0]

    @torch.inference_mode()
    def decode(self, latents: Any, labels: Labels = None) -> Any:
        """Images of latents N x L, in the form that matches the latents' library."""
        self._require("decode")
        tensor = torch.as_tensor(latents, dtype=torch.float32, device=self.device)
        if tensor.ndim != 2 or tensor.shape[1] != self.latent_size:
            raise UserError(f"{self.name} decodes latents of N x {self.latent_size}, not of {list(tensor.shape)}.")
        images = self.network.decode(tensor, self._labels(labels, len(tensor)))
        return to_uint8(images).cpu().numpy() if isinstance(latents, np.ndarray) else images

    @torch.inference_mode()
    def reconstruct(self, images: Any, labels: Labels = None) -> Any:
        """Images through the posterior's mean and back, in the form they came in."""
        self._require("encode")
        self._require("decode")
        known = self._labels(labels, len(images))
        mu, _ = self.network.posterior(self._input(images), known)
        reconstructions = self.network.decode(mu, known)
        return to_uint8(reconstructions).cpu().numpy() if isinstance(images, np.ndarray) else reconstructions

    @torch.inference_mode()
    def verify(self, images_a: Array, images_b: Array) -> Array:
        """Probability, N, that each face of ``images_a`` and that of ``images_b`` are the same person."""
        self._require("verify")
        if len(images_a) != len(images_b):
            raise UserError(
                f"faces are verified in pairs: give as many of the one as of the other, not {len(images_a)} and "
                f"{len(images_b)}."
            )
        return _like(self.network.verify(self._input(images_a), self._input(images_b)), images_a)

    @torch.inference_mode()
    def sample(self, num: int, *, seed: int = 0, std: float = 1.0, labels: Labels = None, first: int = 0) -> Tensor:
        """New images, from the prior or from the sampler that was loaded.

        Args:
            num: How many, at least 1.
            seed: Sample ``i`` of a seed is always the same face, whatever ``num`` and ``first`` are.
            std: Standard deviation of the noise behind the latents; 1 is the prior, or the sampler as it was fitted.
            labels: ``{condition: degrees}`` for a conditional family: num floats, NaN for an unknown degree. Degrees
                beyond ``condition_range`` are extrapolated. Without it all are unknown.
            first: Number of the first sample.

        Returns:
            float, num x C x H x W in [-1, 1]; ``facegen.pixels.to_uint8`` makes bytes of them.
        """
        return self.decode(self.sample_latents(num, seed=seed, std=std, first=first), labels)

    @torch.inference_mode()
    def sample_latents(self, num: int, *, seed: int = 0, std: float = 1.0, first: int = 0) -> Tensor:
        """The latents of which ``sample`` makes images, float, num x L."""
        self._require("sample")
        if num < 1:
            raise UserError(f"the number of samples must be at least 1, not {num}.")
        assert self._sampler is not None
        return self._sampler(self._noise(self._sampler.noise_size, num, seed, first), std)

    def prior(self, num: int, *, seed: int = 0, first: int = 0) -> Tensor:
        """Standard normal latents of samples ``first`` to ``first + num``, num x L."""
        assert self.latent_size is not None
        return self._noise(self.latent_size, num, seed, first)

    def use_sampler(self, name: str, sampler: Sampler) -> None:
        """Lets ``sample`` draw from a fitted sampler; also a family without a prior can sample then."""
        self.sampler, self._sampler = name, sampler.to(self.device)
        self.can = self.can | {"sample"}

    def _noise(self, size: int, num: int, seed: int, first: int) -> Tensor:
        """Standard normal numbers of samples ``first`` to ``first + num``, num x size."""
        rows = [
            torch.randn(size, generator=torch.Generator().manual_seed(derive_seed(seed, "sample", index)))
            for index in range(first, first + num)
        ]
        return torch.stack(rows).to(self.device)

    def _require(self, ability: str) -> None:
        if ability not in self.can:
            raise UserError(
                f"models of the family {self.family} cannot {ability}; they can {', '.join(sorted(self.can))}."
            )

    def _input(self, images: np.ndarray | Tensor) -> Tensor:
        if isinstance(images, np.ndarray) and (images.dtype != np.uint8 or images.ndim != 4):
            raise UserError(
                f"numpy images must be uint8, N x H x W x C in [0, 255], not {images.dtype} of {list(images.shape)}; "
                "give floats in [-1, 1] as a torch tensor, N x C x H x W."
            )
        tensor = to_float(torch.from_numpy(images)) if isinstance(images, np.ndarray) else images
        if tuple(tensor.shape[1:]) != tuple(self.image_shape):
            wanted = "x".join(map(str, self.image_shape))
            raise UserError(
                f"{self.name} takes images of {wanted} (channels x height x width), not {list(tensor.shape)}."
            )
        return tensor.to(self.device, memory_format=torch.channels_last)

    def _labels(self, labels: Labels, num: int) -> Mapping[str, Tensor]:
        """Labels of ``num`` images as tensors; a list holds degrees, also where they are written as whole numbers."""
        found = {
            name: torch.as_tensor(label if hasattr(label, "dtype") else np.array(label, np.float32)).to(self.device)
            for name, label in (labels or {}).items()
        }
        given = found.get(self.condition or "")
        if given is not None and given.shape != (num,):
            raise UserError(
                f"give {num} degrees of '{self.condition}', one for each image, not {list(given.shape)} of them."
            )
        return found


def _like(values: Tensor, images: np.ndarray | Tensor) -> Any:
    return values.cpu().numpy() if isinstance(images, np.ndarray) else values
