"""``--init MODEL``: training starts from the networks of another model, of the same family or of another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import facegen
from facegen.networks.conv_config import ConvNetConfig
from facegen.options import EMAConfig, TrainConfig
from facegen.training.trainer import Trainer
from shards.base.errors import UserError

Config = Callable[..., TrainConfig]


@pytest.fixture
def trained(tiny_config: Config, tmp_path: Path) -> Path:
    """The run of an AE."""
    run = tmp_path / "first"
    Trainer(tiny_config("ae", run=str(run), max_steps=3, ema=EMAConfig(half_life_images=100))).fit()
    return run


def weights(trainer: Trainer, name: str) -> Mapping[str, Tensor]:
    return {key: value.clone() for key, value in trainer.family.networks[name].state_dict().items()}


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_networks_that_both_have_are_taken_and_the_average_starts_there(tiny_config: Config, trained: Path) -> None:
    options: dict[str, Any] = {"ema": EMAConfig(half_life_images=50), "init": str(trained)}
    trainer = Trainer(tiny_config("ae_gan", **options))
    theirs = facegen.load(trained).network.networks["autoencoder"].state_dict()  # type: ignore[union-attr]
    assert_same(weights(trainer, "autoencoder"), theirs)
    assert trainer.state.ema is not None
    assert_same(trainer.state.ema.module.networks["autoencoder"].state_dict(), theirs)  # type: ignore[union-attr,index]
    random = Trainer(tiny_config("ae_gan", run=f"{trainer.run}_random"))
    assert_same(weights(trainer, "discriminator"), weights(random, "discriminator"))
    trainer.fit()
    for name, value in trainer.family.networks["autoencoder"].named_parameters():
        assert not torch.equal(value, theirs[name]), name


def test_a_resumed_run_needs_the_model_no_longer(tiny_config: Config, trained: Path, tmp_path: Path) -> None:
    whole = Trainer(tiny_config("ae", run=str(tmp_path / "whole"), init=str(trained), max_steps=6))
    whole.fit()
    parts: dict[str, Any] = {"run": str(tmp_path / "parts"), "init": str(trained)}
    Trainer(tiny_config("ae", max_steps=3, **parts)).fit()
    shutil.rmtree(trained)
    resumed = Trainer(tiny_config("ae", max_steps=6, **parts))
    resumed.fit()
    assert_same(weights(resumed, "autoencoder"), weights(whole, "autoencoder"))


@pytest.mark.parametrize(
    ("family", "model", "message"),
    [
        ("ae", {"latent_size": 7}, "its autoencoder differs from this one in .*; set the same options under model"),
        ("ae", {"network": ConvNetConfig(widths=[8, 16, 16])}, "its autoencoder differs"),
        ("dcgan", {}, "that model has the networks autoencoder, and this family discriminator, generator"),
    ],
)
def test_a_model_that_does_not_fit(
    tiny_config: Config, trained: Path, family: str, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Trainer(tiny_config(family, model=model, init=str(trained)))


def test_no_model(tiny_config: Config) -> None:
    with pytest.raises(UserError, match="--init takes random, pca or a trained model: pcaa does not exist"):
        Trainer(tiny_config("ae", init="pcaa"))
