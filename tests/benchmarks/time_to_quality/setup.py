"""What all trainings share: images, threads, and the options of our own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facegen.config import parse_args
from facegen.families.base import Family
from facegen.families.vae import VariationalNetwork
from facegen.optimization.early_stop import EarlyStop
from facegen.optimization.state import TrainState
from facegen.options import TrainConfig
from facegen.processes.group import make_accelerator
from facegen.training.assembly import build_family
from facegen.training.initialization import initialize
from shards.base.errors import UserError
from shards.command_line.cli import raising
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

_NEVER = 10**12
_QUIET = {"validate_every_images": _NEVER, "grid_every_images": _NEVER, "num_validation_images": 32}


class OurNetwork(NamedTuple):
    """Our network for other trainers."""

    network: VariationalNetwork
    latent_size: int


@dataclass(frozen=True)
class Setup:
    """The same for every training."""

    data: Path
    """A packed data set."""
    folder: Path
    """For runs, logs and arrays of images; each training has its own names in it."""
    split: str
    """Of the held-out images."""
    num_images: int | None
    """How many of them; None for all."""
    threads: int
    seed: int
    ours: str
    """Options of our training."""
    old: str
    """Options of the training with the network of old."""
    net: str
    """Options of the training whose network and KL weight other trainers take."""

    def config(self, arguments: str, name: str) -> TrainConfig:
        """The options of a training of ours, with as little monitoring as possible.

        Raises:
            UserError: Options that are not there.
        """
        own = {f"monitor.{option}": value for option, value in _QUIET.items()}
        own |= {"checkpoint.every_images": _NEVER, "seed": self.seed}
        own |= {"data": str(self.data), "run": str(self.folder / name)}
        with raising():
            return parse_args([*shlex.split(arguments), *(f"--{option}={value}" for option, value in own.items())])

    def our_beta_eff(self) -> float:
        """Our KL weight for the loops of others, as ``Facts.beta_eff``.

        Raises:
            UserError: A family that is no VAE.
        """
        family = self._our_family()
        beta_eff = family.decoder_variance
        has_network = isinstance(family.networks[family.turns[0]], VariationalNetwork)
        if not has_network or beta_eff is None or family.latent_size is None or family.labels:
            raise UserError(
                "other trainers train VAEs: give --net a family such as vae, or leave their systems out with "
                "--only ours old."
            )
        return beta_eff

    def our_network(self) -> OurNetwork:
        """Our network with the initial weights that its options ask for, principal components included."""
        config, dataset = self.config(self.net, "net"), Dataset(self.data)
        family = self._our_family()
        state = TrainState(family, None, {}, EarlyStop(config.early_stop, []))
        initialize(state, config, dataset, make_accelerator())
        network = family.networks[family.turns[0]]
        assert isinstance(network, VariationalNetwork) and family.latent_size is not None
        return OurNetwork(network, family.latent_size)

    def _our_family(self) -> Family:
        return build_family(self.config(self.net, "net"), Dataset(self.data))

    def held_out(self) -> Tensor:
        """Held-out images, uint8 N x H x W x C."""
        return read_images(Dataset(self.data), self.split, self.num_images)

    @property
    def array(self) -> Path:
        """File of the training images, float32 N x C x H x W in [0, 1]."""
        return self.folder / "train.npy"

    def write_array(self) -> None:
        """Writes that file."""
        images = read_images(Dataset(self.data), "train").permute(0, 3, 1, 2).numpy()
        file = np.lib.format.open_memmap(self.array, "w+", np.float32, images.shape)
        np.divide(images, np.float32(255), out=file)

    def train_images(self) -> Tensor:
        """The training images, float32 N x C x H x W in [0, 1]; processes share the memory."""
        return torch.from_numpy(np.load(self.array, mmap_mode="c"))


def read_images(dataset: Dataset, split: str, limit: int | None = None) -> Tensor:
    """The images of a split in order, uint8 N x H x W x C."""
    return torch.cat([batch.images for batch in evaluation_batches(dataset, split, 256, limit=limit, fields=())])
