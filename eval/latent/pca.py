"""Principal components of latents, ordered by the variance they explain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh

from eval.base.large_arrays import column_means, row_blocks
from eval.latent.encode import encode_split
from eval.latent.fitted_files import FittedFile
from eval.latent.origin import Origin
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset

_FILE = FittedFile(
    "file of principal components",
    tensors={"count": 1, "mean": 1, "components": 2, "variances": 1},
    command="python -m eval.traverse --pca",
)
_CHUNK = 8192
"""Latents in memory as float64 at a time."""


@dataclass(frozen=True)
class Pca:
    """A rotation of the latent space around the mean of mu."""

    count: int
    """Images that it was fitted on."""
    mean: np.ndarray
    """float64 (L,)."""
    components: np.ndarray
    """float64 (K, L): orthonormal rows, the most explaining first; K is L unless fewer were asked for."""
    variances: np.ndarray
    """float64 (K,): variance of mu along each component, divided by the count."""
    total_variance: float
    """Of mu, summed over all L dims."""

    @property
    def stds(self) -> np.ndarray:
        """(K,) standard deviation along each component."""
        return np.sqrt(self.variances)

    def project(self, latents: np.ndarray) -> np.ndarray:
        """Latents (N, L) as coordinates along the components (N, K), in the latents' own unit."""
        return (np.asarray(latents, np.float64) - self.mean) @ self.components.T

    def unproject(self, coordinates: np.ndarray) -> np.ndarray:
        """Coordinates (N, K) back as latents (N, L)."""
        return np.asarray(coordinates, np.float64) @ self.components + self.mean


def fit_pca(latents: np.ndarray, num_components: int | None = None) -> Pca:
    """Finds the components.

    Args:
        latents: float (N, L); with N <= L the last components have no variance and complete the basis.
        num_components: Find only the first so many, which takes half the time with thousands of dims; all when None.

    Returns:
        The components. Each one's largest entry is positive, so that its sign does not depend on the machine.
    """
    count, size = latents.shape
    num = min(num_components or size, size)
    mean = column_means(latents)
    scatter = np.zeros((size, size))
    with ProgressLine(f"principal components of {count:,} latents"):
        for chunk in row_blocks(latents, _CHUNK):
            centered = chunk.astype(np.float64) - mean
            scatter += centered.T @ centered
        covariance = scatter / count
        if num == size:
            variances, vectors = np.linalg.eigh(covariance)
        else:
            variances, vectors = eigh(covariance, subset_by_index=(size - num, size - 1))
    components = vectors.T[::-1].copy()
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    # Rounding can leave a variance of 0 slightly negative.
    return Pca(count, mean, components * np.sign(largest), variances[::-1].clip(min=0), float(covariance.trace()))


def split_pca(model: Any, dataset: Dataset, split: str) -> Pca:
    """The components of mu of a whole split."""
    return fit_pca(encode_split(model, dataset, split))


def save_pca(path: str | Path, pca: Pca, origin: Origin) -> None:
    """Writes a safetensors file: count, mean, components, variances, and the origin as metadata."""
    tensors = {
        "count": np.array([pca.count]),
        "mean": pca.mean,
        "components": pca.components,
        "variances": pca.variances,
    }
    _FILE.save(Path(path), tensors, origin)


def load_pca(path: str | Path) -> tuple[Pca, Origin]:
    """Reads what ``save_pca`` wrote.

    Raises:
        UserError: Not such a file, or one that a newer facegen wrote.
    """
    tensors, _, origin = _FILE.load(Path(path))
    shape = (len(tensors["variances"]), len(tensors["mean"]))
    if tensors["components"].shape != shape or len(tensors["count"]) != 1:
        raise _FILE.damaged(Path(path))
    return Pca(int(tensors.pop("count")[0]), **tensors, total_variance=float(tensors["variances"].sum())), origin
