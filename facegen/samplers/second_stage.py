"""The second stage of a two-stage VAE (Dai and Wipf 2019): a small VAE of the first one's latents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facegen.losses.vae import gaussian_nll, kl_per_dim, reparameterize
from facegen.networks.variance import LearnedVariance
from facegen.options import OptimConfig
from facegen.randomness import derive_seed
from facegen.samplers.base import Latents, Sampler
from shards.base.errors import UserError
from shards.base.progress import tracked

MIN_VARIANCE = 1e-4
"""Minimum decoder variance of standardized latents; finer than an image decoder can tell apart."""


@dataclass
class SecondStageConfig:
    """A second VAE, trained on samples of the first one's posterior; fitted in minutes."""

    width: int = 512
    """Units of each hidden layer."""
    num_layers: int = 3
    """Hidden layers of the encoder and of the decoder."""
    num_steps: int = 4_000
    """Optimizer steps."""
    batch_size: int = 256
    """Latents in one step."""
    lr: float = 1e-3
    """Initial learning rate; it falls as a cosine."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("width", "num_layers", "num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be a positive number, not {self.lr}.")


class SecondStageSampler(Sampler):
    """N(0, I) through the decoder of the second VAE, plus its learned Gaussian noise."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: SecondStageConfig, latent_size: int) -> None:
        """Builds both halves; the second VAE has as many latent dims as the first."""
        super().__init__(config, latent_size)
        self.noise_size = 2 * latent_size
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("scale", torch.ones(latent_size))
        self.encoder = _perceptron(latent_size, 2 * latent_size, config)
        self.decoder = _perceptron(latent_size, latent_size, config)
        self.variance = LearnedVariance(MIN_VARIANCE)

    def fit(self, latents: Latents, seed: int) -> None:
        """Trains on z ~ q(z|x), drawn anew in each step, or on the codes of a deterministic encoder.

        Raises:
            UserError: The training diverged.
        """
        config, mu, device = self.config, latents.mu, latents.mu.device
        # The first decoder was trained on samples, whose variance exceeds that of mu by q(z|x)'s own.
        added = 0.0 if latents.logvar is None else latents.logvar.exp().mean(0)
        scale = (mu.var(0, correction=0) + added).sqrt()
        self.mean.copy_(mu.mean(0))
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))
        optim = OptimConfig(lr=config.lr, warmup_images=0, schedule="cosine")
        optimizer = torch.optim.Adam(self.parameters(), lr=config.lr, fused=True)
        generator = torch.Generator().manual_seed(derive_seed(seed, "second_stage"))
        for step in tracked(range(config.num_steps), "second stage", config.num_steps, "steps"):
            rows = torch.randint(len(mu), (config.batch_size,), generator=generator).to(device)
            noise = torch.randn(2, config.batch_size, self.latent_size, generator=generator).to(device)
            z = mu[rows] if latents.logvar is None else reparameterize(mu[rows], latents.logvar[rows], noise[0])
            self._negative_elbo(z, noise[1]).backward()
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            if not nn.utils.get_total_norm(gradients).isfinite():
                raise UserError(f"the second stage diverged at step {step + 1}; give an --lr below {config.lr}.")
            optimizer.param_groups[0]["lr"] = optim.lr_at(step, config.num_steps)
            optimizer.step()
            optimizer.zero_grad()

    def _negative_elbo(self, z: Tensor, noise: Tensor) -> Tensor:
        """Mean over N latents N x L, in nats a dim."""
        z = (z - self.mean) / self.scale
        mu, logvar = self.encoder(z).chunk(2, dim=1)
        decoded = self.decoder(reparameterize(mu, logvar, noise))
        squared_error = (z - decoded).square().sum(1)
        nll = gaussian_nll(squared_error, self.variance(), self.latent_size)
        return (nll + kl_per_dim(mu, logvar).sum(1)).mean() / self.latent_size

    def forward(self, noise: Tensor, std: float = 1.0) -> Tensor:
        """Latents N x L from noise N x 2L: half for the second VAE's latents, half for its decoder's noise."""
        code, rest = (std * noise).chunk(2, dim=1)
        return self.mean + self.scale * (self.decoder(code) + self.variance().sqrt() * rest)


def _perceptron(in_features: int, out_features: int, config: SecondStageConfig) -> nn.Sequential:
    widths = [in_features, *[config.width] * config.num_layers]
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(config.width, out_features))
