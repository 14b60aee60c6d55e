"""VAE: the variational autoencoder (Kingma and Welling 2014), and the sigma-VAE (Rybkin et al. 2021) as an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.losses.terms import Term
from facegen.losses.vae import (
    COLLAPSE_NATS_PER_DIM,
    Reduction,
    beta_eff,
    gaussian_nll,
    kl_per_dim,
    kl_scale,
    reconstruction_error,
    reparameterize,
    warmup_factor,
)
from facegen.networks.conv import ConvDecoder, ConvEncoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.linear import linear_start, start_from
from facegen.networks.patches import Grid, PrincipalComponents
from facegen.networks.variance import LearnedVariance
from facegen.option_values import refuse_unused

MIN_VARIANCE = (2 / 255) ** 2 / 12
"""Variance of rounding to one of 256 values in [-1, 1]: a likelihood that grows beyond it means nothing."""
OBSERVATION_WEIGHT = 0.1
"""Weight of one step's MSE in the moving average that serves as the analytic variance."""


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
    """How the KL weight rises to kld_weight: not at all, once, or in cycles."""
    kld_warmup_images: int = 0
    """Images over which it rises; needed by linear and cyclical."""
    free_bits: float = 0.0
    """Nats per dim below which the KL, averaged over a micro-batch, has no gradient (Kingma et al. 2016)."""
    decoder_sigma: Literal["fixed", "learned", "analytic"] = "fixed"
    """``fixed``: kld_weight sets it. ``learned``: one trained number. ``analytic``: sigma^2 is a moving average of the
    training MSE. The last two optimize the ELBO itself, and need kld_weight 1 and reconstruction sum."""
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
            raise ValueError("kld_warmup and kld_warmup_images belong together: set both, or leave 'none' and 0.")
        if not self.kld_weight:
            refuse_unused(self, ("kld_warmup", "kld_warmup_images", "free_bits"), "with kld_weight 0")
        if self.decoder_sigma != "fixed" and (self.kld_weight != 1 or self.reconstruction != "sum"):
            raise ValueError(
                f"decoder_sigma {self.decoder_sigma} optimizes the ELBO, which sets the KL's weight itself: set "
                f"kld_weight 1 and reconstruction sum, not {self.kld_weight} and {self.reconstruction}."
            )


class Posterior(NamedTuple):
    """Reconstructions from sampled latents, and the distribution of the latents."""

    reconstructions: Tensor
    mu: Tensor
    logvar: Tensor


class PosteriorAndVariance(NamedTuple):
    """``Posterior``, and the learned variance of the Gaussian decoder, a scalar."""

    reconstructions: Tensor
    mu: Tensor
    logvar: Tensor
    variance: Tensor


class VAETerms(NamedTuple):
    """The loss of a VAE by its terms, as ``TurnLosses.of_terms`` takes it; families with further terms add theirs."""

    terms: dict[str, Term]
    metrics: dict[str, Tensor]
    """What else to log: the terms in units that are the same for every family and every weight."""
    kl_per_dim: Tensor
    """Mean over the micro-batch, L, without a gradient."""


