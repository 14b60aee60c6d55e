"""Batch norm of the averaged weights: its statistics are those of training images under these weights, and no state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from facegen.families import FAMILIES
from facegen.families.base import TrainBatch
from facegen.networks.conv_config import ConvNetConfig
from facegen.networks.gan import DiscriminatorConfig, GeneratorConfig
from facegen.networks.norm import batch_norms
from facegen.optimization.batch_statistics import BatchStatistics
from facegen.options import EMAConfig, MonitorConfig
from facegen.randomness import SlotRandom
from facegen.training.batches import StatisticsBatches
from facegen.training.trainer import Trainer
from pretended_processes import OneOfMany
from tiny_families import IMAGE, tiny_family, tiny_labels
from training_runs import MakeConfig, assert_equal, train

NORM = ConvNetConfig(widths=[4, 8], norm="batch")


def batch(family: str, seed: int, num: int = 16) -> TrainBatch:
    images = torch.rand(num, *IMAGE, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return TrainBatch(images, tiny_labels(family, num), SlotRandom(seed, 0, slice(0, num), num), 0)


def alone(batches: list[TrainBatch]) -> BatchStatistics:
    return BatchStatistics(lambda: batches, Accelerator(cpu=True))


def buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


@pytest.mark.parametrize("name", ["ae", "vae", "cvae", "mod_vae", "vae_gan", "dcgan", "dfc_vae"])
def test_with_the_statistics_of_one_batch_a_network_answers_as_in_training(name: str) -> None:
    family, one = tiny_family(name).eval(), batch(name, 0)
    networks = dict(family.networks.items())
    alone([one]).estimate(family)
    assert not any(module.training for module in family.modules())
    with torch.no_grad():
        evaluated = family.forward_as_trained(networks, one)
        trained = family.train().forward_as_trained(networks, one)
    for value, other in zip(evaluated, trained, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)


def test_the_statistics_are_those_of_all_images_together() -> None:
    family, batches = tiny_family("ae", network=NORM).eval(), [batch("ae", seed) for seed in range(3)]
    alone(batches).estimate(family)
    network: Any = family.networks["autoencoder"]
    conv, norm = network.encoder.stages[0], network.encoder.stages[1]
    features = conv(torch.cat([one.images for one in batches])).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, features.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, features.var(1, correction=0), rtol=1e-5, atol=1e-6)


def test_two_processes_estimate_what_one_does() -> None:
    batches = [batch("vae", seed) for seed in range(5)]
    family = tiny_family("vae", network=NORM).eval()
    alone(batches).estimate(family)
    expected = buffers(family)
    sums = []
    for rank in range(2):
        process = OneOfMany(rank, 2)
        BatchStatistics(lambda rank=rank: batches[rank::2], cast(Accelerator, process)).estimate(family)
        sums += process.given
    both = OneOfMany(0, 2, sums[0] + sums[1])
    BatchStatistics(lambda: batches[0::2], cast(Accelerator, both)).estimate(family)
    for name, buffer in buffers(family).items():
        torch.testing.assert_close(buffer, expected[name], rtol=1e-6, atol=1e-7)


def test_the_share_of_a_process_does_not_depend_on_their_number(tiny_config: MakeConfig) -> None:
    trainer = Trainer(tiny_config("mod_vae", ema=EMAConfig(half_life_images=50, statistics_images=100)))
    config = replace(trainer.config, loader=replace(trainer.config.loader, num_threads=2))

    def share(rank: int, num: int) -> list[TrainBatch]:
        process = cast(Accelerator, OneOfMany(rank, num))
        return [*StatisticsBatches(config, trainer.dataset, trainer.family, process)()]

    whole, shares = share(0, 1), [share(rank, 4) for rank in range(4)]
    assert len(whole) == 6  # Of 16 images, which are whole groups.
    for number, one in enumerate(whole):
        other = shares[number % 4][number // 4]
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.random.normal("noise", 3), other.random.normal("noise", 3))


def test_only_what_inference_passes_is_estimated() -> None:
    family = tiny_family("dcgan", discriminator=DiscriminatorConfig(8, 16, norm="batch")).eval()
    before = buffers(family)
    state = torch.get_rng_state()
    alone([batch("dcgan", 0)]).estimate(family)
    changed = {name for name, buffer in buffers(family).items() if not torch.equal(buffer, before[name])}
    assert changed == {
        name for name in before if name.startswith("networks.generator") and "num_batches_tracked" not in name
    }
    assert torch.equal(torch.get_rng_state(), state)
    assert all(norm.track_running_stats for norm in batch_norms(family.networks))


def test_neither_training_nor_the_average_depends_on_how_often_it_is_used(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"ema": EMAConfig(half_life_images=50), "model": {"network": NORM}, "max_steps": 6}
    often = MonitorConfig(validate_every_images=16, grid_every_images=32)
    seldom = MonitorConfig(validate_every_images=10**6, grid_every_images=10**6)
    watched = train(tiny_config("vae_gan", run=str(tmp_path / "often"), monitor=often, **options))
    assert_equal(watched, train(tiny_config("vae_gan", run=str(tmp_path / "seldom"), monitor=seldom, **options)))


@pytest.mark.parametrize(
    ("norm", "num_images", "estimates"),
    [("batch", 64, True), ("batch", 0, False), ("group", 64, False), ("none", 64, False)],
)
def test_it_is_on_where_there_is_batch_norm(
    tiny_config: MakeConfig, norm: Any, num_images: int, estimates: bool
) -> None:
    ema = EMAConfig(half_life_images=50, statistics_images=num_images)
    trainer = Trainer(tiny_config("ae", ema=ema, model={"network": replace(NORM, norm=norm)}))
    assert (trainer.state.statistics is not None) == estimates


def test_samples_of_a_young_generator_vary(tiny_config: MakeConfig) -> None:
    """After few steps, averaged running statistics are still those of the start, and all samples look the same."""
    varies = {}
    for num_images in (0, 128):
        ema = EMAConfig(half_life_images=2_000, ramp_up=0.0, statistics_images=num_images)
        model = {"generator": GeneratorConfig(16, 32)}
        trainer = Trainer(tiny_config("dcgan", run=f"{tiny_config().run}_{num_images}", ema=ema, model=model))
        trainer.fit()
        with torch.no_grad():
            samples = trainer.state.prepare_inference().decode(torch.randn(64, 6), {})
        varies[num_images] = samples.var(0).mean().item()
    assert varies[128] > 100 * varies[0]


def test_every_family_with_batch_norm_can_be_estimated() -> None:
    for name in FAMILIES:
        family = tiny_family(name).eval()
        if batch_norms(family.networks):
            alone([batch(name, 0)]).estimate(family)
