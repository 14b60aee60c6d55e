"""``--init pca``: training starts from the best linear model, once, and resumes like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from facegen.families.vae import MIN_VARIANCE, VAE
from facegen.latents import image_components
from facegen.losses.vae import beta_eff
from facegen.networks.components import ComponentsConfig
from facegen.networks.conv_config import ConvNetConfig
from facegen.networks.dfc import DFCNetConfig
from facegen.options import EMAConfig, TrainConfig
from facegen.pixels import to_float
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.loading.loader import evaluation_batches

LINEAR = ConvNetConfig(widths=[8, 16], norm="none", output="linear", shortcut="linear", upsample="nearest")

COMPONENTS = ConvNetConfig(
    widths=[], output="linear", shortcut="linear", components=ComponentsConfig(num=16, mlp_blocks=1, mlp_width=8)
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "image_components"


def training_images(trainer: Trainer, flip: bool = True) -> torch.Tensor:
    images = torch.cat([to_float(batch.images) for batch in evaluation_batches(trainer.dataset, "train", 64)])
    return torch.cat([images, images.flip(3)]) if flip else images


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


CONV: dict[str, Any] = {"architecture": "conv", "network": DFCNetConfig(), "conv": LINEAR}
VAES: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {"network": LINEAR}),
    "beta_vae": ("beta_vae", {"network": LINEAR}),
    "mod_vae": ("mod_vae", {"network": LINEAR}),
    "cvae": ("cvae", {"network": LINEAR, "condition_size": 3}),
    "cvae_decoder": ("cvae", {"network": LINEAR, "conditioning": "decoder"}),
    "cvae_components": ("cvae", {"network": COMPONENTS, "conditioning": "decoder"}),
    "vae_gan": ("vae_gan", {"network": LINEAR, "judges_samples": False}),
    "vae_gan_components": ("vae_gan", {"network": COMPONENTS, "adaptive_weight": True}),
    "vae_gan_weighted": ("vae_gan", {"network": LINEAR, "pixel_weight": 3.0}),
    "dfc_vae": ("dfc_vae", {**CONV, "mse_weight": 0.5}),
    "dfc_vae_features": ("dfc_vae", {**CONV, "mse_weight": 0.0}),
    "dfc_vae_resnet": ("dfc_vae_resnet", {**CONV, "network": DFCNetConfig(num_residual_blocks=3)}),
    "without_kl": ("vae", {"network": LINEAR, "kld_weight": 0.0}),
}


@pytest.mark.parametrize("case", VAES)
def test_a_vae_starts_as_the_best_linear_one(tiny_config: Callable[..., TrainConfig], case: str) -> None:
    family, model = VAES[case]
    trainer = Trainer(tiny_config(family, model=model, init="pca"))
    vae = cast(VAE, trainer.family)
    flip = trainer.config.augment.flip
    images = training_images(trainer, flip)
    flat = (images - images.mean(0)).flatten(1).double()
    _, singular, directions = torch.linalg.svd(flat, full_matrices=False)
    variances = singular.square() / len(images)
    size, config = vae.config.latent_size, vae.config
    if vae.pixel_weight:
        b = beta_eff(config.kld_weight / vae.pixel_weight, config.reconstruction, size, flat.shape[1])
    else:
        b = float(variances[size:].sum()) / (flat.shape[1] - size)
    b = max(b, MIN_VARIANCE)
    kept, along = variances[:size], directions[:size]
    shrunk = (1 - b / kept).clamp(min=0)
    expected = images.mean(0) + (flat @ along.T * shrunk @ along).view_as(images)
    # A degree, of which the networks have learned nothing yet.
    labels = {"smile": torch.linspace(-1, 1, len(images)).masked_fill(torch.arange(len(images)) % 3 == 0, torch.nan)}
    with torch.no_grad():
        mu, logvar = vae.posterior(images, labels)
        reconstructions = vae.decode(mu, labels)
    torch.testing.assert_close(reconstructions, expected.float(), rtol=1e-2, atol=2e-3)
    assert logvar is not None
    torch.testing.assert_close(logvar.mean(0).exp(), (b / kept).clamp(max=1).float(), rtol=2e-2, atol=1e-4)
    torch.testing.assert_close(mu.var(0, unbiased=False), shrunk.float(), rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("case", ["cvae", "cvae_components", "vae_gan", "vae_gan_components", "dfc_vae"])
def test_training_leaves_the_start(tiny_config: Callable[..., TrainConfig], case: str) -> None:
    family, model = VAES[case]
    trainer = Trainer(tiny_config(family, model=model, init="pca"))
    network = trainer.family.networks["autoencoder"]
    before = {name: value.detach().clone() for name, value in network.named_parameters() if value.requires_grad}
    trainer.fit()
    for name, value in before.items():
        learned = network.get_parameter(name)
        assert learned.isfinite().all() and not torch.equal(learned, value), name


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
    monkeypatch.setattr(image_components, "principal_components", lambda *args, **kwargs: pytest.fail("computed again"))
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


@pytest.mark.parametrize(
    ("family", "remedy"),
    [
        ("vae", "set --model.network.shortcut linear --model.network.output linear, or --init random"),
        ("cvae", "set --model.network.shortcut linear --model.network.output linear, or --init random"),
        (
            "dfc_vae",
            "set --model.architecture conv --model.conv.shortcut linear --model.conv.output linear, or --init random",
        ),
        (
            "dcgan",
            "set --model.architecture conv --model.network.shortcut linear --model.network.output linear, or --init "
            "random",
        ),
        ("face_cnn", "set --init random"),
    ],
)
def test_networks_without_a_shortcut_are_refused(
    tiny_config: Callable[..., TrainConfig], family: str, remedy: str
) -> None:
    with pytest.raises(UserError, match=f"which this {family} lacks; {remedy}.$"):
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
