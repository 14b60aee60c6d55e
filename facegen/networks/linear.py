"""Networks whose encoder and decoder start from principal components, by the shortcut around each."""

from __future__ import annotations

from torch import nn

from facegen.networks.components import ComponentDecoder
from facegen.networks.conv import ConvDecoder, ConvEncoder
from facegen.networks.patches import Grid, PrincipalComponents


def linear_start(network: nn.Module) -> tuple[Grid, int] | None:
    """What ``start_from`` needs: the patches and how many of their components; None without a shortcut."""
    encoder, decoder = network.encoder, network.decoder
    assert isinstance(decoder, nn.Module)
    return decoder_start(decoder) if isinstance(encoder, ConvEncoder) else None


def decoder_start(decoder: nn.Module) -> tuple[Grid, int] | None:
    """The same for a decoder alone."""
    if not isinstance(decoder, ConvDecoder) or decoder.shortcut is None:
        return None
    grid = decoder.shortcut.grid
    linear = decoder.shortcut.basis if isinstance(decoder.shortcut, ComponentDecoder) else decoder.shortcut
    return grid, min(linear.num_latents, grid.num_values)


def start_from(network: nn.Module, components: PrincipalComponents, noise_variance: float) -> None:
    """Starts a network's encoder and decoder from principal components."""
    for half in (network.encoder, network.decoder):
        assert isinstance(half, ConvEncoder | ConvDecoder)
        half.start_from(components, noise_variance)
