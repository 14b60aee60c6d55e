"""Streamed principal components are those of the whole covariance, on any number of processes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facegen.latents import streaming_pca
from facegen.latents.streaming_pca import principal_components
from facegen.networks.patches import Grid

WHOLE, PATCHES = Grid(1, 1, 1, 10, 12), Grid(1, 2, 3, 5, 4)


@pytest.fixture(autouse=True)
def randomized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole images take two randomized passes, patches the one that keeps their covariance."""
    monkeypatch.setattr(streaming_pca, "MAX_FULL_VALUES", 20)
    monkeypatch.setattr(streaming_pca, "_OVERSAMPLING", 30)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    scales = 0.8 ** torch.arange(120)
    rotation = torch.linalg.qr(torch.randn(120, 120, generator=generator))[0]
    return (0.3 + (torch.randn(500, 120, generator=generator) * scales) @ rotation).reshape(500, 1, 10, 12)


def covariance(images: Tensor, grid: Grid) -> Tensor:
    columns = grid.split(images - images.mean(0)).permute(0, 2, 3, 1).reshape(-1, grid.num_values).double()
    return columns.T @ columns / len(columns)


@pytest.mark.parametrize("grid", [WHOLE, PATCHES])
def test_they_are_the_eigenvectors_of_the_covariance(images: Tensor, grid: Grid) -> None:
    found = principal_components(lambda: images.split(64), grid, 10)
    whole = covariance(images, grid)
    variances = torch.linalg.eigvalsh(whole).flip(0)
    torch.testing.assert_close(found.mean, images.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.variances.double(), variances[:10], rtol=1e-4, atol=1e-9)
    assert found.residual == pytest.approx(float(variances[10:].mean()), rel=1e-4)
    directions = found.directions.double()
    torch.testing.assert_close(directions.T @ directions, torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole @ directions, directions * variances[:10], rtol=0, atol=2e-3 * float(variances[0]))
    assert (directions.gather(0, directions.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("grid", [WHOLE, PATCHES])
def test_processes_find_what_one_finds(images: Tensor, grid: Grid) -> None:
    alone = principal_components(lambda: images.split(50), grid, 8)
    halves = images[:200], images[200:]
    # Both processes in one: the sums of the second are those that the first adds in its place.
    sums: list[Tensor] = []
    principal_components(lambda: halves[1].split(50), grid, 8, reduce=lambda value: sums.append(value.clone()) or value)
    if grid is PATCHES:
        others = iter(sums)
        together = principal_components(lambda: halves[0].split(50), grid, 8, reduce=lambda value: value + next(others))
        torch.testing.assert_close(together.variances, alone.variances, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(together.directions, alone.directions, rtol=0, atol=1e-5)
    first_pass = sums[: len(sums) // (1 if grid is PATCHES else 2)]
    expected = grid.split(halves[1]).double().sum(0).flatten(1)
    torch.testing.assert_close(first_pass[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.6])
@pytest.mark.parametrize("grid", [WHOLE, Grid(1, 1, 1, 12, 10), Grid(2, 1, 1, 10, 6), Grid(1, 1, 1, 24, 5), PATCHES])
def test_mirror_images_count(images: Tensor, grid: Grid, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming_pca, "_SHARE", share)
    monkeypatch.setattr(streaming_pca, "_MARGIN", 2)
    shape = (grid.channels, grid.rows * grid.height, grid.columns * grid.width)
    # Nearly symmetric images: most of the leading components are even.
    images = images.reshape(-1, *shape)
    images = images + 0.7 * images.flip(3)
    both = torch.cat([images, images.flip(3)])
    found = principal_components(lambda: images.split(64), grid, 16, mirrored=True)
    expected = principal_components(lambda: both.split(64), grid, 16)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.variances, expected.variances, rtol=1e-4, atol=1e-9)
    assert found.residual == pytest.approx(expected.residual, rel=1e-3)
    assert (found.directions * expected.directions).sum(0).abs().min() > 0.99


def test_images_of_few_dims_have_no_further_variance() -> None:
    generator = torch.Generator().manual_seed(1)
    flat = torch.randn(100, 3, generator=generator) @ torch.randn(3, 120, generator=generator)
    found = principal_components(lambda: flat.reshape(100, 1, 10, 12).split(25), WHOLE, 6)
    assert len(found.variances) == found.directions.shape[1] == 3
    assert found.residual < 1e-6 * found.variances[0]


def test_what_has_no_components() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        principal_components(lambda: [], WHOLE, 3)
    with pytest.raises(ValueError, match="a patch of 120 values has no 121"):
        principal_components(lambda: [], WHOLE, 121)
