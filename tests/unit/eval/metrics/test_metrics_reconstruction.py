"""Reconstruction metrics: by hand, per image, and on degraded images."""

from __future__ import annotations

import math

import pytest
import torch

from eval.metrics.reconstruction import ReconstructionSums


def means_of(originals: torch.Tensor, reconstructions: torch.Tensor, num_batches: int = 1) -> dict[str, float]:
    merged = ReconstructionSums()
    for original, reconstruction in zip(originals.chunk(num_batches), reconstructions.chunk(num_batches), strict=True):
        rank = ReconstructionSums()
        rank.update(original, reconstruction)
        merged = merged.merge(rank)
    return merged.means()


def random_images(num: int, size: int = 32) -> torch.Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def test_a_constant_error_by_hand():
    images = random_images(4)
    means = means_of(images, images + 0.1)
    assert means["mse"] == pytest.approx(0.01, rel=1e-4)
    assert means["mse_unit"] == pytest.approx(0.0025, rel=1e-4)
    assert means["psnr"] == pytest.approx(-10 * math.log10(0.0025), rel=1e-4)


def test_a_perfect_reconstruction():
    images = random_images(2)
    assert means_of(images, images) == {"mse": 0, "mse_unit": 0, "psnr": 100, "ssim": pytest.approx(1)}


def test_psnr_is_the_mean_over_images_not_of_their_mean_error():
    images = random_images(2)
    errors = torch.tensor([0.1, 0.01]).reshape(2, 1, 1, 1)
    expected = (-10 * math.log10(0.05**2) - 10 * math.log10(0.005**2)) / 2
    assert means_of(images, images + errors)["psnr"] == pytest.approx(expected, rel=1e-4)


def test_mse_takes_the_output_as_it_is_and_psnr_what_a_viewer_sees():
    white = torch.ones(1, 3, 16, 16)
    means = means_of(white, white * 3)
    assert means["mse"] == pytest.approx(4)
    assert means["psnr"] == 100


def test_batches_and_ranks_do_not_change_the_numbers():
    images = random_images(10)
    noisy = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    whole, parts = means_of(images, noisy), means_of(images, noisy, num_batches=4)
    assert parts == pytest.approx(whole, rel=1e-6)
    assert whole["ssim"] < 0.99


def test_small_images_have_no_ssim():
    images = random_images(2, size=8)
    assert set(means_of(images, images)) == {"mse", "mse_unit", "psnr"}
