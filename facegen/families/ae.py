"""AE: the deterministic autoencoder, a baseline without KL and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.losses.vae import Reduction, reconstruction_error
from facegen.networks.conv import ConvDecoder, ConvEncoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.linear import linear_start, start_from
from facegen.networks.patches import Grid, PrincipalComponents


@dataclass
class AEConfig:
    """Options of the autoencoder."""

    latent_size: int = 128
    """Number of latent dims."""
    network: ConvNetConfig = field(default_factory=lambda: ConvNetConfig(widths=[64, 128, 256]))
    """Encoder and decoder; the baseline keeps three stages on purpose."""
    reconstruction: Reduction = "mean"
    """Squared error as the ``mean`` over an image's values, or their ``sum``."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, not {self.latent_size}.")


class AutoencoderNetwork(nn.Module):
    """Encoder and decoder in one forward, so that DDP sees every gradient."""

    def __init__(self, config: AEConfig, image: ImageShape) -> None:
        """Builds both halves for images of ``image``."""
        super().__init__()
        self.encoder = ConvEncoder(image, config.latent_size, config.network)
        self.decoder = ConvDecoder(image, config.latent_size, config.network)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructions of images, N x C x H x W."""
        return self.decoder(self.encoder(images))


class AE(Family):
    """Deterministic autoencoder; its latents have no prior, so it cannot sample."""

    turns = ("autoencoder",)
    can = frozenset({"encode", "decode"})

    def __init__(self, config: AEConfig, image: ImageShape) -> None:
        """Builds the network."""
        super().__init__(config, image)
        self.latent_size = config.latent_size
        self.networks = nn.ModuleDict({"autoencoder": AutoencoderNetwork(config, image)})

    def linear_start(self) -> tuple[Grid, int] | None:
        """Asks for as many components of a patch as its place has latents."""
        return linear_start(self.networks["autoencoder"])

    def start_from(self, components: PrincipalComponents) -> None:
        """Becomes the principal component analysis of the images: latents of variance 1."""
        start_from(self.networks["autoencoder"], components, noise_variance=0.0)

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Squared error of the reconstruction."""
        loss, mse = self.errors(batch.images, self.forward_as_trained(networks, batch))
        return TurnLosses(loss, {"loss": loss.detach(), "mse": mse})

    def errors(self, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, Tensor]:
        """The squared error as the config reduces it, and its mean over pixel values without a gradient; scalars."""
        loss = reconstruction_error(images, reconstructions, self.config.reconstruction).mean()
        return loss, reconstruction_error(images, reconstructions.detach(), "mean").mean()

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Tensor:
        """Reconstructions."""
        return networks["autoencoder"](batch.images)

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The code of each image; no variance."""
        return self.networks["autoencoder"].encoder(images), None  # type: ignore[union-attr,operator]

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Images of codes."""
        return self.networks["autoencoder"].decoder(latents)  # type: ignore[union-attr,operator]
