"""Numeric checks of the loss terms, and a test for each mistake of a reference implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from facegen.losses.terms import Term, values, weighted_sum
from facegen.losses.vae import (
    beta_eff,
    gaussian_nll,
    kl_per_dim,
    kl_scale,
    reconstruction_error,
    reparameterize,
    warmup_factor,
)


def kl_of(mu: float, logvar: float, num_dims: int = 10) -> float:
    return kl_per_dim(torch.full((1, num_dims), mu), torch.full((1, num_dims), logvar)).sum().item()


@pytest.mark.parametrize(("mu", "logvar", "expected"), [(0, 0, 0.0), (1, 0, 5.0), (1, 1, 8.591)])
def test_kl_of_ten_dims(mu: float, logvar: float, expected: float) -> None:
    assert kl_of(mu, logvar) == pytest.approx(expected, abs=5e-4)


def test_kl_is_that_of_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, 50, 7, generator=generator)
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0, 1))
    torch.testing.assert_close(kl_per_dim(mu, logvar), expected)


def test_the_variance_takes_one_exponential() -> None:
    # One reference used exp(exp(logvar)) as the variance: at sigma^2 = 0.5671 that gives 0.6652 nats per dim.
    logvar = math.log(0.5671)
    assert kl_of(0, logvar, 1) == pytest.approx(0.0671, abs=1e-4)
    twice = -0.5 * (1 + logvar - math.exp(math.exp(logvar)))
    assert twice == pytest.approx(0.6652, abs=5e-4)


def test_sampling_and_kl_interpret_logvar_alike() -> None:
    # One reference sampled with the output as log sigma and computed the KL with it as log sigma^2.
    logvar = torch.full((200_000, 1), 0.8)
    samples = reparameterize(torch.full_like(logvar, 0.3), logvar, normal(logvar.shape))
    sampled = Normal(samples.mean(), samples.std())
    assert kl_of(0.3, 0.8, 1) == pytest.approx(kl_divergence(sampled, Normal(0, 1)).item(), rel=0.02)


def test_reparameterized_noise_is_scaled_by_sigma_and_shifted_by_mu() -> None:
    noise = normal((100_000, 1))
    samples = reparameterize(torch.full_like(noise, 2.0), torch.full_like(noise, math.log(0.25)), noise)
    assert samples.mean().item() == pytest.approx(2.0, abs=0.01)
    assert samples.var().item() == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize(("logvar", "clamped"), [(25.0, 20.0), (1e9, 20.0), (-31.0, -30.0), (-1e9, -30.0)])
def test_logvar_is_clamped_in_both_places(logvar: float, clamped: float) -> None:
    assert kl_of(0, logvar) == kl_of(0, clamped)
    mu, noise = torch.zeros(1, 1), torch.ones(1, 1)
    sample = reparameterize(mu, torch.full((1, 1), logvar), noise)
    assert sample.item() == pytest.approx(math.exp(clamped / 2))


def test_reconstruction_error_of_known_images() -> None:
    images = torch.zeros(2, 3, 4, 5)
    reconstructions = torch.stack([torch.full((3, 4, 5), 1.0), torch.full((3, 4, 5), -0.5)])
    assert reconstruction_error(images, reconstructions, "mean").tolist() == [1.0, 0.25]
    assert reconstruction_error(images, reconstructions, "sum").tolist() == [60.0, 15.0]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_terms_do_not_change_with_the_batch_size(reduction: str) -> None:
    images, reconstructions = normal((4, 3, 8, 8)), normal((4, 3, 8, 8), seed=1)
    mu, logvar = normal((4, 5)), normal((4, 5), seed=1)
    once = reconstruction_error(images, reconstructions, reduction).mean()  # type: ignore[arg-type]
    thrice = reconstruction_error(images.repeat(3, 1, 1, 1), reconstructions.repeat(3, 1, 1, 1), reduction).mean()  # type: ignore[arg-type]
    torch.testing.assert_close(once, thrice)
    torch.testing.assert_close(
        kl_per_dim(mu, logvar).sum(1).mean(), kl_per_dim(mu.repeat(3, 1), logvar.repeat(3, 1)).sum(1).mean()
    )


# Each published objective as its authors compute it for one image, from the summed squared error, the number of values
# and the summed KL; then the equivalent options here, and the weight on the common scale in the authors' pixels.
PUBLISHED = {
    "pythae": (lambda sse, _, kl: 0.5 * sse + kl, 2.0, "sum", 128, 3 * 64 * 64, 1.0),
    "keras_celeba": (lambda sse, n, kl: 10_000 * sse / n + kl, 200 / 10_000, "mean", 200, 3 * 128 * 128, 2.46),
    "pytorch_vae": (lambda sse, n, kl: sse / n + 0.00025 * kl, 0.00025 * 128, "mean", 128, 3 * 64 * 64, 1.54),
    "lightning_bolts": (lambda sse, n, kl: sse / n + 0.1 * kl / 256, 0.1, "mean", 256, 3 * 32 * 32, 0.6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_beta_eff_of_published_objectives(name: str) -> None:
    objective, kld_weight, reduction, latent_size, num_pixels, expected = PUBLISHED[name]
    ours = beta_eff(kld_weight, reduction, latent_size, num_pixels)  # type: ignore[arg-type]
    # The weight of the KL relative to half a squared error, from the objective itself.
    theirs = objective(0.0, num_pixels, 1.0) / objective(2.0, num_pixels, 0.0)
    assert ours == pytest.approx(theirs)
    assert ours == pytest.approx(expected, abs=0.005)


def test_beta_eff_grows_fourfold_from_unit_pixels_to_ours() -> None:
    # The Keras preset trains on [-1, 1], where errors are twice as large.
    assert beta_eff(0.08, "mean", 200, 3 * 128 * 128) == pytest.approx(4 * 2.4576)


def test_mean_reduction_divides_the_kl_by_the_number_of_dims() -> None:
    assert kl_scale("mean", 32) == 1 / 32
    assert kl_scale("sum", 32) == 1


@pytest.mark.parametrize(
    ("kind", "images_seen", "expected"),
    [
        ("none", 0, 1.0),
        ("linear", 0, 0.0),
        ("linear", 250, 0.25),
        ("linear", 1000, 1.0),
        ("linear", 2250, 1.0),
        ("cyclical", 0, 0.0),
        ("cyclical", 250, 0.25),
        ("cyclical", 1500, 1.0),
        ("cyclical", 1999, 1.0),
        ("cyclical", 2000, 0.0),
        ("cyclical", 2250, 0.25),
    ],
)
def test_warmup(kind: str, images_seen: int, expected: float) -> None:
    assert warmup_factor(kind, images_seen, 0 if kind == "none" else 1000) == expected  # type: ignore[arg-type]


def test_gaussian_nll_is_that_of_torch_distributions() -> None:
    images, means = normal((2, 12)), normal((2, 12), seed=1)
    expected = -Normal(means, math.sqrt(0.3)).log_prob(images).sum(1)
    torch.testing.assert_close(gaussian_nll((images - means).square().sum(1), 0.3, 12), expected)


def test_objective_is_the_nll_and_the_kl_times_the_decoder_variance() -> None:
    # The definition of decoder_variance, up to a constant: beta * (SSE / (2 beta) + KL) = SSE / 2 + beta * KL.
    variance = beta_eff(0.01, "mean", 256, 3 * 64 * 64)
    at = {}
    for squared_error, kl in ((40.0, 12.0), (90.0, 3.0)):
        nll = gaussian_nll(torch.tensor([squared_error]), variance, 3 * 64 * 64).item()
        objective = squared_error / (3 * 64 * 64) + 0.01 * kl / 256
        at[squared_error] = (nll + kl, objective)
    (first_elbo, first_objective), (second_elbo, second_objective) = at.values()
    scale = 2 * variance / (3 * 64 * 64)
    assert scale * (second_elbo - first_elbo) == pytest.approx(second_objective - first_objective, rel=1e-4)


def test_terms_are_weighed_once_and_logged_as_they_are() -> None:
    first, second = torch.tensor(3.0, requires_grad=True), torch.tensor(5.0, requires_grad=True)
    terms = {"first": Term(first), "second": Term(second, 0.1), "off": Term(first * second, 0.0)}
    loss = weighted_sum(terms)
    loss.backward()
    assert (loss.item(), first.grad, second.grad) == (3.5, 1.0, pytest.approx(0.1))
    logged = values(terms)
    assert {name: value.item() for name, value in logged.items()} == {"first": 3.0, "second": 5.0, "off": 15.0}
    assert not any(value.requires_grad for value in logged.values())


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_sum_rounds_as_the_formula_written_out(weight: float) -> None:
    # Runs of older versions resume bitwise.
    for seed in range(20):
        a, b, c = normal((3,), seed).unbind()
        assert weighted_sum({"a": Term(a), "b": Term(b, weight), "c": Term(c, 0.7)}) == a + weight * b + 0.7 * c


def normal(shape: tuple[int, ...] | torch.Size, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
