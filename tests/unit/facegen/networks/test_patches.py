"""The linear shortcut: patches, and the best linear autoencoder and VAE in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facegen.losses.vae import kl_per_dim
from facegen.networks.conv import ConvDecoder, ConvEncoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.patches import Grid, PatchDecoder, PatchEncoder, PrincipalComponents

GRIDS = [Grid(3, 1, 1, 8, 8), Grid(3, 2, 2, 4, 4), Grid(1, 2, 4, 4, 2)]


def images_for(grid: Grid, num: int = 300, seed: int = 0) -> Tensor:
    """Images whose pixels depend on each other, so that their components differ in variance."""
    generator = torch.Generator().manual_seed(seed)
    size = grid.channels * grid.rows * grid.height * grid.columns * grid.width
    mixing = torch.randn(size, size, generator=generator) / size
    images = 0.1 + torch.randn(num, size, generator=generator) @ mixing
    return images.reshape(num, grid.channels, grid.rows * grid.height, grid.columns * grid.width)


def exact(images: Tensor, grid: Grid, num: int) -> PrincipalComponents:
    """Components by an eigendecomposition of the whole covariance."""
    mean = images.mean(0)
    columns = grid.split(images - mean).permute(0, 2, 3, 1).reshape(-1, grid.num_values).double()
    variances, directions = torch.linalg.eigh(columns.T @ columns / len(columns))
    variances, directions = variances.flip(0), directions.flip(1)
    residual = float(variances[num:].mean()) if num < grid.num_values else 0.0
    return PrincipalComponents(mean, directions[:, :num].float(), variances[:num].float(), residual)


@pytest.mark.parametrize("grid", GRIDS)
def test_patches_are_pieces_of_the_image(grid: Grid) -> None:
    images = images_for(grid, 2)
    patches = grid.split(images)
    torch.testing.assert_close(grid.join(patches), images, rtol=0, atol=0)
    last = images[:, :, -grid.height :, -grid.width :].flatten(1)
    torch.testing.assert_close(patches[:, :, -1, -1], last, rtol=0, atol=0)


@pytest.mark.parametrize("grid", GRIDS)
def test_an_autoencoder_starts_as_principal_component_analysis(grid: Grid) -> None:
    images = images_for(grid)
    components = exact(images, grid, 5)
    encoder, decoder = PatchEncoder(grid, 5), PatchDecoder(grid, 5)
    encoder.start_from(components, 0.0, has_logvar=False)
    decoder.start_from(components, 0.0)
    latents = encoder(images)
    torch.testing.assert_close(latents.square().mean((0, 2, 3)), torch.ones(5), rtol=1e-3, atol=1e-3)
    left_out = components.residual * (grid.num_values - 5) / grid.num_values
    assert (decoder(latents) - images).square().mean().item() == pytest.approx(left_out, rel=1e-3)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_vae_starts_where_its_objective_has_no_slope(grid: Grid) -> None:
    images, channels = images_for(grid), 6
    components = exact(images, grid, channels)
    # Between the second and the third variance: two directions are used, the others are better left to the prior.
    noise_variance = float(components.variances[1:3].mean())
    encoder, decoder = PatchEncoder(grid, 2 * channels), PatchDecoder(grid, channels)
    encoder.start_from(components, noise_variance, has_logvar=True)
    decoder.start_from(components, noise_variance)

    def objective() -> Tensor:
        """1/2 SSE + noise_variance * KL for a patch, its expectation over the noise written out."""
        mu, logvar = encoder(images).chunk(2, dim=1)
        error = (images - decoder(mu)).square().sum((1, 2, 3)).mean()
        norms = (decoder.gain * decoder.weight).square().sum(0)[:, None, None]
        error = error + (logvar.exp() * norms).sum((1, 2, 3)).mean()
        kl = kl_per_dim(mu.flatten(1), logvar.flatten(1)).sum(1).mean()
        return 0.5 * error + noise_variance * kl

    start = objective()
    start.backward()
    for parameter in (*encoder.parameters(), *decoder.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-4 * start
    with torch.no_grad():
        for seed in range(5):
            torch.manual_seed(seed)
            weights = encoder.weight.clone(), decoder.weight.clone()
            encoder.weight += 0.05 * torch.randn_like(encoder.weight)
            decoder.weight += 0.05 * torch.randn_like(decoder.weight)
            assert objective() > start
            encoder.weight.copy_(weights[0])
            decoder.weight.copy_(weights[1])
    mu, logvar = encoder(images).chunk(2, dim=1)
    torch.testing.assert_close(mu[:, 2:], torch.zeros_like(mu[:, 2:]))
    torch.testing.assert_close(logvar[:, 2:], torch.zeros_like(logvar[:, 2:]))


def test_more_latents_than_values_leave_the_others_at_the_prior() -> None:
    grid = Grid(1, 2, 2, 2, 2)
    images = images_for(grid)
    components = exact(images, grid, 4)
    encoder, decoder = PatchEncoder(grid, 12), PatchDecoder(grid, 6)
    encoder.start_from(components, 1e-6, has_logvar=True)
    decoder.start_from(components, 1e-6)
    mu, logvar = encoder(images).chunk(2, dim=1)
    assert not mu[:, 4:].any()
    assert not logvar[:, 4:].any()
    torch.testing.assert_close(decoder(mu), images, rtol=0, atol=1e-2)


NETWORKS = [
    {"patch": 2, "upsample": "pixel_shuffle", "norm": "group", "residual_blocks": 1},
    {"patch": 4, "upsample": "nearest", "norm": "none", "residual_blocks": [0, 2]},
    {"upsample": "nearest", "norm": "batch", "attention_side": 8},
    {"upsample": "transposed", "norm": "none", "bottleneck": "conv"},
    {"patch": 2, "upsample": "pixel_shuffle", "norm": "group", "bottleneck": "conv", "attention_side": 16},
]


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_whole_network_starts_at_its_shortcut(options: dict[str, object], channels: int) -> None:
    image, latent_size = ImageShape(channels, 16, 16), 64
    config = ConvNetConfig(widths=[8, 16], output="linear", shortcut="linear", **options)  # type: ignore[arg-type]
    encoder, decoder = ConvEncoder(image, 2 * latent_size, config, 2), ConvDecoder(image, latent_size, config)
    assert encoder.shortcut is not None
    assert decoder.shortcut is not None
    grid = decoder.shortcut.grid
    images = images_for(grid)
    components = exact(images, grid, min(latent_size, grid.num_values))
    encoder.start_from(components, 1e-4)
    decoder.start_from(components, 1e-4)
    mu, logvar = encoder(images).chunk(2, dim=1)
    assert mu.shape == logvar.shape == (len(images), latent_size)
    places = mu.reshape(len(images), -1, grid.rows, grid.columns)
    torch.testing.assert_close(decoder(mu), decoder.shortcut(places), rtol=0, atol=1e-6)
    loss = (decoder(mu) - images).square().mean()
    loss.backward()
    # The layers that start at zero learn first; the others follow.
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in decoder.stages.parameters())


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        ({"shortcut": "linear"}, "needs output linear"),
        ({"patch": 3}, "power of 2"),
        ({"residual_blocks": [1]}, "or 4 as widths has"),
        ({"residual_blocks": [1, 1, -1, 1]}, "must be from 0"),
        ({"attention_side": -1}, "attention_side"),
    ],
)
def test_impossible_networks(options: dict[str, object], finding: str) -> None:
    with pytest.raises(ValueError, match=finding):
        ConvNetConfig(**options)  # type: ignore[arg-type]
