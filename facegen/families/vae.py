"""VAE: the variational autoencoder (Kingma and Welling 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor, nn

from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.losses import (
    Reduction,
    beta_eff,
    kl_per_dim,
    kl_scale,
    reconstruction_error,
    reparameterize,
    warmup_factor,
)
from facegen.networks.conv import ConvDecoder, ConvEncoder, ConvNetConfig, ImageShape


@dataclass
class VAEConfig:
    """Options of the variational autoencoder."""

    latent_size: int = 128
    """Number of latent dims."""
    kld_weight: float = 0.01
    """Weight of the KL divergence."""
    reconstruction: Reduction = "mean"
    """``mean``: squared error per pixel value, and the KL divided by latent_size. ``sum``: both summed."""
    kld_warmup: Literal["none", "linear", "cyclical"] = "none"
    """How the KL weight rises to kld_weight."""
    kld_warmup_images: int = 0
    """Images over which it rises; needed by linear and cyclical."""
    free_bits: float = 0.0
    """Nats per dim below which the KL, averaged over a micro-batch, has no gradient (Kingma et al. 2016)."""
    network: ConvNetConfig = field(default_factory=ConvNetConfig)
    """Encoder and decoder."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, not {self.latent_size}.")
        if self.kld_weight < 0:
            raise ValueError(f"kld_weight must not be negative, not {self.kld_weight}.")
        if self.free_bits < 0:
            raise ValueError(f"free_bits must not be negative, not {self.free_bits}.")
        if self.kld_warmup_images < 0:
            raise ValueError(f"kld_warmup_images must not be negative, not {self.kld_warmup_images}.")
        if (self.kld_warmup == "none") != (self.kld_warmup_images == 0):
            raise ValueError("kld_warmup and kld_warmup_images go together: set both, or leave 'none' and 0.")


class Posterior(NamedTuple):
    """Reconstruction from a sampled latent, and the distribution it was sampled from."""

    reconstructions: Tensor
    mu: Tensor
    logvar: Tensor


class VariationalNetwork(nn.Module):
    """Encoder, sampling and decoder under one forward, so that DDP sees every gradient."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """Takes an encoder to mean and log variance, N x 2L, and a decoder of N x L."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each N x L."""
        mu, logvar = self.encoder(images).float().chunk(2, dim=1)
        return mu, logvar

    def forward(self, images: Tensor, noise: Tensor) -> Posterior:
        """Encodes N x C x H x W, samples with standard normal noise N x L, and decodes."""
        mu, logvar = self.posterior(images)
        return Posterior(self.decoder(reparameterize(mu, logvar, noise)), mu, logvar)


class VAE(Family):
    """Variational autoencoder with a standard normal prior."""

    turns = ("autoencoder",)
    can = frozenset({"encode", "posterior", "decode", "sample"})

    def __init__(self, config: VAEConfig, image: ImageShape) -> None:
        """Builds the network."""
        super().__init__(config, image)
        self.latent_size = config.latent_size
        self.decoder_variance = (
            beta_eff(config.kld_weight, config.reconstruction, config.latent_size, image.num_pixels) or None
        )
        self.networks = nn.ModuleDict({"autoencoder": self.make_network()})

    def make_network(self) -> nn.Module:
        """The network that is trained, for ``self.config`` and ``self.image``."""
        config, image = self.config, self.image
        return VariationalNetwork(
            ConvEncoder(image, 2 * config.latent_size, config.network),
            ConvDecoder(image, config.latent_size, config.network),
        )

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Reconstruction + warm-up * kld_weight * KL."""
        noise = batch.random.normal("posterior", self.config.latent_size)
        return self.objective(batch, *networks["autoencoder"](batch.images, noise))

    def objective(self, batch: TrainBatch, reconstructions: Tensor, mu: Tensor, logvar: Tensor) -> TurnLosses:
        """The negative ELBO of a micro-batch, up to a factor; families with further terms add to it."""
        config = self.config
        reconstruction = reconstruction_error(batch.images, reconstructions, config.reconstruction).mean()
        kl_dims = kl_per_dim(mu, logvar).mean(0)
        kl = kl_dims.clamp(min=config.free_bits).sum() * kl_scale(config.reconstruction, config.latent_size)
        warmup = warmup_factor(config.kld_warmup, batch.images_seen, config.kld_warmup_images)
        loss = reconstruction + warmup * config.kld_weight * kl
        kl_dims = kl_dims.detach()
        scalars = {
            "loss": loss.detach(),
            "reconstruction": reconstruction.detach(),
            "mse": reconstruction_error(batch.images, reconstructions.detach(), "mean").mean(),
            "kl": kl_dims.sum(),
            "beta_eff": kl_dims.new_tensor(warmup * (self.decoder_variance or 0.0)),
        }
        return TurnLosses(loss, scalars, kl_dims)

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of each image."""
        return self.networks["autoencoder"].posterior(images)  # type: ignore[union-attr,operator]

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Images of latents."""
        return self.networks["autoencoder"].decoder(latents)  # type: ignore[union-attr,operator]
