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


def test_what_fits_is_taken_and_the_rest_is_named(
    tiny_config: Config, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, random = (
        Trainer(tiny_config("ae", init=init, model={"latent_size": 7}, run=str(tmp_path / name)))
        for name, init in (("other", str(trained)), ("random", "random"))
    )
    theirs = facegen.load(trained).network.networks["autoencoder"].state_dict()  # type: ignore[union-attr]
    start, found = weights(random, "autoencoder"), weights(trainer, "autoencoder")
    taken = {name for name, value in found.items() if value.shape == theirs[name].shape}
    assert 0 < len(taken) < len(found)
    for name, value in found.items():
        assert torch.equal(value, theirs[name] if name in taken else start[name]), name
    printed = capsys.readouterr().out
    assert f"{len(taken)} of {len(found)} tensors are taken; random stay autoencoder." in printed
    assert "7 x" in printed and "; there " in printed


@pytest.mark.parametrize(
    ("family", "model", "message"),
    [
        ("ae", {"network": ConvNetConfig(widths=[5, 7, 9])}, "no weight there has the name and shape of one here"),
        ("dcgan", {}, "that model has the networks autoencoder, and this family discriminator, generator"),
    ],
)
def test_a_model_that_does_not_fit(
    tiny_config: Config, trained: Path, family: str, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Trainer(tiny_config(family, model=model, init=str(trained)))


@pytest.mark.parametrize("family", ["ae", "ae_gan"])
def test_frozen_weights_stay_and_a_resumed_run_is_the_same(
    tiny_config: Config, trained: Path, tmp_path: Path, family: str
) -> None:
    options: dict[str, Any] = {"init": str(trained), "freeze": ["autoencoder.encoder.*"]}
    whole = Trainer(tiny_config(family, run=str(tmp_path / "whole"), max_steps=6, **options))
    before = weights(whole, "autoencoder")
    whole.fit()
    frozen = {name for name in before if name.startswith("encoder.") and not name.endswith("num_batches_tracked")}
    changed = {name for name, value in weights(whole, "autoencoder").items() if not torch.equal(value, before[name])}
    assert frozen and changed and not changed & frozen
    Trainer(tiny_config(family, run=str(tmp_path / "parts"), max_steps=3, **options)).fit()
    resumed = Trainer(tiny_config(family, run=str(tmp_path / "parts"), max_steps=6, **options))
    resumed.fit()
    assert_same(weights(resumed, "autoencoder"), weights(whole, "autoencoder"))
    with pytest.raises(UserError, match="freeze"):
        Trainer(tiny_config(family, run=str(tmp_path / "parts"), max_steps=9, **{**options, "freeze": []}))


def test_what_does_not_learn_must_be_taken(tiny_config: Config, trained: Path) -> None:
    with pytest.raises(UserError, match=r"head.weight \(.*; there .*\) does not learn and cannot be taken"):
        Trainer(tiny_config("ae", init=str(trained), model={"latent_size": 7}, freeze=["autoencoder.encoder.*"]))


def test_what_cannot_be_frozen(tiny_config: Config) -> None:
    with pytest.raises(UserError, match=r"freeze: no weight is called 'encoder.\*'; there are autoencoder.encoder"):
        Trainer(tiny_config("ae", freeze=["encoder.*"]))
    with pytest.raises(UserError, match="freeze leaves nothing to learn in the autoencoder"):
        Trainer(tiny_config("ae", freeze=["*"]))


def test_no_model(tiny_config: Config) -> None:
    with pytest.raises(UserError, match="--init takes random, pca or a trained model: pcaa does not exist"):
        Trainer(tiny_config("ae", init="pcaa"))
