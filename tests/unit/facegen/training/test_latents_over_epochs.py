"""Each epoch leaves the statistics of its latents in the run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facegen.families.vae import VAE
from facegen.latents.latent_history import LatentHistory, read_latent_history
from facegen.losses.vae import kl_per_dim
from facegen.model import load
from facegen.options import CheckpointConfig, EMAConfig, MonitorConfig, TrainConfig
from facegen.pixels import to_float
from facegen.reporting.validation import validate
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from shards.pack import main as pack
from training_runs import Crash, MakeConfig, crash_after, train


def history_of(config: TrainConfig) -> LatentHistory:
    history = read_latent_history(Path(config.run))
    assert history is not None
    return history


def assert_same_history(first: LatentHistory, second: LatentHistory) -> None:
    assert first.split == second.split
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name], name)


@pytest.mark.parametrize("family", ["ae", "vae", "face_cnn", "dcgan"])
def test_each_epoch_leaves_the_variance_of_its_latents(family: str, tiny_config: MakeConfig) -> None:
    config = tiny_config(family, max_epochs=1.25, max_steps=None, ema=EMAConfig(half_life_images=50))
    trained = train(config)
    if family == "dcgan":
        assert read_latent_history(Path(config.run)) is None
        return
    history = history_of(config)
    epoch_size = history.images_seen[0]
    assert history.images_seen.tolist() == [epoch_size, trained.images_seen]
    assert history.epochs.tolist() == [1, trained.images_seen / epoch_size]
    assert (history.split, history.count.tolist()) == ("val", [20, 20])
    batch = next(evaluation_batches(Dataset(config.data), "val", 20))
    with torch.no_grad():
        mu, logvar = load(config.run).posterior(to_float(batch.images), batch.labels)  # The moving average's.
    np.testing.assert_allclose(history.mean[-1], mu.double().mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(history.variance[-1], np.var(mu.double().numpy(), axis=0), rtol=1e-5, atol=1e-9)
    assert (history.kl is None) == (logvar is None)
    if history.kl is not None and logvar is not None:
        np.testing.assert_allclose(history.kl[-1], kl_per_dim(mu, logvar).mean(0), rtol=1e-4, atol=1e-6)
    events = EventAccumulator(config.run).Reload()
    assert [event.step for event in events.Images("latent_usage")] == [trained.images_seen]


def test_a_crash_leaves_the_history_as_one_run_would(tiny_config: MakeConfig, tmp_path: Path) -> None:
    options = {"max_steps": 26, "checkpoint": CheckpointConfig(every_images=16 * 20)}
    whole = tiny_config(run=str(tmp_path / "whole"), **options)
    train(whole)
    config = tiny_config(**options)
    with pytest.raises(Crash):
        train(config, crash_after(25))  # Beyond the second epoch, after 24 steps, and back to within it.
    assert history_of(config).epochs.tolist() == [1, 2]
    with pytest.raises(Crash):
        train(config, crash_after(21))
    assert history_of(config).epochs.tolist() == [1]
    train(config)
    assert_same_history(history_of(config), history_of(whole))


def test_a_damaged_history_starts_anew(tiny_config: MakeConfig) -> None:
    options = {"max_steps": None, "checkpoint": CheckpointConfig(every_images=96)}
    config = tiny_config(max_epochs=1, **options)
    train(config)
    path = Path(config.run) / "latent_usage.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="latent_usage.safetensors is damaged"):
        train(tiny_config(max_epochs=2, **options))
    assert history_of(config).epochs.tolist() == [2]


def test_images_that_validation_encoded_are_not_encoded_again(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[bool] = []

    def counted(*args: Any, only_encode: bool) -> Any:
        passes.append(only_encode)
        return validate(*args, only_encode=only_encode)

    monkeypatch.setattr("facegen.reporting.reporter.validate", counted)
    monitor = MonitorConfig(validate_every_images=384, num_validation_images=20)
    config = tiny_config(max_epochs=2.5, max_steps=None, monitor=monitor)
    train(config)
    # The first look; epoch 1; validation and epoch 2; validation and the end.
    assert passes == [False, True, False, False]
    assert history_of(config).epochs.tolist() == [1, 2, 2.5]


def test_a_signal_while_encoding_leaves_that_epoch_out(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_epochs=2, max_steps=None)
    right = VAE.posterior

    def signaled(self: VAE, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return right(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "posterior", signaled)
        stopped = train(config)
    assert stopped.exit_code == 143
    assert read_latent_history(Path(config.run)) is None
    assert train(config).exit_code == 0
    assert history_of(config).images_seen.tolist() == [2 * stopped.images_seen]


def test_training_faces_stand_in_for_missing_held_out_ones(tiny_config: MakeConfig, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    fractions = ["--val_fraction", "0", "--test_fraction", "0"]
    pack(["synthetic", data, "--num", "64", "--size", "16", "--workers", "1", *fractions])
    config = tiny_config(data=data, max_steps=1)
    train(config)
    assert (history_of(config).split, history_of(config).count.tolist()) == ("train", [20])
