"""Latents of a data set's training images, encoded once by a trained model and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from facegen.losses.vae import reparameterize
from facegen.pixels import to_float
from shards.base.files import save_tensors
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

Encode = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Images N x C x H x W in [-1, 1] to mean and log variance, each N x L; None for a deterministic encoder."""

_CACHE_VERSION = 1
_BATCH_SIZE = 256


class TrainingLatents(NamedTuple):
    """Posteriors of N training images and of their mirror images."""

    mu: Tensor
    """float32, N x 2 x L."""
    logvar: Tensor | None
    """The same shape; None for a deterministic encoder."""

    def draw(self, rows: Tensor, mirrored: Tensor, noise: Tensor) -> Tensor:
        """Draws from the posteriors of some images.

        Args:
            rows: int64, n.
            mirrored: bool, n: whether to take the mirror image.
            noise: Standard normal, n x L.
        """
        places = rows, mirrored.long()
        return self.mu[places] if self.logvar is None else reparameterize(self.mu[places], self.logvar[places], noise)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of ``draw``, each float32, L."""
        mu = self.mu.flatten(0, 1).cpu().double()
        variance = mu.var(0, correction=0)
        if self.logvar is not None:
            variance += self.logvar.flatten(0, 1).cpu().double().exp().mean(0)
        return mu.mean(0).float(), variance.sqrt().float()


def training_latents(encode: Encode, identity: str, dataset: Dataset, device: torch.device) -> TrainingLatents:
    """Encodes the training split, or reads what an earlier training has encoded; every process has to call it.

    Args:
        encode: The model; without gradients.
        identity: What its latents depend on, such as the checksum of its weights.
        dataset: With a training split.
        device: Where to encode.

    Raises:
        UserError: A damaged data set, or a cache that cannot be written.
    """
    content = f"{_CACHE_VERSION} {dataset.fingerprint} {identity}"
    path = cache_directory() / "training_latents" / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.safetensors"
    with PartialState().local_main_process_first():  # The others of a machine read what the first has written.
        latents = _read(path)
        if latents is None:
            latents = TrainingLatents(*_encoded(encode, dataset, device))
            present = {name: tensor.numpy() for name, tensor in latents._asdict().items() if tensor is not None}
            save_tensors(path, present)
    return TrainingLatents(latents.mu.to(device), None if latents.logvar is None else latents.logvar.to(device))


def _encoded(encode: Encode, dataset: Dataset, device: torch.device) -> tuple[Tensor, Tensor | None]:
    means, logvars = [], []
    with ProgressLine("latents of train", dataset.num_samples("train")) as progress, torch.no_grad():
        for batch in evaluation_batches(dataset, "train", _BATCH_SIZE, fields=()):
            images = to_float(batch.images.to(device))
            (mu, logvar), (mirrored_mu, mirrored_logvar) = encode(images), encode(images.flip(3))
            means.append(torch.stack([mu, mirrored_mu], 1).float().cpu())
            if logvar is not None and mirrored_logvar is not None:
                logvars.append(torch.stack([logvar, mirrored_logvar], 1).float().cpu())
            progress.update(len(images))
    return torch.cat(means), torch.cat(logvars) if logvars else None


def _read(path: Path) -> TrainingLatents | None:
    try:
        tensors = load_file(path)
        return TrainingLatents(tensors["mu"], tensors.get("logvar"))
    except (OSError, SafetensorError, KeyError):
        return None
