"""Shapes and parameter counts of the convolutional encoder and decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facegen.config import parse_args
from facegen.families import build
from facegen.networks.conv import ConvDecoder, ConvEncoder, ConvNetConfig, ImageShape, feature_shape


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
    config = parse_args(["vae", "--config", "vae_celeba_128", "--data", "d", "--run", "r"])
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


@pytest.mark.parametrize("options", [{"widths": []}, {"widths": [4, 0]}, {"kernel_size": 5}, {"dropout": 1.0}])
def test_impossible_options(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ConvNetConfig(**options)
