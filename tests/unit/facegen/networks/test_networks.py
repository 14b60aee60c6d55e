"""Shapes and parameter counts of the convolutional encoder and decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facegen.config import parse_args
from facegen.families import build
from facegen.families.vae import VAEConfig
from facegen.networks.conv import ConvDecoder, ConvEncoder, ResidualBlock
from facegen.networks.conv_config import ConvNetConfig, ImageShape, feature_shape


def shape_chain(network: nn.Module, inputs: torch.Tensor) -> list[tuple[int, ...]]:
    """Shapes, without the batch, after each convolution."""
    shapes: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape[1:])))
    network(inputs)
    return shapes


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel_size", [3, 4])
@pytest.mark.parametrize("side", [64, 128])
def test_shapes_halve_and_double(side: int, kernel_size: int, channels: int) -> None:
    image, config = ImageShape(channels, side, side), ConvNetConfig(widths=[4, 6, 8, 10], kernel_size=kernel_size)
    encoder, decoder = ConvEncoder(image, 7, config), ConvDecoder(image, 5, config)
    down = [(width, side >> level, side >> level) for level, width in enumerate([4, 6, 8, 10], start=1)]
    assert shape_chain(encoder, torch.zeros(2, *image)) == down
    assert shape_chain(decoder, torch.zeros(2, 5)) == [*reversed(down[:-1]), (channels, side, side)]
    assert encoder(torch.zeros(2, *image)).shape == (2, 7)


def test_oblong_images() -> None:
    image, config = ImageShape(3, 32, 16), ConvNetConfig(widths=[4, 6])
    assert ConvDecoder(image, 5, config)(torch.zeros(2, 5)).shape == (2, 3, 32, 16)
    assert feature_shape(image, config) == (6, 8, 4)


def test_the_keras_preset_has_the_references_parameters() -> None:
    config = parse_args(["vae", "--config", "vae_celeba_128_keras", "--data", "d", "--run", "r"])
    family = build("vae", config.model, ImageShape(3, 128, 128))
    assert sum(parameter.numel() for parameter in family.parameters()) == 2_649_299
    # In [0, 1] pixels the reference's weight is 2.4576; a squared error on [-1, 1] is four times as large.
    assert family.decoder_variance == pytest.approx(4 * 2.4576)


def test_sides_that_cannot_be_halved_are_named() -> None:
    with pytest.raises(ValueError, match="36x64 cannot be halved 3 times.*multiples of 8"):
        ConvEncoder(ImageShape(3, 36, 64), 5, ConvNetConfig(widths=[4, 4, 4]))
    with pytest.raises(ValueError, match="64x50 cannot be halved"):
        ConvDecoder(ImageShape(3, 64, 50), 5, ConvNetConfig(widths=[4, 4, 4]))


@pytest.mark.parametrize(("output", "low", "high"), [("tanh", -1, 1), ("sigmoid", -1, 1), ("linear", -1e9, 1e9)])
def test_output_range(output: str, low: float, high: float) -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(ImageShape(3, 16, 16), 5, ConvNetConfig(widths=[4, 8], norm="none", output=output))  # type: ignore[arg-type]
    images = decoder(1e4 * torch.randn(4, 5))
    assert low <= images.min() < -0.9
    assert 0.9 < images.max() <= high
    if output == "linear":
        assert images.abs().max() > 1


def test_the_last_convolution_carries_no_norm_and_no_dropout() -> None:
    config = ConvNetConfig(widths=[4, 8], dropout=0.5)
    stages = list(ConvDecoder(ImageShape(3, 16, 16), 5, config).stages)
    assert [type(layer).__name__ for layer in stages] == [
        *("ConvTranspose2d", "BatchNorm2d", "LeakyReLU", "Dropout"),
        "ConvTranspose2d",
    ]


@pytest.mark.parametrize(
    "options", [{"widths": []}, {"widths": [4, 0]}, {"kernel_size": 5}, {"dropout": 1.0}, {"residual_blocks": -1}]
)
def test_impossible_options(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ConvNetConfig(**options)


def test_unused_options_keep_parameter_names_and_order() -> None:
    image, config = ImageShape(3, 16, 16), ConvNetConfig(widths=[4, 8])
    encoder, decoder = ConvEncoder(image, 5, config), ConvDecoder(image, 5, config)
    assert [name for name, _ in encoder.named_parameters()] == [
        *("stages.0.weight", "stages.0.bias", "stages.1.weight", "stages.1.bias"),
        *("stages.3.weight", "stages.3.bias", "stages.4.weight", "stages.4.bias"),
        *("head.weight", "head.bias"),
    ]
    assert [name for name, _ in decoder.named_parameters()] == [
        *("head.weight", "head.bias", "stages.0.weight", "stages.0.bias", "stages.1.weight", "stages.1.bias"),
        *("stages.3.weight", "stages.3.bias"),
    ]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_residual_blocks_start_as_the_identity(norm: str) -> None:
    image, options = ImageShape(3, 16, 16), {"widths": [4, 8], "norm": norm}
    plain, deep = (ConvNetConfig(**options, residual_blocks=num) for num in (0, 2))  # type: ignore[arg-type]
    for network_class, size, inputs in ((ConvEncoder, 5, torch.randn(6, *image)), (ConvDecoder, 5, torch.randn(6, 5))):
        shallow, deeper = network_class(image, size, plain), network_class(image, size, deep)
        blocks = [layer for layer in deeper.stages if isinstance(layer, ResidualBlock)]
        assert len(blocks) == 4
        # The same weights except for the blocks, which shift the numbers in the other names.
        others = [layer for layer in deeper.stages if not isinstance(layer, ResidualBlock)]
        for layer, other in zip(shallow.stages, others, strict=True):
            layer.load_state_dict(other.state_dict())
        shallow.head.load_state_dict(deeper.head.state_dict())
        torch.testing.assert_close(deeper(inputs), shallow(inputs))
        deeper(inputs).square().sum().backward()
        gradients = [parameter.grad for block in blocks for parameter in block.layers[-1].parameters()]
        assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_residual_blocks_are_mirrored() -> None:
    image, config = ImageShape(3, 16, 16), ConvNetConfig(widths=[4, 8], residual_blocks=1)
    encoder = shape_chain(ConvEncoder(image, 5, config), torch.zeros(2, *image))
    decoder = shape_chain(ConvDecoder(image, 5, config), torch.zeros(2, 5))
    assert encoder == [(4, 8, 8)] * 3 + [(8, 4, 4)] * 3
    assert decoder == [(8, 4, 4)] * 2 + [(4, 8, 8)] * 3 + [(3, 16, 16)]


@pytest.mark.parametrize("side", [64, 128])
def test_a_conv_bottleneck_keeps_latents_in_place(side: int) -> None:
    torch.manual_seed(0)
    image, network = ImageShape(3, side, side), ConvNetConfig([4, 6, 8, 10], norm="none", bottleneck="conv")
    map_side = side // 16
    latent_size = 3 * map_side**2
    family = build("vae", VAEConfig(latent_size=latent_size, network=network), image).eval()
    images = torch.randn(2, *image)
    mu, logvar = family.posterior(images, {})
    assert mu.shape == logvar.shape == (2, latent_size)  # type: ignore[union-attr]
    assert family.decode(mu, {}).shape == images.shape
    # A change in the image's last corner reaches the last position of every channel, of mu and of logvar.
    images[:, :, -4:, -4:] += 1
    for before, after in zip((mu, logvar), family.posterior(images, {}), strict=True):
        changed = (before != after).reshape(2, 3, map_side, map_side)  # type: ignore[union-attr]
        assert changed[:, :, -1, -1].all() and not changed[:, :, 0, 0].any()
    # And a channel's first latent changes the first corner of the decoded image.
    moved = mu.clone()
    moved[:, map_side**2] += 1
    changed = family.decode(moved, {}) != family.decode(mu, {})
    assert changed[..., :16, :16].any() and not changed[..., -16:, -16:].any()


def test_a_conv_bottleneck_stays_small() -> None:
    network = ConvNetConfig(bottleneck="conv")
    family = build("vae", VAEConfig(latent_size=1024, network=network), ImageShape(3, 64, 64))
    convolutions = 2 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) * 16 + (32 + 64 + 128 + 256) + (128 + 64 + 32 + 3)
    norms = 2 * (32 + 64 + 128 + 256) + 2 * (128 + 64 + 32)
    heads = (256 + 1) * 2 * 64 + (64 + 1) * 256
    assert sum(parameter.numel() for parameter in family.parameters()) == convolutions + norms + heads


@pytest.mark.parametrize(("latent_size", "nearest"), [(100, "96 or 112"), (7, "16"), (200, "192 or 208")])
def test_latents_that_do_not_fill_a_conv_bottleneck(latent_size: int, nearest: str) -> None:
    config = VAEConfig(latent_size=latent_size, network=ConvNetConfig(bottleneck="conv"))
    with pytest.raises(ValueError, match=f"multiple of 16, not {latent_size}: use {nearest}, or bottleneck linear"):
        build("vae", config, ImageShape(3, 64, 64))
