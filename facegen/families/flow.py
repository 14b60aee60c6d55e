"""Flow: a learned prior for the latents of a trained autoencoder, by flow matching (Lipman et al. 2023).

A network learns the velocity at which standard normal noise becomes latents along straight lines (rectified flow, Liu
et al. 2023). Encoding and decoding stay the autoencoder's.

Without a label, the latents of the model are those of the autoencoder, and its samples are noise carried to them. With
a label, its latents are the noise: the flow carries a face's latents back under its own degree, and forward under
another one, so that noise and degree say different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facegen.degrees import degrees_of, known_degrees
from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.latents.training_latents import TrainingLatents, training_latents
from facegen.losses.terms import Term
from facegen.losses.vae import reparameterize
from facegen.networks.conv_config import ImageShape
from facegen.networks.flow.ode import Solver, Velocity, integrate, step
from facegen.networks.flow.velocity import LatentShape, VelocityConfig, VelocityNetwork
from facegen.randomness import derive_seed
from facegen.runs.checkpoint import load_module
from facegen.runs.snapshot import find_snapshot, read_description, weights_file, weights_sha256
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset

_HELD_OUT_DRAWS = 8
"""Times, each with one noise, at which the error of a held-out image is measured: the same for all images."""
AUTOENCODER = "autoencoder"


@dataclass
class FlowConfig:
    """Options of the flow."""

    autoencoder: str | None = None
    """The trained autoencoder: a run or a snapshot. The model takes a copy of it."""
    autoencoder_config: dict[str, Any] = field(default_factory=dict)
    """Its family, its options and the checksum of its weights; found at the start of a run."""
    label: str | None = None
    """Label to condition on: a float in [-1, 1], or a bool, read as -1 and +1. One that mirroring changes, such as a
    pose to the left or right, needs --augment.flip false."""
    label_dropout: float = 0.1
    """Share of the images with a degree that are trained on without it, as guidance needs."""
    guidance: float = 1.0
    """Weight of the degree in generating (Ho and Salimans 2022): 1 takes what was learned, more exaggerates it."""
    num_steps: int = 25
    """Steps from noise to latents."""
    solver: Solver = "heun"
    """``heun`` evaluates the network twice a step, ``euler`` once."""
    velocity: VelocityConfig = field(default_factory=VelocityConfig)
    """The network."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"label_dropout must be in [0, 1), not {self.label_dropout}.")
        if self.guidance < 0:
            raise ValueError(f"guidance must not be negative, not {self.guidance}.")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, not {self.num_steps}.")
        if self.label is None and self.guidance != 1:
            raise ValueError("guidance needs a label to guide to; set label, or leave guidance 1.")

    def describe_autoencoder(self) -> dict[str, Any]:
        """Family, options and weights of the autoencoder; looked up once, so that a snapshot needs no other run.

        Raises:
            ValueError: There is none.
        """
        if not self.autoencoder_config:
            if not self.autoencoder:
                raise ValueError("a flow needs a trained autoencoder: give its run as --model.autoencoder.")
            self.autoencoder_config = _described(Path(self.autoencoder))
        return self.autoencoder_config