class VariationalNetwork(nn.Module):
    """Encoder, sampling and decoder in one forward, so that DDP sees every gradient.

    Attributes:
        variance: The decoder's learned variance; None unless it is learned.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """Takes an encoder of images to mean and log variance, N x 2L, and a decoder of latents N x L."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.variance: LearnedVariance | None = None

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each N x L, of images N x C x H x W."""
        mu, logvar = self.encoder(images).float().chunk(2, dim=1)
        return mu, logvar

    def forward(self, images: Tensor, noise: Tensor) -> Posterior | PosteriorAndVariance:
        """Encodes images N x C x H x W, samples with standard normal noise N x L, and decodes."""
        mu, logvar = self.posterior(images)
        reconstructions = self.decoder(reparameterize(mu, logvar, noise))
        if self.variance is None:
            return Posterior(reconstructions, mu, logvar)
        return PosteriorAndVariance(reconstructions, mu, logvar, self.variance())


class VAE(Family):
    """Variational autoencoder with a standard normal prior."""

    turns = ("autoencoder",)
    can = frozenset({"encode", "posterior", "decode", "sample"})
    network_class: ClassVar[type[VariationalNetwork]] = VariationalNetwork
    observed_mse: Tensor

    def __init__(self, config: VAEConfig, image: ImageShape) -> None:
        """Builds the network."""
        super().__init__(config, image)
        self.latent_size = config.latent_size
        network = self.make_network()
        self.networks = nn.ModuleDict({"autoencoder": network})
        if config.decoder_sigma == "learned":
            if not isinstance(network, VariationalNetwork) or type(network).forward is not VariationalNetwork.forward:
                raise ValueError(
                    "this family's network cannot learn its variance; use decoder_sigma analytic or fixed."
                )
            network.variance = LearnedVariance(MIN_VARIANCE)
        elif config.decoder_sigma == "analytic":
            self.observes = (*self.observes, "mse")
            self.register_buffer("observed_mse", torch.ones(()))

    @property
    def pixel_weight(self) -> float:
        """Weight of the pixel error in the objective."""
        return 1.0

    @property
    def has_likelihood(self) -> bool:
        """Whether the objective is the negative ELBO of a Gaussian decoder, up to a factor."""
        return True

    @property
    def decoder_variance(self) -> float | None:  # type: ignore[override]
        """Variance of the Gaussian decoder whose ELBO the objective is; None without a likelihood or a KL weight."""
        if not self.has_likelihood:
            return None
        if self.config.decoder_sigma == "learned":
            return float(self.networks["autoencoder"].variance().detach())  # type: ignore[union-attr,operator]
        return float(self._variance()) or None

    def _variance(self, learned: Tensor | None = None) -> Tensor | float:
        config = self.config
        if config.decoder_sigma == "learned":
            assert learned is not None, "the network's variance carries the gradient and must be passed on"
            return learned
        if config.decoder_sigma == "analytic":
            return self.observed_mse.clamp(min=MIN_VARIANCE)
        kld_weight = config.kld_weight / self.pixel_weight
        return beta_eff(kld_weight, config.reconstruction, config.latent_size, self.image.num_pixels)

    def observe(self, means: Mapping[str, float]) -> None:
        """Follows the training MSE, the maximum-likelihood variance of a Gaussian decoder."""
        self.observed_mse.lerp_(self.observed_mse.new_tensor(means["mse"]), OBSERVATION_WEIGHT)

    def make_network(self) -> nn.Module:
        """Builds the network for ``self.config`` and ``self.image``."""
        return self.network_class(*self.conv_halves(self.config.network))

    def conv_halves(self, network: ConvNetConfig) -> tuple[ConvEncoder, ConvDecoder]:
        """A convolutional encoder to mean and log variance, and a decoder."""
        latent_size = self.config.latent_size
        encoder = ConvEncoder(self.image, 2 * latent_size, network, num_vectors=2)
        return encoder, ConvDecoder(self.image, latent_size, network)

    def linear_start(self) -> tuple[Grid, int] | None:
        """Asks for as many components of a patch as its place has latents."""
        return linear_start(self.networks["autoencoder"])

    def start_from(self, components: PrincipalComponents) -> None:
        """Becomes the best linear VAE under ``pixel_weight * pixel error + kld_weight * KL``.

        Features and discriminators have no closed form and are left out. Without a pixel error, or with a decoder
        variance of its own, it becomes the likeliest linear VAE, whose variance is what the components leave out, on
        average (Tipping and Bishop 1999).
        """
        is_likeliest = self.config.decoder_sigma != "fixed" or not self.pixel_weight
        # Without a KL, the best posterior would have no variance, whose logarithm is no weight.
        variance = max(components.residual if is_likeliest else float(self._variance()), MIN_VARIANCE)
        if self.config.decoder_sigma == "learned":
            self.networks["autoencoder"].variance.start_from(variance)  # type: ignore[union-attr,operator]
        elif self.config.decoder_sigma == "analytic":
            self.observed_mse.fill_(variance)
        start_from(self.networks["autoencoder"], components, variance)

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Reconstruction + warm-up * kld_weight * KL."""
        return TurnLosses.of_terms(*self.objective(batch, *self.forward_as_trained(networks, batch)))

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Any:
        """Reconstructions from sampled latents, and their distribution."""
        return networks["autoencoder"](batch.images, batch.random.normal("posterior", self.config.latent_size))

    def objective(
        self, batch: TrainBatch, reconstructions: Tensor, mu: Tensor, logvar: Tensor, variance: Tensor | None = None
    ) -> VAETerms:
        """The negative ELBO of a micro-batch, up to a factor.

        Args:
            batch: The micro-batch.
            reconstructions: Of its images, the same shape.
            mu: N x L.
            logvar: N x L.
            variance: The decoder's learned variance with its gradient, if the network returns one.
        """
        config = self.config
        reconstruction = reconstruction_error(batch.images, reconstructions, config.reconstruction).mean()
        if config.decoder_sigma != "fixed":
            reconstruction = gaussian_nll(reconstruction, self._variance(variance), self.image.num_pixels)
        kl_dims = kl_per_dim(mu, logvar).mean(0)
        kl = kl_dims.clamp(min=config.free_bits).sum() * kl_scale(config.reconstruction, config.latent_size)
        warmup = warmup_factor(config.kld_warmup, batch.images_seen, config.kld_warmup_images)
        terms = {
            "reconstruction": Term(reconstruction, self.pixel_weight),
            "kl": Term(kl, warmup * config.kld_weight),
        }
        kl_dims = kl_dims.detach()
        metrics = {
            "mse": reconstruction_error(batch.images, reconstructions.detach(), "mean").mean(),
            "kl": kl_dims.sum(),
        }
        if self.has_likelihood:
            decoder_variance = torch.as_tensor(self._variance(variance), device=mu.device).detach()
            metrics["beta_eff"] = warmup * decoder_variance
            if config.decoder_sigma != "fixed":
                metrics["decoder_sigma"] = decoder_variance.sqrt()
        return VAETerms(terms, metrics, kl_dims)

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """Warns of posterior collapse: latents that carry next to nothing."""
        kl_per_dim = means["kl"] / self.config.latent_size
        if kl_per_dim >= COLLAPSE_NATS_PER_DIM:
            return []
        return [
            f"posterior collapse: mean KL over the last epoch is {kl_per_dim:.4f} nats per dim (below "
            f"{COLLAPSE_NATS_PER_DIM}); lower --model.kld_weight, or warm it up with --model.kld_warmup linear and "
            "--model.kld_warmup_images."
        ]

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of each image."""
        return self.networks["autoencoder"].posterior(images)  # type: ignore[union-attr,operator]

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Images of latents."""
        return self.networks["autoencoder"].decoder(latents)  # type: ignore[union-attr,operator]
