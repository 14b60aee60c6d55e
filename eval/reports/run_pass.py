"""The two passes over one model: the split through encoder and decoder, and samples from the prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from eval.base.ranks import Mergeable, merge_ranks
from eval.features.feature_set import FeatureSets
from eval.features.row_bank import RowBank
from eval.features.spaces import FeatureSpace
from eval.latent.sample_conditions import sample_labels
from eval.metrics.elbo import ElboSums, posterior_noise
from eval.metrics.latent_usage import LatentStatistics
from eval.metrics.reconstruction import ReconstructionSums
from eval.reports.parts import ALL_PARTS, SAMPLE_PARTS, SPLIT_PARTS
from facegen.losses.vae import kl_per_dim, reconstruction_error, reparameterize
from facegen.pixels import to_float, to_uint8
from shards.dataset.dataset import Dataset
from shards.loading.batch import Batch
from shards.loading.loader import evaluation_batches

MAX_LATENTS = 20_000
"""Latents kept for histograms, sweeps and maps."""
NUM_QUERIES = 200
"""Samples whose nearest training faces are looked for."""

MergeableT = TypeVar("MergeableT", bound=Mergeable)


@dataclass(frozen=True)
class Protocol:
    """What the numbers of every run are measured on, the same for all of them."""

    dataset: Dataset
    split: str
    num_images: int
    num_samples: int
    batch_size: int
    seed: int
    num_train: int = 10_000
    """Training images, the first ones, that components, attributes and nearest neighbors come from."""


@dataclass
class SplitStatistics:
    """What one pass over the split gives; a part is None where the model cannot do what it needs."""

    latent: LatentStatistics
    latents: RowBank
    reconstruction: ReconstructionSums | None
    elbo: ElboSums | None
    features: FeatureSets | None
    """Of the reconstructions."""

    def merge(self, other: SplitStatistics) -> SplitStatistics:
        """Both together."""
        return SplitStatistics(
            latent=self.latent.merge(other.latent),
            latents=self.latents.merge(other.latents),
            reconstruction=_merge(self.reconstruction, other.reconstruction),
            elbo=_merge(self.elbo, other.elbo),
            features=_merge(self.features, other.features),
        )


def run_split(
    model: Any,
    protocol: Protocol,
    spaces: Sequence[FeatureSpace],
    accelerator: Accelerator,
    parts: frozenset[str] = ALL_PARTS,
) -> SplitStatistics | None:
    """Encodes and decodes the split, each image once over all ranks.

    Args:
        model: As ``facegen.model.load`` returns it.
        protocol: The split and how to go through it.
        spaces: Feature spaces of the reconstructions.
        accelerator: Ranks and device.
        parts: Of the report; what none of them needs is not done.

    Returns:
        Statistics over all ranks; None for a model that does not encode, and where no part needs the split.
    """
    if "encode" not in model.can or not parts & SPLIT_PARTS:
        return None
    num_values = model.image_shape[0] * model.image_shape[1] * model.image_shape[2]
    decodes = "decode" in model.can
    has_likelihood = decodes and "posterior" in model.can and model.decoder_variance is not None
    wants_features = decodes and "distances:reconstructions" in parts
    statistics = SplitStatistics(
        latent=LatentStatistics.empty(model.latent_size),
        latents=RowBank(MAX_LATENTS),
        reconstruction=ReconstructionSums() if decodes and "reconstruction" in parts else None,
        elbo=ElboSums(num_values) if has_likelihood and "likelihood" in parts else None,
        features=FeatureSets.empty(spaces) if wants_features else None,
    )
    batches = evaluation_batches(
        protocol.dataset,
        protocol.split,
        protocol.batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        limit=protocol.num_images,
    )
    num_batches = -(-protocol.num_images // protocol.batch_size // accelerator.num_processes)
    quiet = not accelerator.is_main_process
    for batch in tqdm(
        batches, f"{model.name}: {protocol.split}", num_batches, leave=False, disable=quiet or None, unit="batch"
    ):
        _add_batch(statistics, model, batch, protocol.seed, spaces, accelerator.device)
    return merge_ranks(statistics)


@torch.inference_mode()
def _add_batch(
    statistics: SplitStatistics,
    model: Any,
    batch: Batch,
    seed: int,
    spaces: Sequence[FeatureSpace],
    device: torch.device,
) -> None:
    images = to_float(batch.images.to(device))
    rows = batch.rows.numpy()
    mu, logvar = model.posterior(images, batch.labels)
    statistics.latent.update(mu, logvar)
    statistics.latents.update(rows, mu.cpu().numpy())
    if statistics.elbo is not None:
        assert logvar is not None
        noise = posterior_noise(seed, rows, mu.shape[1]).to(device)
        drawn = model.decode(reparameterize(mu, logvar, noise), batch.labels)
        kl = kl_per_dim(mu.cpu().double(), logvar.cpu().double()).sum(dim=1)
        statistics.elbo.update(kl.numpy(), _squared_error(images, drawn).numpy())
    if statistics.reconstruction is None and statistics.features is None:
        return
    reconstructions = model.decode(mu, batch.labels)
    if statistics.reconstruction is not None:
        statistics.reconstruction.update(images, reconstructions)
    if statistics.features is not None:
        statistics.features.update(spaces, rows, to_uint8(reconstructions))


def run_samples(
    model: Any,
    protocol: Protocol,
    spaces: Sequence[FeatureSpace],
    accelerator: Accelerator,
    parts: frozenset[str] = ALL_PARTS,
) -> FeatureSets | None:
    """Features of samples 0 to ``num_samples`` over all ranks; None for a model that does not sample.

    Sample i of a seed is the same image for every number of ranks and batch size; a conditional model's has the label
    of row i of the split. Nothing is sampled where no part needs it, and few where only the nearest neighbors do.
    """
    if "sample" not in model.can or not spaces or not parts & SAMPLE_PARTS:
        return None
    num_samples = protocol.num_samples
    if "distances:samples" not in parts:
        num_samples, spaces = min(num_samples, NUM_QUERIES), spaces[:1]
    features = FeatureSets.empty(spaces)
    stride = protocol.batch_size * accelerator.num_processes
    starts = range(protocol.batch_size * accelerator.process_index, num_samples, stride)
    quiet = not accelerator.is_main_process
    for first in tqdm(starts, f"{model.name}: samples", leave=False, disable=quiet or None, unit="batch"):
        num = min(protocol.batch_size, num_samples - first)
        labels = sample_labels(model, protocol.dataset, protocol.split, protocol.num_images, first, num)
        images = to_uint8(model.sample(num, seed=protocol.seed, first=first, labels=labels))
        features.update(spaces, torch.arange(first, first + num).numpy(), images)
    return merge_ranks(features)


def _squared_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    return reconstruction_error(images.cpu().double(), reconstructions.cpu().double(), "sum")


def _merge(first: MergeableT | None, second: MergeableT | None) -> MergeableT | None:
    return None if first is None or second is None else first.merge(second)