class Flow(Family):
    """Rectified flow in the latent space of a trained autoencoder."""

    turns = ("flow",)
    can = frozenset({"encode", "decode", "sample"})
    held_out = ("flow",)
    file_options = ("autoencoder",)
    reads_images = False
    prior_is_learned = True
    config: FlowConfig
    mean: Tensor
    scale: Tensor
    degree_range: Tensor

    def __init__(self, config: FlowConfig, image: ImageShape, autoencoder: Family) -> None:
        """Builds the flow around an autoencoder that was built as ``autoencoder_config`` says.

        Raises:
            ValueError: A model that is no unconditional autoencoder.
        """
        super().__init__(config, image)
        if AUTOENCODER not in autoencoder.networks or autoencoder.condition:
            raise ValueError("model.autoencoder must be an autoencoder without a condition.")
        self.latent_size = autoencoder.latent_size
        assert self.latent_size is not None
        self.autoencoder = autoencoder.requires_grad_(False)
        if config.label is None:
            self.can = self.can | autoencoder.can  # type: ignore[misc]
        self.condition = config.label
        network = VelocityNetwork(_latent_shape(autoencoder), config.velocity, conditional=config.label is not None)
        self.networks = nn.ModuleDict({"flow": network})
        self.register_buffer("mean", torch.zeros(self.latent_size))
        self.register_buffer("scale", torch.ones(self.latent_size))
        self.register_buffer("degree_range", torch.tensor([-1.0, 1.0]))
        self._training: TrainingLatents | None = None

    @property
    def condition_range(self) -> tuple[float, float] | None:  # type: ignore[override]
        """Smallest and largest degree of the training images."""
        low, high = self.degree_range.tolist()
        return (low, high) if self.condition else None

    def train(self, mode: bool = True) -> Flow:
        """Train mode for the flow alone."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def prepare(self, dataset: Dataset, device: torch.device) -> None:
        """Takes the autoencoder's weights, and encodes the training images.

        Raises:
            UserError: No autoencoder, another one than the run started with, or a label without degrees.
        """
        config = self.config
        if config.label:
            degrees = known_degrees(dataset, config.label, "train")
            self.degree_range.copy_(torch.tensor([degrees.min(), degrees.max()]))
        self._read_autoencoder()
        identity = config.autoencoder_config["sha256"]
        self._training = training_latents(
            lambda images: self.autoencoder.eval().posterior(images, {}), identity, dataset, device
        )
        mean, scale = self._training.moments()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def _read_autoencoder(self) -> None:
        described, path = self.config.autoencoder_config, self.config.autoencoder
        if not path:
            raise UserError("flow needs a trained autoencoder: give its run as --model.autoencoder.")
        if described.get("weights") not in ("ema", "raw") or "sha256" not in described:
            raise UserError("autoencoder_config does not say which weights it means; leave it out of the options.")
        snapshot, weights = find_snapshot(Path(path)), described["weights"]
        if weights_sha256(snapshot, weights) != described["sha256"]:
            raise UserError(
                f"{path} has other weights than this flow started with; give the original run, or another --run."
            )
        load_module(self.autoencoder, weights_file(snapshot, weights))

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Squared error of the velocity from noise to latents, at a time drawn for each image; mean over dims."""
        target, velocity = self.forward_as_trained(networks, batch)
        return TurnLosses.of_terms({"flow": Term((velocity - target).square().mean(), 1.0)}, {})

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """The velocities to learn and those of the network, each N x L."""
        random, latent_size = batch.random, self.mean.shape[0]
        drawn = self._drawn(batch, random.normal("posterior", latent_size))
        degrees = None
        if self.condition:
            degrees = degrees_of(batch.labels[self.condition])
            degrees = degrees.masked_fill(random.uniform("label_dropout") < self.config.label_dropout, torch.nan)
        points, times, target = _on_the_way(
            self._standardized(drawn), random.normal("noise", latent_size), random.uniform("time")
        )
        return target, networks["flow"](points, times, degrees)

    def _drawn(self, batch: TrainBatch, noise: Tensor) -> Tensor:
        """Latents N x L from the posteriors of a batch, encoded before training, or now where it holds images."""
        if self._training is None or batch.rows is None or batch.mirrored is None:
            with torch.no_grad():
                mu, logvar = self.autoencoder.posterior(batch.images, {})
            return mu if logvar is None else reparameterize(mu, logvar, noise)
        return self._training.draw(batch.rows, batch.mirrored, noise)

    def measure_held_out(self, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of each image, N, at evenly spaced times."""
        mu, logvar = self.autoencoder.posterior(images, {})
        generator = torch.Generator().manual_seed(derive_seed("held_out_flow"))
        errors = []
        for draw in range(_HELD_OUT_DRAWS):
            noise, of_posterior = torch.randn(2, mu.shape[1], generator=generator).to(mu.device)
            drawn = mu if logvar is None else reparameterize(mu, logvar, of_posterior)
            times = mu.new_full((len(mu),), (draw + 0.5) / _HELD_OUT_DRAWS)
            points, times, target = _on_the_way(self._standardized(drawn), noise.expand_as(mu), times)
            velocity = self.networks["flow"](points, times, self._degrees(labels, mu))
            errors.append((velocity - target).square().mean(1))
        return {"flow": torch.stack(errors).mean(0)}

    def latents_of_noise(self, noise: Tensor) -> Tensor:
        """Carries standard normal noise N x L to latents; with a label, ``decode`` does."""
        return noise if self.condition else self._forward(noise, None)

    @property
    def codec(self) -> Family:
        """The autoencoder."""
        return self.autoencoder

    @property
    def num_flow_steps(self) -> int:  # type: ignore[override]
        """Steps from noise to latents."""
        return self.config.num_steps

    def flow_step(
        self, points: Tensor, times: Tensor, next_times: Tensor, labels: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """One step of the config's solver, and the autoencoder's latents that the points stand for."""
        velocity = self._velocity(self._degrees(labels, points), self.config.guidance)
        length = (next_times - times)[:, None]
        moved = step(velocity, points, times, next_times, length, self.config.solver)
        return moved, self.mean + self.scale * moved

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The autoencoder's posterior; with a label, its mean carried back to noise under the images' degrees."""
        mu, logvar = self.autoencoder.posterior(images, {})
        if not self.condition:
            return mu, logvar
        degrees = self._degrees(labels, mu)
        return self._integrate(self._standardized(mu), degrees, guidance=1.0, backwards=True), None

    def decode(self, latents: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """The autoencoder's images; with a label, of noise carried forward under the degrees of ``labels[label]``."""
        if self.condition:
            latents = self._forward(latents, self._degrees(labels, latents))
        return self.autoencoder.decode(latents, {})

    def _standardized(self, latents: Tensor) -> Tensor:
        return (latents - self.mean) / self.scale

    def _forward(self, noise: Tensor, degrees: Tensor | None) -> Tensor:
        """Noise N x L to latents N x L."""
        return self.mean + self.scale * self._integrate(noise, degrees, self.config.guidance)

    def _integrate(self, start: Tensor, degrees: Tensor | None, guidance: float, backwards: bool = False) -> Tensor:
        velocity = self._velocity(degrees, guidance)
        return integrate(velocity, start, self.config.num_steps, self.config.solver, backwards=backwards)

    def _velocity(self, degrees: Tensor | None, guidance: float) -> Velocity:
        network = self.networks["flow"]

        def velocity(points: Tensor, times: Tensor) -> Tensor:
            guided = network(points, times, degrees)
            if degrees is None or guidance == 1:
                return guided
            free = network(points, times, torch.full_like(degrees, torch.nan))
            return free + guidance * (guided - free)

        return velocity

    def _degrees(self, labels: Mapping[str, Tensor], like: Tensor) -> Tensor | None:
        """Degrees N, NaN where unknown; None without a label to condition on."""
        if not self.condition:
            return None
        label = labels.get(self.condition)
        if label is None:
            return torch.full((len(like),), torch.nan, device=like.device)
        return degrees_of(label).to(like.device)


def _on_the_way(data: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points on the straight lines from noise to data, N x L, their times, and the velocity along these lines."""
    share = times[:, None]
    return share * data + (1 - share) * noise, times, data - noise


def _latent_shape(autoencoder: Family) -> LatentShape:
    """How the decoder reads latents: as a vector, or on a map."""
    shape = getattr(autoencoder.networks[AUTOENCODER].decoder, "latent_shape", ())
    return LatentShape(*shape) if len(shape) == 3 else LatentShape(autoencoder.latent_size or 0, 1, 1)


def _described(path: Path) -> dict[str, Any]:
    """Family, options and weights of a trained model.

    Raises:
        ValueError: There is none.
    """
    try:
        snapshot = find_snapshot(path)
        description = read_description(snapshot)
        weights = description.weights[0]
        sha256 = weights_sha256(snapshot, weights)
    except (UserError, IndexError) as error:
        raise ValueError(f"autoencoder: {error}") from None
    return {
        "family": description.family,
        "model": description.config["model"],
        "weights": weights,
        "sha256": sha256,
    }
