"""``--init pca``: training starts from the best linear model, once, and resumes like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facegen.networks.components import ComponentsConfig
from facegen.networks.conv import ConvNetConfig
from facegen.options import EMAConfig, TrainConfig
from facegen.pixels import to_float
from facegen.training import linear_start
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.loading.loader import evaluation_batches

LINEAR = ConvNetConfig(widths=[8, 16], norm="none", output="linear", shortcut="linear", upsample="nearest")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "image_components"


def training_images(trainer: Trainer) -> torch.Tensor:
    images = torch.cat([to_float(batch.images) for batch in evaluation_batches(trainer.dataset, "train", 64)])
    return torch.cat([images, images.flip(3)])


def test_an_autoencoder_starts_with_the_error_of_its_components(tiny_config: Callable[..., TrainConfig]) -> None:
    trainer = Trainer(tiny_config("ae", model={"network": LINEAR, "latent_size": 12}, init="pca"))
    images = training_images(trainer)
    flat = (images - images.mean(0)).flatten(1)
    left_out = torch.linalg.svdvals(flat)[12:].square().sum() / images.numel()
    with torch.no_grad():
        latents = trainer.family.posterior(images, {})[0]
        error = (trainer.family.decode(latents, {}) - images).square().mean()
    torch.testing.assert_close(error, left_out, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(latents.var(0, unbiased=False), torch.ones(12), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("family", ["vae", "beta_vae", "vae_gan", "mod_vae"])
def test_a_vae_starts_with_an_aggregated_posterior_of_variance_one(
    tiny_config: Callable[..., TrainConfig], family: str
) -> None:
    trainer = Trainer(tiny_config(family, model={"network": LINEAR}, init="pca"))
    with torch.no_grad():
        mu, logvar = trainer.family.posterior(training_images(trainer), {})
    assert logvar is not None
    aggregated = mu.var(0, unbiased=False) + logvar.exp().mean(0)
    torch.testing.assert_close(aggregated, torch.ones(mu.shape[1]), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("sigma", ["learned", "analytic"])
def test_a_decoder_variance_starts_at_what_the_components_leave_out(
    tiny_config: Callable[..., TrainConfig], sigma: str
) -> None:
    objective = {"decoder_sigma": sigma, "kld_weight": 1.0, "reconstruction": "sum"}
    trainer = Trainer(tiny_config("vae", model={"network": LINEAR, **objective}, init="pca"))
    images = training_images(trainer)
    latent_size = trainer.family.latent_size
    assert latent_size is not None
    spectrum = torch.linalg.svdvals((images - images.mean(0)).flatten(1)).square() / len(images)
    expected = float(spectrum[latent_size:].sum()) / (images[0].numel() - latent_size)
    assert trainer.family.decoder_variance == pytest.approx(expected, rel=1e-2)


def test_the_average_starts_there_too_and_components_are_computed_once(
    tiny_config: Callable[..., TrainConfig], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"model": {"network": LINEAR}, "init": "pca", "ema": EMAConfig(half_life_images=100)}
    trainer = Trainer(tiny_config("vae", **options))
    assert trainer.state.ema is not None
    for average, value in zip(trainer.state.ema.module.parameters(), trainer.family.parameters(), strict=True):
        assert torch.equal(average, value)
    assert len(list(cache.glob("*.safetensors"))) == 1
    monkeypatch.setattr(linear_start, "principal_components", lambda *args, **kwargs: pytest.fail("computed again"))
    again = Trainer(tiny_config("vae", **options | {"run": f"{trainer.run}_again"}))
    for value, other in zip(again.family.parameters(), trainer.family.parameters(), strict=True):
        assert torch.equal(value, other)


def test_a_damaged_cache_is_made_again(tiny_config: Callable[..., TrainConfig], cache: Path) -> None:
    options: dict[str, Any] = {"model": {"network": LINEAR}, "init": "pca"}
    first = Trainer(tiny_config("vae", **options))
    (path,) = cache.glob("*.safetensors")
    path.write_bytes(b"cut off")
    second = Trainer(tiny_config("vae", **options | {"run": f"{first.run}_again"}))
    for value, other in zip(first.family.parameters(), second.family.parameters(), strict=True):
        assert torch.equal(value, other)


def test_a_resumed_run_is_the_uninterrupted_one(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": {"network": LINEAR}, "init": "pca"}
    whole = Trainer(tiny_config("vae", max_steps=6, **options | {"run": str(tmp_path / "whole")}))
    whole.fit()
    Trainer(tiny_config("vae", max_steps=3, **options)).fit()
    resumed = Trainer(tiny_config("vae", max_steps=6, **options))
    resumed.fit()
    for value, other in zip(resumed.family.parameters(), whole.family.parameters(), strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("family", ["vae", "dcgan", "cvae", "dfc_vae"])
def test_networks_without_a_shortcut_are_refused(tiny_config: Callable[..., TrainConfig], family: str) -> None:
    with pytest.raises(UserError, match=f"this {family} lacks; set --model.network.shortcut linear"):
        Trainer(tiny_config(family, init="pca"))


def test_networks_over_components_are_refused_without_them(tiny_config: Callable[..., TrainConfig]) -> None:
    network = ConvNetConfig(widths=[], output="linear", shortcut="linear", components=ComponentsConfig(num=16))
    with pytest.raises(UserError, match="--init pca"):
        Trainer(tiny_config("vae", model={"network": network}))
    trainer = Trainer(tiny_config("vae", model={"network": network}, init="pca"))
    images = training_images(trainer)
    mu, _ = trainer.family.posterior(images, {})
    error = (trainer.family.decode(mu, {}) - images).square().mean()
    assert error < (images - images.mean(0)).square().mean()
