"""CVAE: a variational autoencoder conditioned on a degree, such as the degree of smile (Sohn et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from facegen.degrees import degrees_of, known_degrees
from facegen.families.base import FamilyPicture, TrainBatch, TurnLosses
from facegen.families.vae import VAE, Posterior, VAEConfig
from facegen.losses.terms import Term
from facegen.losses.vae import reparameterize
from facegen.networks.conv import ConvDecoder, ConvEncoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.degree import DegreeEmbedding, DegreePredictor
from facegen.networks.norm import averages_kept
from facegen.networks.smile import GraySmileDecoder, GraySmileEncoder, SmileDecoder, SmileEncoder
from facegen.randomness import derive_seed
from shards.dataset.dataset import Dataset
from shards.loading.units import ChosenSamples, Units

NUM_SWEEP_ROWS = 6
NUM_SWEEP_STEPS = 9


@dataclass
class CVAEConfig(VAEConfig):
    """Options of the conditional variational autoencoder."""

    latent_size: int = 20
    """Number of latent dims beside the degree."""
    label: str = "smile"
    """Label with the degree: a float in [-1, 1], or a bool, read as -1 and +1. A label that mirroring changes, such as
    a pose to the left or right, needs --augment.flip false."""
    conditioning: Literal["decoder", "both"] = "both"
    """Where the degree enters. If the encoder gets it too, the latents have less reason to repeat it."""
    condition_size: int = 1
    """Columns that repeat the degree beside the latents; with more of them the decoder learns faster to follow it."""
    unknown: Literal["embedding", "skip"] = "embedding"
    """Images without a degree: trained on with a learned vector in its place, or left out."""
    label_dropout: float = 0.1
    """Share of the images with a degree that are trained on without it, so that sampling without a degree works."""
    independence_weight: float = 0.0
    """Weight of the term that keeps the degree out of the latents: a second network learns to predict it from them, and
    the encoder learns to make that prediction the mean degree. 0 trains without that network."""
    architecture: Literal["conv", "smile_rgb", "smile_gray"] = "conv"
    """``conv``: the network below. The others: the fixed networks of the smile CVAE, for color and for gray faces."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        if self.condition_size < 1:
            raise ValueError(f"condition_size must be at least 1, not {self.condition_size}.")
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"label_dropout must be in [0, 1), not {self.label_dropout}.")
        if self.independence_weight < 0:
            raise ValueError(f"independence_weight must not be negative, not {self.independence_weight}.")
        if self.architecture != "conv" and self.network != ConvNetConfig():
            raise ValueError(
                f"model.network has no effect on the architecture {self.architecture}; leave it out, or set conv."
            )
        if self.network.bottleneck == "conv":
            raise ValueError("model.network.bottleneck conv has no place for a degree on its map; set linear.")
        if self.conditioning == "both" and not self.network.widths:
            raise ValueError("an encoder without model.network.widths does not see a degree; set conditioning decoder.")


class ConditionalNetwork(nn.Module):
    """Encoder, sampling and decoder in one forward, with the degree at the decoder or at both ends."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, decoder_degree: DegreeEmbedding, encoder_degree: nn.Module | None
    ) -> None:
        """Takes encoder and decoder, and what embeds a degree for each.

        Args:
            encoder: Images, with the planes of ``encoder_degree`` as further channels, to N x 2L.
            decoder: Latents, with the columns of ``decoder_degree``, to images.
            decoder_degree: Degrees to columns beside the latents.
            encoder_degree: Degrees to planes beside the colors; None hides them from the encoder.
        """
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.decoder_degree = decoder_degree
        self.encoder_degree = encoder_degree

    def posterior(self, images: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each N x L, of images with degrees N."""
        if self.encoder_degree is not None:
            planes = self.encoder_degree(degrees)[:, :, None, None].expand(-1, -1, *images.shape[2:])
            images = torch.cat([images, planes], dim=1)
        mu, logvar = self.encoder(images).float().chunk(2, dim=1)
        return mu, logvar

    def decode(self, latents: Tensor, degrees: Tensor) -> Tensor:
        """Images of latents N x L with degrees N."""
        return self.decoder(torch.cat([latents, self.decoder_degree(degrees)], dim=1))

    def forward(self, images: Tensor, noise: Tensor, degrees: Tensor) -> Posterior:
        """Encodes images N x C x H x W, samples with standard normal noise N x L, and decodes with degrees N."""
        mu, logvar = self.posterior(images, degrees)
        return Posterior(self.decode(reparameterize(mu, logvar, noise), degrees), mu, logvar)


