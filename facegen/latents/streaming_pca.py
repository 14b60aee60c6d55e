"""Principal components of images or of their patches, streamed: memory does not grow with the number of images.

Randomized subspace iteration (Halko, Martinsson and Tropp 2011): pass 1 multiplies the covariance by random
directions, pass 2 by an orthonormal basis of the result, from which the components follow by the Nyström method (Tropp
et al. 2017). Small patches need one pass: their whole covariance fits. Sums are float64 and merge across processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from facegen.latents import mirror
from facegen.networks.patches import Grid, PrincipalComponents

MAX_FULL_VALUES = 1024
"""Patches of at most so many values take the one pass that keeps their whole covariance."""
_OVERSAMPLING = 64
"""Random directions beside those that are asked for; more make the last components more exact."""
_SHARE, _MARGIN = 0.58, 32
"""Of the components, how many are searched for among the even and among the odd ones at first."""
_ROUNDING = 1e-7

Batches = Callable[[], Iterable[Tensor]]
Reduce = Callable[[Tensor], Tensor]


class _Part(NamedTuple):
    """A block of the covariance, and the patches that it belongs to."""

    num_values: int
    num_places: int
    patches: Callable[[Tensor], Tensor]
    """Images N x C x H x W to N x num_values x num_places."""
    has_mean: bool = True
    """Whether the mean may differ from zero."""


@dataclass
class _Moments:
    """Sums over patches x, float64: x for each place, x x^T Q, |x|^2, and the number of images."""

    part: _Part
    basis: Tensor
    image_sum: Tensor
    product: Tensor
    square: Tensor
    num_images: Tensor

    @classmethod
    def zeros(cls, part: _Part, basis: Tensor) -> _Moments:
        shapes = ((part.num_values, part.num_places), basis.shape, (), ())
        return cls(part, basis, *(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, images: Tensor) -> None:
        """Adds N x C x H x W."""
        patches = self.part.patches(images)
        columns = patches.transpose(1, 2).flatten(0, 1)
        # Sums on the CPU: Apple's GPUs have no float64.
        if self.part.has_mean:
            self.image_sum += patches.sum(0).cpu()
        self.product += (columns.T @ (columns @ self.basis)).cpu()
        self.square += patches.square().sum((1, 2)).cpu().double().sum()
        self.num_images += len(patches)

    def merge(self, reduce: Reduce) -> _Moments:
        """Sums over processes."""
        sums = (reduce(value) for value in (self.image_sum, self.product, self.square, self.num_images))
        return _Moments(self.part, self.basis, *sums)

    def centered(self) -> tuple[Tensor, Tensor, float]:
        """Mean patch of each place, covariance times the basis, and the total variance of a patch."""
        mean = self.image_sum / self.num_images
        scale = self.num_images * self.part.num_places
        basis = self.basis.cpu().double()
        product = self.product / scale - mean @ (mean.T @ basis) / self.part.num_places
        return mean, product, float(self.square / scale - mean.square().sum() / self.part.num_places)


class _Found(NamedTuple):
    """What is known of one part."""

    mean: Tensor
    """num_values x num_places."""
    directions: Tensor
    variances: Tensor
    total: float
    """Variance of a patch, with that of the directions left out."""


@torch.no_grad()
def principal_components(
    batches: Batches,
    grid: Grid,
    num_components: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    reduce: Reduce = lambda value: value,
    mirrored: bool = False,
) -> PrincipalComponents:
    """The leading principal components of patches, around the mean image.

    Args:
        batches: Starts a pass: float32 images N x C x H x W in [-1, 1], this process's share, the same in every pass.
        grid: How images are cut; a grid of 1 x 1 takes them whole.
        num_components: K, at most ``grid.num_values``.
        seed: Of the random directions.
        device: Where to compute.
        reduce: Sums a tensor over all processes.
        mirrored: Whether the mirror image of each image counts, too.

    Returns:
        Components on the CPU, each with its largest entry positive; the same on every process to float64 rounding.
        Fewer than asked for where images have fewer dims.

    Raises:
        ValueError: No images, or more components than a patch has values.
    """
    if not 0 < num_components <= grid.num_values:
        raise ValueError(f"a patch of {grid.num_values} values has no {num_components} principal components.")

    def find(parts: list[_Part], num: int) -> list[_Found]:
        return _search(batches, parts, num, torch.Generator().manual_seed(seed), torch.device(device), reduce)

    if mirrored and grid.rows == grid.columns == 1 and not grid.width % 2:
        mean, directions, variances, total = _find_halves(find, grid, num_components)
    else:
        (part,) = find(
            [_Part(grid.num_values, grid.rows * grid.columns, partial(_cut, grid, mirrored))], num_components
        )
        mean = grid.join(part.mean.reshape(1, grid.num_values, grid.rows, grid.columns).float())[0]
        directions, variances, total = part.directions, part.variances, part.total
    num_found = min(num_components, len(variances))
    directions, variances = directions[:, :num_found], variances[:num_found]
    left_out = grid.num_values - num_found
    residual = max(0.0, total - float(variances.sum())) / left_out if left_out else 0.0
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * largest.sign()
    return PrincipalComponents(mean, directions.float(), variances.float(), residual)


def _cut(grid: Grid, mirrored: bool, images: Tensor) -> Tensor:
    return grid.split(torch.cat([images, images.flip(3)]) if mirrored else images).flatten(2)


def _find_halves(
    find: Callable[[list[_Part], int], list[_Found]], grid: Grid, num_components: int
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Mean image, directions, variances and total variance of whole images with their mirror images."""
    size, shape = grid.num_values // 2, (grid.channels, grid.height, grid.width)
    parts = [
        _Part(size, 1, lambda images: mirror.halves(images)[0][:, :, None]),
        _Part(size, 1, lambda images: mirror.halves(images)[1][:, :, None], has_mean=False),
    ]
    # Faces have about as many even components as odd ones, so half of them, and a margin, are searched for in each.
    for num in (min(size, math.ceil(_SHARE * num_components) + _MARGIN), min(size, num_components)):
        found = find(parts, num)
        variances = torch.cat([half.variances for half in found])
        weakest = variances.sort(descending=True).values[:num_components][-1]
        if all(len(half.variances) < num or half.variances[-1] <= weakest for half in found):
            break  # Otherwise one half may have more components as strong as these.
    both = [mirror.whole(half.directions.T, shape, sign) for half, sign in zip(found, (1, -1), strict=True)]
    order = variances.argsort(descending=True, stable=True)
    mean = mirror.whole(found[0].mean.T, shape, 1).reshape(shape)
    return mean.float(), torch.cat(both)[order].T, variances[order], sum(half.total for half in found)


