"""Losses and gradients that are not finite end a run before they do harm."""

from __future__ import annotations

import gc
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.vae import VAE
from facegen.options import CheckpointConfig, MonitorConfig
from facegen.processes.failures import TrainingDiverged
from facegen.runs.checkpoint import newest_complete
from facegen.training.trainer import Trainer
from training_runs import RICH, MakeConfig, assert_scalars_equal_events, metrics_of, train


def broken_at(images_seen: int, spoil: Callable[[TurnLosses], TurnLosses]) -> Callable[..., TurnLosses]:
    right = VAE.losses

    def losses(self: VAE, turn: str, networks: Any, batch: TrainBatch) -> TurnLosses:
        terms = right(self, turn, networks, batch)
        return spoil(terms) if batch.images_seen >= images_seen else terms

    return losses


def bad_term(terms: TurnLosses) -> TurnLosses:
    return TurnLosses(terms.loss * math.nan, terms.scalars | {"kl": torch.tensor(math.nan)}, terms.kl_per_dim)


def bad_gradient_only(terms: TurnLosses) -> TurnLosses:
    """A finite loss whose gradient is not: the root of zero."""
    zero = 0 * terms.loss
    return TurnLosses(terms.loss.detach() + zero.abs().sqrt(), terms.scalars, terms.kl_per_dim)


@pytest.mark.parametrize(("spoil", "named"), [(bad_term, "kl, gradient"), (bad_gradient_only, "gradient")])
def test_a_bad_value_stops_before_the_optimizer(
    spoil: Callable[[TurnLosses], TurnLosses], named: str, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        max_steps=8, checkpoint=CheckpointConfig(every_images=32), monitor=MonitorConfig(log_every_images=16), **RICH
    )
    expected = train(tiny_config(max_steps=3, run=f"{config.run}_expected", **RICH))
    trainer = Trainer(config)
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(VAE, "losses", broken_at(48, spoil))
        with pytest.raises(TrainingDiverged, match=f"before step 4 \\(48 images\\): {named} of the autoencoder"):
            trainer.fit()
    for name, parameter in trainer.family.named_parameters():
        assert torch.equal(parameter, expected.tensors[f"weights.{name}"]), name
    assert trainer.images_seen == 48
    assert newest_complete(Path(config.run) / "checkpoints") == Path(config.run) / "checkpoints/images_000000000032"
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [line["images_seen"] // 16 for line in metrics_of(config)] == [1, 2, 3]
    assert_scalars_equal_events(config)
    del trainer
    gc.collect()
    assert train(config).images_seen == 128  # The last checkpoint is good, and the cause is gone.


def bad_constant(terms: TurnLosses) -> TurnLosses:
    """A term without a gradient."""
    return TurnLosses(terms.loss, terms.scalars | {"kl": torch.tensor(math.nan)}, terms.kl_per_dim)


def test_a_bad_term_whose_gradient_is_good_stops_at_the_next_log_line(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        max_steps=8, checkpoint=CheckpointConfig(every_images=32), monitor=MonitorConfig(log_every_images=32), **RICH
    )
    monkeypatch.setattr(VAE, "losses", broken_at(32, bad_constant))
    with pytest.raises(TrainingDiverged, match=r"after step 4 \(64 images\): kl is not finite"):
        train(config)
    assert newest_complete(Path(config.run) / "checkpoints") == Path(config.run) / "checkpoints/images_000000000032"
