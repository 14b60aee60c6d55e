"""Principal components of images or of their patches, streamed: memory does not grow with the number of images.

Randomized subspace iteration (Halko, Martinsson and Tropp 2011): pass 1 multiplies the covariance by random
directions, pass 2 by an orthonormal basis of the result, from which the components follow by the Nyström method (Tropp
et al. 2017). Small patches need one pass: their whole covariance fits. Sums are float64 and merge across processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from facegen.networks.patches import Grid, PrincipalComponents

MAX_FULL_VALUES = 1024
"""Patches of at most so many values take the one pass that keeps their whole covariance."""
_OVERSAMPLING = 64
"""Random directions beside those that are asked for; more make the last components more exact."""

_ROUNDING = 1e-7

Batches = Callable[[], Iterable[Tensor]]
Reduce = Callable[[Tensor], Tensor]


@dataclass
class _Moments:
    """Sums over patches x, float64: x for each place, x x^T Q, |x|^2, and the number of images."""

    basis: Tensor
    image_sum: Tensor
    product: Tensor
    square: Tensor
    num_images: Tensor

    @classmethod
    def zeros(cls, grid: Grid, basis: Tensor) -> _Moments:
        shapes = ((grid.num_values, grid.rows, grid.columns), basis.shape, (), ())
        return cls(basis, *(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, patches: Tensor) -> None:
        """Adds N x num_values x rows x columns."""
        columns = patches.permute(0, 2, 3, 1).reshape(-1, patches.shape[1])
        # Sums on the CPU: Apple's GPUs have no float64.
        self.image_sum += patches.sum(0).cpu()
        self.product += (columns.T @ (columns @ self.basis)).cpu()
        self.square += patches.square().sum((1, 2, 3)).cpu().double().sum()
        self.num_images += len(patches)

    def merge(self, reduce: Reduce) -> _Moments:
        """Sums over processes."""
        sums = (reduce(value) for value in (self.image_sum, self.product, self.square, self.num_images))
        return _Moments(self.basis, *sums)

    def centered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean patch of each place, covariance times the basis, and the total variance of a patch."""
        mean = self.image_sum / self.num_images
        places = mean.flatten(1)
        scale = self.num_images * places.shape[1]
        basis = self.basis.cpu().double()
        product = self.product / scale - places @ (places.T @ basis) / places.shape[1]
        return mean, product, self.square / scale - places.square().sum() / places.shape[1]


@torch.no_grad()
def principal_components(
    batches: Batches,
    grid: Grid,
    num_components: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    reduce: Reduce = lambda value: value,
) -> PrincipalComponents:
    """The leading principal components of patches, around the mean image.

    Args:
        batches: Starts a pass: float32 images N x C x H x W in [-1, 1], this process's share, the same in every pass.
        grid: How images are cut; a grid of 1 x 1 takes them whole.
        num_components: K, at most ``grid.num_values``.
        seed: Of the random directions.
        device: Where to compute.
        reduce: Sums a tensor over all processes.

    Returns:
        Components on the CPU, each with its largest entry positive; the same on every process to float64 rounding.
        Fewer than asked for where images have fewer dims.

    Raises:
        ValueError: No images, or more components than a patch has values.
    """
    if not 0 < num_components <= grid.num_values:
        raise ValueError(f"a patch of {grid.num_values} values has no {num_components} principal components.")
    is_full = grid.num_values <= MAX_FULL_VALUES
    if is_full:
        basis = torch.eye(grid.num_values, device=device)
    else:
        size = min(grid.num_values, num_components + _OVERSAMPLING)
        generator = torch.Generator().manual_seed(seed)
        basis = torch.randn(grid.num_values, size, generator=generator).to(device)
        _, product, _ = _one_pass(batches, grid, basis, reduce)
        basis = torch.linalg.qr(product)[0].float().to(device)
    mean, product, total = _one_pass(batches, grid, basis, reduce)
    directions, variances = _nystrom(basis.cpu().double(), product)
    num_found = min(num_components, len(variances))
    directions, variances = directions[:, :num_found], variances[:num_found]
    left_out = grid.num_values - num_found
    residual = float((total - variances.sum()).clamp(min=0)) / left_out if left_out else 0.0
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * largest.sign()
    image = grid.join(mean[None].float())[0]
    return PrincipalComponents(image, directions.float(), variances.float(), residual)


def _one_pass(batches: Batches, grid: Grid, basis: Tensor, reduce: Reduce) -> tuple[Tensor, Tensor, Tensor]:
    moments = _Moments.zeros(grid, basis)
    for images in batches():
        moments.add(grid.split(images.to(basis.device)))
    merged = moments.merge(reduce)
    if not merged.num_images:
        raise ValueError("principal components need at least one image.")
    return merged.centered()


def _nystrom(basis: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors and eigenvalues, falling, of a positive matrix C from an orthonormal Q and C Q (float64)."""
    inner = basis.T @ product
    weights, vectors = torch.linalg.eigh((inner + inner.T) / 2)
    # Products of float32 images: what is smaller than their rounding is nothing, and may be negative.
    kept = weights > _ROUNDING * weights.max()
    half = product @ (vectors[:, kept] / weights[kept].sqrt())
    directions, singular, _ = torch.linalg.svd(half, full_matrices=False)
    return directions, singular.square()