class CVAE(VAE):
    """Conditional variational autoencoder: faces with a chosen degree of smile or another label."""

    turns = ("autoencoder",)
    degree_range: Tensor
    degree_mean: Tensor

    def __init__(self, config: CVAEConfig, image: ImageShape) -> None:
        """Builds the network."""
        super().__init__(config, image)
        self.condition = config.label
        self.register_buffer("degree_range", torch.tensor([-1.0, 1.0]))
        self.register_buffer("degree_mean", torch.tensor(0.0))
        if config.independence_weight:
            self.turns = ("predictor", "autoencoder")
            self.networks["predictor"] = DegreePredictor(config.latent_size)

    @property
    def condition_range(self) -> tuple[float, float]:
        """Smallest and largest degree of the training images."""
        low, high = self.degree_range.tolist()
        return low, high

    def make_network(self) -> nn.Module:
        """Builds the network for ``self.config`` and ``self.image``."""
        config, image = self.config, self.image
        num_planes = 1 if config.conditioning == "both" else 0
        seen = image._replace(channels=image.channels + num_planes)
        out_features, in_features = 2 * config.latent_size, config.latent_size + config.condition_size
        if config.architecture == "smile_rgb":
            encoder, decoder = SmileEncoder(seen, out_features), SmileDecoder(image, in_features)
        elif config.architecture == "smile_gray":
            encoder, decoder = GraySmileEncoder(seen, out_features), GraySmileDecoder(image, in_features)
        else:
            encoder = ConvEncoder(image, out_features, config.network, num_vectors=2, num_conditions=num_planes)
            decoder = ConvDecoder(image, in_features, config.network, num_conditions=config.condition_size)
        return ConditionalNetwork(
            encoder, decoder, DegreeEmbedding(config.condition_size), DegreeEmbedding(1) if num_planes else None
        )

    def prepare(self, dataset: Dataset, device: torch.device) -> None:
        """Checks that the data set has the label, and stores the range and mean of the training degrees."""
        degrees = known_degrees(dataset, self.config.label, "train")
        self.degree_range.copy_(torch.tensor([degrees.min(), degrees.max()]))
        self.degree_mean.fill_(degrees.mean())

    def units(self, dataset: Dataset, split: str, seed: int) -> Units | None:
        """Only images with a known degree for ``unknown: skip``."""
        if self.config.unknown == "embedding":
            return None
        known_degrees(dataset, self.config.label, split)
        labels = torch.tensor(dataset.labels(self.config.label, split))
        return ChosenSamples(dataset.shard_sizes(split), ~degrees_of(labels).isnan().numpy())

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """The VAE's objective given the degree, which some images go without.

        ``independence_weight`` adds a game of two turns, after Fader Networks (Lample et al. 2017), but with a squared
        error and an encoder that aims for an optimum: a predictor that can do no better than the mean degree.
        """
        config = self.config
        if turn == "predictor":
            return self._predictor_losses(networks, batch)
        posterior = self.forward_as_trained(networks, batch)
        objective = self.objective(batch, *posterior)
        if config.independence_weight:
            noise, degrees = self._drawn(batch)
            # From a sample, as the decoder gets it: the noise hides whatever is weaker in mu.
            read = networks["predictor"](reparameterize(posterior.mu, posterior.logvar, noise))
            independence = _error_where_known(read, self.degree_mean.expand_as(degrees), degrees)
            objective.terms["independence_loss"] = Term(independence, config.independence_weight)
        return TurnLosses.of_terms(*objective)

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Posterior:
        """Reconstructions from sampled latents and the degrees that are not dropped, and the latents' distribution."""
        return networks["autoencoder"](batch.images, *self._drawn(batch))

    def _drawn(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Noise N x L, and degrees N of which some are dropped; both turns of a step draw the same."""
        noise = batch.random.normal("posterior", self.config.latent_size)
        dropped = batch.random.uniform("label_dropout") < self.config.label_dropout
        return noise, self._degrees(batch.labels, batch.images).masked_fill(dropped, torch.nan)

    def _predictor_losses(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Squared error of the degree that the predictor reads from sampled latents."""
        noise, degrees = self._drawn(batch)
        with torch.no_grad(), averages_kept(networks["autoencoder"]):
            mu, logvar = networks["autoencoder"].posterior(batch.images, degrees)  # type: ignore[operator]
        read = networks["predictor"](reparameterize(mu, logvar, noise))
        error = _error_where_known(read, degrees, degrees)
        return TurnLosses(error, {"predictor_error": error.detach()})

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of each image; without the label, of unknown degree."""
        return self.networks["autoencoder"].posterior(images, self._degrees(labels, images))  # type: ignore[union-attr,operator]

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Images of latents with the degrees of ``labels[config.label]``; without the label, of unknown degree."""
        return self.networks["autoencoder"].decode(latents, self._degrees(labels, latents))  # type: ignore[union-attr,operator]

    def pictures(self, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, FamilyPicture]:
        """A row of degrees from -1 to 1 for each of a few held-out faces, and for each of a few samples."""
        images = images[:NUM_SWEEP_ROWS]
        mu, _ = self.posterior(images, {name: label[:NUM_SWEEP_ROWS] for name, label in labels.items()})
        generator = torch.Generator().manual_seed(derive_seed("degree_sweep"))
        noise = torch.randn(NUM_SWEEP_ROWS, self.config.latent_size, generator=generator).to(images.device)
        return {"degree_sweep_faces": self._sweep(mu), "degree_sweep_samples": self._sweep(noise)}

    def _sweep(self, latents: Tensor) -> FamilyPicture:
        degrees = torch.linspace(-1, 1, NUM_SWEEP_STEPS, device=latents.device).repeat(len(latents))
        repeated = latents.repeat_interleave(NUM_SWEEP_STEPS, dim=0)
        return FamilyPicture(self.decode(repeated, {self.config.label: degrees}), NUM_SWEEP_STEPS)

    def _degrees(self, labels: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Degrees N, float32, NaN where unknown, on the device of ``like``."""
        label = labels.get(self.config.label)
        if label is None:
            return torch.full((len(like),), torch.nan, device=like.device)
        return degrees_of(label).to(like.device)


def _error_where_known(predicted: Tensor, wanted: Tensor, degrees: Tensor) -> Tensor:
    """Squared error of the known degrees, divided by the number of all images so that micro-batches average exactly."""
    known = ~degrees.isnan()
    return torch.where(known, predicted - wanted.nan_to_num(), 0.0).square().mean()
