"""DFC-VAE: the deep feature consistent VAE (Hou et al. 2017), with facenet's three nets or those of the other families.

Reconstructions are compared in the layers of a frozen feature net, beside or instead of pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.feature_error import FeatureError, FeatureErrorConfig
from facegen.families.vae import VAE, VAEConfig, VariationalNetwork
from facegen.losses.terms import Term
from facegen.losses.vae import Reduction
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.dfc import DFCDecoder, DFCEncoder, DFCNetConfig
from facegen.option_values import refuse_unused
from facegen.perceptual.loss import FeatureReduction


@dataclass
class DFCVAEConfig(FeatureErrorConfig, VAEConfig):
    """Options of the DFC-VAE; the default weights are facenet's."""

    latent_size: int = 100
    """Number of latent dims."""
    kld_weight: float = 1.0
    """Weight of the KL divergence, alpha."""
    reconstruction: Reduction = "sum"
    """``sum``: squared error and KL both summed. ``mean``: per pixel value, and the KL divided by latent_size."""
    mse_weight: float = 0.0
    """Weight of the pixel error; 0 compares features only."""
    perceptual_weight: float = 0.5
    """Weight of the feature error, beta; 0 compares pixels only and needs no feature net."""
    perceptual_reduction: FeatureReduction = "sum"
    """Feature error of a layer: ``sum`` of squared differences (facenet), or half their ``mean`` (Hou et al.)."""
    architecture: Literal["facenet", "conv"] = "facenet"
    """``facenet``: the reference's nets, network. ``conv``: those of the other autoencoders, conv."""
    network: DFCNetConfig = field(default_factory=DFCNetConfig)  # type: ignore[assignment]
    """Encoder and decoder of the architecture facenet."""
    conv: ConvNetConfig = field(default_factory=ConvNetConfig)
    """Encoder and decoder of the architecture conv; with ``shortcut linear`` they can start from ``--init pca``."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        VAEConfig.__post_init__(self)
        unused = {"facenet": ("conv",), "conv": ("network", "wide_tail")}[self.architecture]
        refuse_unused(self, unused, f"with architecture {self.architecture}")
        if self.mse_weight < 0:
            raise ValueError(f"mse_weight must not be negative, not {self.mse_weight}.")
        if not self.mse_weight and not self.perceptual_weight:
            raise ValueError("mse_weight and perceptual_weight must not both be 0: nothing would be reconstructed.")
        self.check_feature_error()
        if self.decoder_sigma != "fixed":
            raise ValueError(f"decoder_sigma {self.decoder_sigma} needs a likelihood, and features have none.")


@dataclass
class DFCVAEResNetConfig(DFCVAEConfig):
    """Options of the DFC-VAE with residual blocks."""

    network: DFCNetConfig = field(default_factory=lambda: DFCNetConfig(num_residual_blocks=3))  # type: ignore[assignment]
    """Encoder and decoder."""


@dataclass
class DFCVAELargeConfig(DFCVAEConfig):
    """Options of the DFC-VAE for images of 128 pixels."""

    wide_tail: bool = False
    """Give the stage at half the image's size the channels of the stage before it, instead of the reference's 3."""
    network: DFCNetConfig = field(  # type: ignore[assignment]
        default_factory=lambda: DFCNetConfig(widths=[32, 64, 128, 256, 512], decoder_widths=[256, 128, 64, 32, 3])
    )
    """Encoder and decoder."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if self.wide_tail and len(self.network.decoder_widths) < 2:
            raise ValueError(f"wide_tail needs at least two decoder_widths, not {self.network.decoder_widths}.")


class DFCVAE(FeatureError, VAE):
    """Deep feature consistent VAE: reconstructions are compared by the features of a frozen net."""

    config: DFCVAEConfig

    def __init__(self, config: DFCVAEConfig, image: ImageShape) -> None:
        """Builds the network."""
        super().__init__(config, image)
        self.add_feature_net()

    @property
    def pixel_weight(self) -> float:
        """Weight of the pixel error in the objective."""
        return self.config.mse_weight

    @property
    def has_likelihood(self) -> bool:
        """Only without the feature error."""
        return not self.config.perceptual_weight

    def make_network(self) -> nn.Module:
        """Builds encoder and decoder of the chosen architecture."""
        if self.config.architecture == "conv":
            return VariationalNetwork(*self.conv_halves(self.config.conv))
        latent_size, network = self.config.latent_size, self.network_config()
        return VariationalNetwork(
            DFCEncoder(self.image, 2 * latent_size, network), DFCDecoder(self.image, latent_size, network)
        )

    def network_config(self) -> DFCNetConfig:
        """Options of facenet's encoder and decoder."""
        return self.config.network

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """mse_weight * pixel error + warm-up * kld_weight * KL + perceptual_weight * feature error."""
        config = self.config
        reconstructions, mu, logvar = self.forward_as_trained(networks, batch)
        objective = self.objective(batch, reconstructions, mu, logvar)
        if config.perceptual_weight:
            perceptual = self.perceptual(batch.images, reconstructions)
            objective.terms["perceptual"] = Term(perceptual, config.perceptual_weight)
        return TurnLosses.of_terms(*objective)


class DFCVAEResNet(DFCVAE):
    """Deep feature consistent VAE with residual blocks after each change of size."""


class DFCVAELarge(DFCVAE):
    """Deep feature consistent VAE with one more stage, for images of 128 pixels."""

    config: DFCVAELargeConfig

    def network_config(self) -> DFCNetConfig:
        """Options of facenet's encoder and decoder, with the wide tail if chosen."""
        network = self.config.network
        if not self.config.wide_tail:
            return network
        widths = network.decoder_widths
        return replace(network, decoder_widths=[*widths[:-1], widths[-2]])
