"""The VAE of the repository PyTorch-VAE (https://github.com/AntixK/PyTorch-VAE), written anew from its settings.

Its network for 64 x 64 pixels: five strided convolutions with batch norm and leaky ReLU, 32 to 512 channels, 128
latents, the mirror image with transposed convolutions, and tanh. Its training: mean squared error over all values
+ 0.00025 KL, Adam with 0.005, times 0.95 after each epoch, batches of 64, mirrored with probability 1/2.

It loads photos into [0, 1]; here they are in [-1, 1], where its tanh reaches all of them and the KL weighs less. They
come from memory, so nothing is decoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from facegen.families.vae import VariationalNetwork
from facegen.networks.conv_config import ImageShape
from shards.base.errors import UserError
from time_to_quality.setup import Setup
from time_to_quality.turns import Autoencoder, Codec, Facts, Turns

WIDTHS = (32, 64, 128, 256, 512)
LATENT_SIZE = 128
KLD_WEIGHT = 0.00025
LR = 0.005
LR_FACTOR_PER_EPOCH = 0.95
BATCH_SIZE = 64


class VanillaVAE(nn.Module):
    """The published network."""

    def __init__(self, image: ImageShape) -> None:
        """Builds for images of ``image``.

        Raises:
            UserError: Sides that five stages cannot halve.
        """
        super().__init__()
        factor = 2 ** len(WIDTHS)
        if image.height % factor or image.width % factor:
            raise UserError(f"PyTorch-VAE's network needs sides that are multiples of {factor}; leave it out.")
        self.features = (WIDTHS[-1], image.height // factor, image.width // factor)
        num_features = ImageShape(*self.features).num_pixels
        down = [_stage(nn.Conv2d(*pair, 3, 2, 1)) for pair in zip((image.channels, *WIDTHS), WIDTHS, strict=False)]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.mu = nn.Linear(num_features, LATENT_SIZE)
        self.logvar = nn.Linear(num_features, LATENT_SIZE)
        self.enter = nn.Linear(LATENT_SIZE, num_features)
        falling = (*reversed(WIDTHS), WIDTHS[0])
        up = [_stage(nn.ConvTranspose2d(*pair, 3, 2, 1, 1)) for pair in zip(falling, falling[1:], strict=False)]
        self.stages = nn.Sequential(*up, nn.Conv2d(WIDTHS[0], image.channels, 3, padding=1), nn.Tanh())

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, N x L."""
        features = self.encoder(images)
        return self.mu(features), self.logvar(features)

    def decoder(self, latents: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        return self.stages(self.enter(latents).unflatten(1, self.features))


def _stage(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.LeakyReLU())


class MirroredImages(Dataset[Tensor]):
    """Images in memory, mirrored at random, one by one as a DataLoader takes them."""

    def __init__(self, images: Tensor) -> None:
        """Takes N x C x H x W in [0, 1]."""
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        image = self._images[index]
        return (image.flip(2) if torch.rand(()) < 0.5 else image) * 2 - 1


def train(our_network: bool, our_kl: bool, setup: Setup, turns: Turns) -> None:
    """Trains until there is no further turn."""
    images = setup.train_images()
    torch.manual_seed(setup.seed)
    turns.start()
    shape = ImageShape(*images.shape[1:])
    model, latent_size = setup.our_network() if our_network else (VanillaVAE(shape), LATENT_SIZE)
    # Mean squared error is 1/2 SSE over this.
    half_pixels = shape.num_pixels / 2
    kld_weight = setup.our_beta_eff() / half_pixels if our_kl else KLD_WEIGHT
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = Facts(num_parameters, latent_size, BATCH_SIZE, kld_weight * half_pixels)
    autoencoder = Autoencoder(facts, lambda: Codec(model.eval().posterior, model.decoder))
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, LR_FACTOR_PER_EPOCH)
    loader = DataLoader(MirroredImages(images), BATCH_SIZE, shuffle=True)
    images_seen = 0
    turns(images_seen, autoencoder)
    while True:
        for batch in loader:
            _step(model.train(), batch, kld_weight, optimizer)
            images_seen += len(batch)
            turns(images_seen, autoencoder)
        schedule.step()


def _step(
    model: VanillaVAE | VariationalNetwork, batch: Tensor, kld_weight: float, optimizer: torch.optim.Optimizer
) -> None:
    mu, logvar = model.posterior(batch)
    latents = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
    reconstructions = model.decoder(latents)
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()
    loss = functional.mse_loss(reconstructions, batch) + kld_weight * kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if not torch.isfinite(loss):
        raise UserError(f"the loss became {loss.item()}")