def _search(
    batches: Batches, parts: list[_Part], num: int, generator: torch.Generator, device: torch.device, reduce: Reduce
) -> list[_Found]:
    """The leading directions of each part, in one pass where all are small, else in two."""
    if all(part.num_values <= MAX_FULL_VALUES for part in parts):
        bases = [torch.eye(part.num_values, device=device) for part in parts]
    else:
        sizes = [(part.num_values, min(part.num_values, num + _OVERSAMPLING)) for part in parts]
        bases = [torch.randn(size, generator=generator).to(device) for size in sizes]
        sketches = [product for _, product, _ in _one_pass(batches, parts, bases, reduce)]
        bases = [torch.linalg.qr(sketch)[0].float().to(device) for sketch in sketches]
    found = []
    for basis, (mean, product, total) in zip(bases, _one_pass(batches, parts, bases, reduce), strict=True):
        directions, variances = _nystrom(basis.cpu().double(), product)
        found.append(_Found(mean, directions[:, :num], variances[:num], total))
    return found


def _one_pass(
    batches: Batches, parts: list[_Part], bases: list[Tensor], reduce: Reduce
) -> list[tuple[Tensor, Tensor, float]]:
    moments = [_Moments.zeros(part, basis) for part, basis in zip(parts, bases, strict=True)]
    for images in batches():
        for moment in moments:
            moment.add(images.to(moment.basis.device))
    merged = [moment.merge(reduce) for moment in moments]
    if not merged[0].num_images:
        raise ValueError("principal components need at least one image.")
    return [moment.centered() for moment in merged]


def _nystrom(basis: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors and eigenvalues, falling, of a positive matrix C from an orthonormal Q and C Q (float64)."""
    inner = basis.T @ product
    weights, vectors = torch.linalg.eigh((inner + inner.T) / 2)
    # Products of float32 images: what is smaller than their rounding is nothing, and may be negative.
    kept = weights > _ROUNDING * weights.max()
    half = product @ (vectors[:, kept] / weights[kept].sqrt())
    directions, singular, _ = torch.linalg.svd(half, full_matrices=False)
    return directions, singular.square()
