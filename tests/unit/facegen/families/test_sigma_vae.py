"""The sigma-VAE: a decoder variance that is learned or follows the training MSE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facegen.families import Family
from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.vae import MIN_VARIANCE, OBSERVATION_WEIGHT, VAE, VAEConfig
from facegen.losses.vae import gaussian_nll
from facegen.model import load
from facegen.networks.conv_config import ConvNetConfig
from facegen.networks.variance import LOG_SIGMA_UNIT
from facegen.optimization.optim import Updater
from facegen.options import CheckpointConfig, EMAConfig, OptimConfig, TrainConfig
from facegen.randomness import SlotRandom
from facegen.training.trainer import Trainer
from tiny_families import IMAGE, tiny_family

NUM_PIXELS = IMAGE.num_pixels


def sigma_options(kind: str) -> dict[str, Any]:
    return {"decoder_sigma": kind, "kld_weight": 1.0, "reconstruction": "sum"}


def make(kind: str) -> Any:
    """Without batch norm, so that losses in training mode can be calculated by hand."""
    return tiny_family("vae", **sigma_options(kind), network=ConvNetConfig(widths=[8, 16], norm="none"))


def set_variance(family: Any, variance: float) -> None:
    """Sets the learned variance, including its minimum, to this value."""
    log_sigma = 0.5 * torch.tensor(variance - MIN_VARIANCE, dtype=torch.float64).log()
    family.networks["autoencoder"].variance.scaled_log_sigma.data = (log_sigma / LOG_SIGMA_UNIT).float()


def losses(family: Family, num: int = 8, part: slice | None = None) -> TurnLosses:
    images = torch.rand(num, *IMAGE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    slots = part or slice(0, num)
    batch = TrainBatch(images[slots], {}, SlotRandom(0, 0, slots, num), 0)
    return family.losses("autoencoder", dict(family.networks.items()), batch)


@pytest.mark.parametrize("kind", ["learned", "analytic"])
def test_the_objective_is_the_negative_elbo_in_nats(kind: str) -> None:
    family = make(kind)
    if kind == "learned":
        set_variance(family, 0.3)
    else:
        family.observed_mse.fill_(0.3)
    terms = losses(family)
    squared_error = terms.scalars["mse"] * NUM_PIXELS
    torch.testing.assert_close(terms.loss, gaussian_nll(squared_error, 0.3, NUM_PIXELS) + terms.scalars["kl"])
    assert terms.scalars["decoder_sigma"].item() == pytest.approx(0.3**0.5, rel=1e-5)
    assert terms.scalars["beta_eff"].item() == pytest.approx(0.3, rel=1e-5)
    assert family.decoder_variance == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize(("factor", "sign"), [(0.5, -1), (1.0, 0), (2.0, 1)])
def test_the_best_learned_variance_is_the_mse(factor: float, sign: int) -> None:
    family = make("learned")
    mse = losses(family).scalars["mse"].item()
    set_variance(family, factor * mse)
    losses(family).loss.backward()
    gradient = family.networks["autoencoder"].variance.scaled_log_sigma.grad.item()
    # d NLL / d log sigma = num_pixels * (1 - MSE / sigma^2), in the parameter's unit.
    expected = LOG_SIGMA_UNIT * NUM_PIXELS * (1 - 1 / factor)
    assert gradient == pytest.approx(expected, rel=1e-3, abs=1e-3 * LOG_SIGMA_UNIT * NUM_PIXELS)
    assert sign == 0 or gradient * sign > 0


def test_perfect_reconstructions_keep_the_likelihood_finite() -> None:
    family = make("learned")
    family.networks["autoencoder"].variance.scaled_log_sigma.data.fill_(-100.0)
    assert family.decoder_variance == pytest.approx(MIN_VARIANCE)
    family = make("analytic")
    family.observed_mse.zero_()
    assert family.decoder_variance == pytest.approx(MIN_VARIANCE)


def test_the_analytic_variance_follows_the_observed_mse() -> None:
    family = make("analytic")
    assert family.observes == ("mse",)
    assert family.decoder_variance == 1.0
    family.observe({"mse": 0.2})
    assert family.decoder_variance == pytest.approx(1 + OBSERVATION_WEIGHT * (0.2 - 1))
    for _ in range(100):
        family.observe({"mse": 0.2})
    assert family.decoder_variance == pytest.approx(0.2, rel=1e-3)


def test_a_fixed_variance_observes_nothing_and_has_no_state() -> None:
    family = tiny_family("vae")
    assert family.observes == ()
    assert not [name for name in family.state_dict() if "variance" in name or "mse" in name]


@pytest.mark.parametrize("kind", ["learned", "analytic"])
def test_losses_do_not_depend_on_how_the_batch_is_cut(kind: str) -> None:
    # With the paper's sigma^2, the MSE of each part, they would.
    family = make(kind)
    whole = losses(family)
    parts = [losses(family, part=slice(start, start + 2)) for start in range(0, 8, 2)]
    torch.testing.assert_close(torch.stack([part.loss for part in parts]).mean(), whole.loss)
    torch.testing.assert_close(
        torch.stack([part.scalars["decoder_sigma"] for part in parts]).mean(), whole.scalars["decoder_sigma"]
    )


def test_the_learned_variance_converges_to_the_mse() -> None:
    family = make("learned")
    updater = Updater(family.networks["autoencoder"], OptimConfig(lr=0.003), torch.device("cpu"), False)
    for _ in range(250):
        terms = losses(family)
        updater.backward(terms.loss)
        updater.step(0.003)
    assert family.decoder_variance == pytest.approx(terms.scalars["mse"].item(), rel=0.1)
    assert family.decoder_variance < 0.5


@pytest.mark.parametrize("kind", ["learned", "analytic"])
def test_resume_and_snapshot_keep_the_variance(
    kind: str, tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    def train(run: str, max_steps: int) -> Trainer:
        trainer = Trainer(
            tiny_config(
                model=sigma_options(kind),
                run=str(tmp_path / run),
                max_steps=max_steps,
                ema=EMAConfig(half_life_images=16),
                checkpoint=CheckpointConfig(every_images=32),
            )
        )
        trainer.fit()
        return trainer

    at_once = train("once", 4).family
    train("parts", 2)
    resumed = train("parts", 4).family
    for name, tensor in at_once.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert at_once.decoder_variance != 1
    assert load(tmp_path / "parts", weights="raw").decoder_variance == at_once.decoder_variance
    assert load(tmp_path / "parts", weights="ema").decoder_variance != 1


@pytest.mark.parametrize("options", [{"kld_weight": 0.5}, {"reconstruction": "mean"}])
def test_options_that_would_be_ignored_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set kld_weight 1 and reconstruction sum, not"):
        VAEConfig(**sigma_options("learned") | options)


def test_a_network_without_a_variance_is_refused() -> None:
    class Other(VAE):
        def make_network(self) -> torch.nn.Module:
            return torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match="use decoder_sigma analytic or fixed"):
        Other(VAEConfig(**sigma_options("learned")), IMAGE)
