"""DFC-VAE: the deep feature consistent VAE (Hou et al. 2017), with facenet's three nets or those of the other families.

Reconstructions are compared in the layers of a frozen feature net, beside or instead of pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.vae import VAE, VAEConfig, VariationalNetwork
from facegen.losses.terms import Term
from facegen.losses.vae import Reduction
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.dfc import DFCDecoder, DFCEncoder, DFCNetConfig
from facegen.option_values import refuse_unused
from facegen.perceptual.feature_net import FeatureNet, Frozen
from facegen.perceptual.loading import load_feature_net
from facegen.perceptual.loss import FeatureReduction, perceptual_error
from facegen.perceptual.options import FeatureNetConfig
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset


@dataclass
class DFCVAEConfig(VAEConfig):
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
    features: FeatureNetConfig = field(default_factory=FeatureNetConfig)
    """The frozen feature net."""
    architecture: Literal["facenet", "conv"] = "facenet"
    """``facenet``: the reference's nets, network. ``conv``: those of the other autoencoders, conv."""
    network: DFCNetConfig = field(default_factory=DFCNetConfig)  # type: ignore[assignment]
    """Encoder and decoder of the architecture facenet."""
    conv: ConvNetConfig = field(default_factory=ConvNetConfig)
    """Encoder and decoder of the architecture conv; with ``shortcut linear`` they can start from ``--init pca``."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        unused = {"facenet": ("conv",), "conv": ("network", "wide_tail")}[self.architecture]
        refuse_unused(self, unused, f"with architecture {self.architecture}")
        for name in ("mse_weight", "perceptual_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}.")
        if not self.mse_weight and not self.perceptual_weight:
            raise ValueError("mse_weight and perceptual_weight must not both be 0: nothing would be reconstructed.")
        if not self.perceptual_weight:
            refuse_unused(self, ("features", "perceptual_reduction"), "with perceptual_weight 0")
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


class DFCVAE(VAE):
    """Deep feature consistent VAE: reconstructions are compared by the features of a frozen net."""

    # The file's content is checked against ``feature_sha256``.
    file_options = ("features.weights",)
    config: DFCVAEConfig
    feature_sha256: Tensor

    def __init__(self, config: DFCVAEConfig, image: ImageShape) -> None:
        """Builds the network; the feature net is loaded when training starts, and inference needs none."""
        super().__init__(config, image)
        self._frozen = Frozen()
        # In checkpoints, so that a run never resumes with another feature net.
        self.register_buffer("feature_sha256", torch.zeros(32, dtype=torch.uint8))

    @property
    def pixel_weight(self) -> float:
        """Weight of the pixel error in the objective."""
        return self.config.mse_weight

    @property
    def has_likelihood(self) -> bool:
        """Only without the feature error."""
        return not self.config.perceptual_weight

    @property
    def frozen_networks(self) -> list[nn.Module]:  # type: ignore[override]
        """The feature net, once it is loaded."""
        return [] if self._frozen.net is None else [self._frozen.net]

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

    def prepare(self, dataset: Dataset, device: torch.device) -> None:
        """Loads the feature net.

        Raises:
            UserError: Weights that are not available, or a net that does not fit the images.
        """
        if not self.config.perceptual_weight:
            return
        net = load_feature_net(self.config.features, self.image.channels, device)
        try:
            with torch.no_grad():
                net(torch.zeros(1, *self.image, device=device))
        except RuntimeError as error:
            raise UserError(
                f"images of {self.image.height}x{self.image.width} are too small for layer "
                f"{net.description.layers[-1]} of {net.description.name} ({' '.join(str(error).split())[:120]}); "
                "choose earlier --model.features.layers or a larger --model.features.input_size."
            ) from None
        self._frozen.net = net

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """mse_weight * pixel error + warm-up * kld_weight * KL + perceptual_weight * feature error."""
        config = self.config
        reconstructions, mu, logvar = self.forward_as_trained(networks, batch)
        objective = self.objective(batch, reconstructions, mu, logvar)
        if config.perceptual_weight:
            perceptual = self.perceptual(batch.images, reconstructions)
            objective.terms["perceptual"] = Term(perceptual, config.perceptual_weight)
        return TurnLosses.of_terms(*objective)

    def perceptual(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """The feature error: weighted sum over layers, mean over images N x C x H x W; a scalar.

        Raises:
            UserError: The feature net's weights are not those that the run started with.
        """
        net = self._feature_net(images.device)
        errors = perceptual_error(net, images, reconstructions, self.config.perceptual_reduction)
        weighted = [weight * error for weight, error in zip(net.description.layer_weights, errors, strict=True)]
        return torch.stack(weighted).sum(0).mean()

    def _feature_net(self, device: torch.device) -> FeatureNet:
        frozen = self._frozen
        if frozen.net is None:
            frozen.net = load_feature_net(self.config.features, self.image.channels, device)
        if not frozen.is_checked:
            sha256 = frozen.net.description.sha256
            started_with = bytes(self.feature_sha256.tolist()).hex()
            if self.feature_sha256.any() and started_with != sha256:
                raise UserError(
                    f"this run started with feature net weights of sha256 {started_with}, but those of "
                    f"{frozen.net.description.name} have {sha256}; give the original weights, or another --run."
                )
            self.feature_sha256.copy_(torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8))
            frozen.is_checked = True
        return frozen.net


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
