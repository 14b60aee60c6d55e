"""This project's trainer, reading and decoding its shards, with all that its options ask for."""

from __future__ import annotations

from facegen.families.base import Family
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from time_to_quality.setup import Setup
from time_to_quality.turns import Autoencoder, Codec, Facts, Turns


def train(name: str, arguments: str, setup: Setup, turns: Turns) -> None:
    """Trains with the options of ``facegen/train.py`` in ``arguments``."""
    config = setup.config(arguments, name)
    turns.start()
    trainer = Trainer(config)
    family = trainer.family
    if not {"encode", "decode"} <= family.can or family.labels:
        raise UserError(f"{config.family} does not reconstruct images without their labels; choose another family.")
    num_parameters = sum(parameter.numel() for parameter in family.parameters())
    facts = Facts(num_parameters, family.latent_size or 0, config.global_batch_size, family.decoder_variance)
    model = Autoencoder(facts, lambda: _codec(trainer.state.prepare_inference()))
    turns(0, model)
    trainer.fit(lambda trainer, batch, terms: turns(trainer.images_seen, model))
    turns(trainer.images_seen, model, is_last=True)


def _codec(family: Family) -> Codec:
    return Codec(lambda images: family.posterior(images, {}), lambda latents: family.decode(latents, {}))
