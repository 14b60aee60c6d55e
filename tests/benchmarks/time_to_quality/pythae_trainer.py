"""pythae's trainer (https://github.com/clementchadebec/benchmark_VAE), with the settings of its CelebA benchmark.

Its convolutional network of 64 x 64 pixels, 64 latents, 1/2 SSE + KL on pixels in [0, 1], Adam with 0.001, batches of
100, images in memory as float32.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from facegen.families.vae import VariationalNetwork
from shards.base.errors import UserError
from time_to_quality.setup import Setup
from time_to_quality.turns import Autoencoder, Codec, Facts, Turns

LATENT_SIZE = 64
LR = 1e-3
BATCH_SIZE = 100
MISSING = "pythae is not installed; install it with: pip install 'facegen[benchmark]'"

_IMAGE = (3, 64, 64)


def is_installed() -> bool:
    """Whether pythae can be imported."""
    return find_spec("pythae") is not None


def train(our_network: bool, our_kl: bool, setup: Setup, turns: Turns) -> None:
    """Trains until there is no further turn."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.models.nn.benchmarks.celeba import Decoder_Conv_AE_CELEBA, Encoder_Conv_VAE_CELEBA
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    images = setup.train_images()
    if not our_network and images.shape[1:] != _IMAGE:
        raise UserError(f"pythae's network needs images of {_IMAGE}, not {tuple(images.shape[1:])}; leave it out.")
    # Our network makes pixels in [-1, 1], where the squared error is four times as large.
    squared_scale = 1 if our_network else 4
    images = images * 2 - 1 if our_network else images
    torch.manual_seed(setup.seed)
    turns.start()
    ours = setup.our_network() if our_network else None
    beta = setup.our_beta_eff() / squared_scale if our_kl else 1.0  # With 1 it is its VAE.
    latent_size = ours.latent_size if ours else LATENT_SIZE
    config = BetaVAEConfig(input_dim=tuple(images.shape[1:]), latent_dim=latent_size, beta=beta)
    if ours:
        encoder, decoder = _wrapped(ours.network)
    else:
        encoder, decoder = Encoder_Conv_VAE_CELEBA(config), Decoder_Conv_AE_CELEBA(config)  # type: ignore
    model = BetaVAE(config, encoder, decoder)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = Facts(num_parameters, latent_size, BATCH_SIZE, beta * squared_scale)
    trainer = BaseTrainer(
        model,
        BaseDataset(images, torch.ones(len(images))),
        training_config=BaseTrainerConfig(
            output_dir=str(setup.folder / "pythae"),
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LR,
            num_epochs=10**9,
            seed=setup.seed,
            no_cuda=True,
        ),
        callbacks=[_callback(turns, Autoencoder(facts, lambda: _codec(model, not our_network)), len(images))],
    )
    trainer.train()


def _codec(model: Any, to_unit: bool) -> Codec:
    """The model for images in [-1, 1]; with ``to_unit`` its own pixels are in [0, 1]."""
    model.eval()

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        output = model.encoder(images.add(1).div(2) if to_unit else images)
        return output.embedding, output.log_covariance

    def decode(latents: Tensor) -> Tensor:
        images = model.decoder(latents)["reconstruction"]
        return images * 2 - 1 if to_unit else images

    return Codec(encode, decode)


def _wrapped(network: VariationalNetwork) -> tuple[Any, Any]:
    """Both halves of our network, with the outputs that pythae expects."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network.encoder

        def forward(self, images: Tensor) -> Any:
            mu, logvar = self.inner(images).chunk(2, dim=1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network.decoder

        def forward(self, latents: Tensor) -> Any:
            return ModelOutput(reconstruction=self.inner(latents))

    return Encoder(), Decoder()


def _callback(turns: Turns, autoencoder: Autoencoder, num_images: int) -> Any:
    """What pythae's trainer calls: takes our turns."""
    from pythae.trainers.training_callbacks import TrainingCallback

    class TakesTurns(TrainingCallback):
        def __init__(self) -> None:
            self._images_seen = self._in_epoch = 0

        def on_train_begin(self, training_config: Any, **_: Any) -> None:
            turns(0, autoencoder)

        def on_epoch_begin(self, training_config: Any, **_: Any) -> None:
            self._in_epoch = 0

        def on_train_step_end(self, training_config: Any, model: nn.Module, **_: Any) -> None:
            size = min(BATCH_SIZE, num_images - self._in_epoch)
            self._in_epoch += size
            self._images_seen += size
            turns(self._images_seen, autoencoder)
            model.train()

    return TakesTurns()
