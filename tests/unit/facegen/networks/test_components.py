"""Networks over principal components: they start as the best linear model, and only the rest is trained."""

from __future__ import annotations

import pytest
import torch
from test_patches import GRIDS, exact, images_for

from facegen.losses.vae import kl_per_dim
from facegen.networks.components import ComponentDecoder, ComponentEncoder, ComponentsConfig
from facegen.networks.conv import ConvDecoder, ConvEncoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.patches import Grid

CONFIG = ComponentsConfig(num=8, mlp_blocks=1, mlp_width=16)


@pytest.mark.parametrize("grid", GRIDS)
def test_an_autoencoder_starts_as_principal_component_analysis(grid: Grid) -> None:
    images = images_for(grid)
    components = exact(images, grid, 8)
    encoder, decoder = ComponentEncoder(grid, 5, 1, CONFIG), ComponentDecoder(grid, 5, CONFIG)
    encoder.start_from(components, 0.0, has_logvar=False)
    decoder.start_from(components, 0.0)
    latents = encoder(images)
    torch.testing.assert_close(latents.square().mean((0, 2, 3)), torch.ones(5), rtol=1e-3, atol=1e-3)
    left_out = (components.variances[5:].sum() + components.residual * (grid.num_values - 8)) / grid.num_values
    assert (decoder(latents) - images).square().mean().item() == pytest.approx(float(left_out), rel=1e-3)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_vae_starts_where_its_objective_has_no_slope(grid: Grid) -> None:
    images = images_for(grid)
    components = exact(images, grid, 8)
    # Between the second and the third variance: two directions are used, the others are better left to the prior.
    noise_variance = float(components.variances[1:3].mean())
    encoder, decoder = ComponentEncoder(grid, 12, 2, CONFIG), ComponentDecoder(grid, 6, CONFIG)
    encoder.start_from(components, noise_variance, has_logvar=True)
    decoder.start_from(components, noise_variance)
    mu, logvar = encoder(images).chunk(2, dim=1)
    error = (images - decoder(mu)).square().sum((1, 2, 3)).mean()
    # The expectation over the noise, whose share of a component is that of its latent.
    noise = logvar.exp() * (decoder.scale.square() * components.variances[:6])[:, None, None]
    kl = kl_per_dim(mu.flatten(1), logvar.flatten(1)).sum(1).mean()
    objective = 0.5 * (error + noise.sum((1, 2, 3)).mean()) + noise_variance * kl
    objective.backward()
    for parameter in (encoder.scale, encoder.bias, decoder.scale):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-3 * objective.detach()


def test_the_components_stay_and_the_rest_learns() -> None:
    grid = GRIDS[0]
    image = ImageShape(3, 8, 8)
    parts = ComponentsConfig(num=150, mlp_blocks=1, mlp_width=64)
    config = ConvNetConfig(widths=[], output="linear", shortcut="linear", components=parts)
    encoder, decoder = ConvEncoder(image, 5, config), ConvDecoder(image, 5, config)
    images = images_for(grid)
    for half in (encoder, decoder):
        half.start_from(exact(images, grid, 150), 0.0)
    fixed = {name: value.clone() for name, value in decoder.state_dict().items() if "basis" in name}
    trained = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam([parameter for parameter in trained if parameter.requires_grad], lr=3e-3)
    # Four images can be learned by heart.
    before = (decoder(encoder(images[:4])) - images[:4]).square().mean().item()
    for _ in range(100):
        loss = (decoder(encoder(images[:4])) - images[:4]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * before
    for name, value in fixed.items():
        torch.testing.assert_close(decoder.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": []}, "shortcut linear"),
        ({"components": CONFIG}, "shortcut linear"),
        ({"widths": [], "shortcut": "linear", "output": "linear", "bottleneck": "conv"}, "needs widths"),
    ],
)
def test_impossible_networks_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvNetConfig(**options)
