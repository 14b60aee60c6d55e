"""Held-out metrics are the same for any number of processes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from facegen.families import build
from facegen.latents.latent_stats import LatentStats
from facegen.losses.vae import kl_per_dim
from facegen.networks.conv_config import ImageShape
from facegen.pixels import to_float
from facegen.processes.preemption import Preempted, StopFlag
from facegen.reporting.held_out import image_batches
from facegen.reporting.validation import validate
from pretended_processes import AskedLater, OneOfMany
from shards.dataset.dataset import Dataset
from shards.loading.batch import Batch
from shards.loading.loader import evaluation_batches
from training_runs import MakeConfig


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_validation_is_the_mean_over_all_images_for_any_number_of_processes(
    name: str, tiny_config: MakeConfig, tiny_dataset: Path
) -> None:
    torch.manual_seed(0)
    family = build(name, tiny_config(name).model, ImageShape(3, 16, 16)).eval()
    dataset = Dataset(tiny_dataset)
    batch = next(iter(evaluation_batches(dataset, "val", 20)))
    images = to_float(batch.images)
    with torch.no_grad():
        mu, logvar = family.posterior(images, {})
        expected = {"mse": (family.decode(mu, {}) - images).square().mean().item()}
    if logvar is not None:
        expected["kl"] = kl_per_dim(mu, logvar).sum(1).mean().item()

    def held_out(process: Any, stop: StopFlag) -> Iterator[Batch]:
        return image_batches(dataset, "val", 20, 6, process, stop)

    alone: Any = OneOfMany(0, 1)
    whole = validate(family, held_out(alone, AskedLater()), alone)
    assert whole.values == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(whole.mu, mu)
    for num_processes in (2, 5):  # 20 images in batches of 6: of five processes the last one gets none.
        group: list[Any] = [OneOfMany(rank, num_processes, alone.given[0]) for rank in range(num_processes)]
        stops = [AskedLater() for _ in group]
        results = [validate(family, held_out(member, stop), member) for member, stop in zip(group, stops, strict=True)]
        assert len({stop.num_votes for stop in stops}) == 1  # A vote is a collective call, too.
        assert [len(member.given) for member in group] == [1] * num_processes  # Each joins the one collective call.
        torch.testing.assert_close(torch.stack([member.given[0] for member in group]).sum(0), alone.given[0])
        assert all(result.values == whole.values for result in results)
        together = functools.reduce(LatentStats.merge, [result.stats for result in results])
        assert together.count == 20
        torch.testing.assert_close(together.variance, mu.double().var(0, correction=0), rtol=1e-5, atol=1e-9)
    with pytest.raises(Preempted):
        validate(family, held_out(OneOfMany(0, 1), AskedLater(2)), OneOfMany(0, 1))
