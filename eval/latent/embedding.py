"""A map of the latent space: t-SNE of mu (van der Maaten and Hinton 2008)."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from shards.base.errors import UserError

MAX_POINTS = 20_000
_NUM_COMPONENTS = 50
"""Principal components that t-SNE works on, as its authors do; distances lose little and the search gains much."""


def embed(latents: np.ndarray, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Lays latents out in the plane.

    Args:
        latents: float (N, L).
        perplexity: About how many neighbors each point keeps; below N.
        seed: Of the optimization.

    Returns:
        float32 (N, 2). Neighborhoods mean something; distances between far groups, and their sizes, do not.

    Raises:
        UserError: Too few latents for the perplexity.
    """
    if len(latents) <= perplexity:
        raise UserError(f"{len(latents)} images are too few for a perplexity of {perplexity:g}; give a smaller one.")
    points = latents.astype(np.float32)
    num_components = min(_NUM_COMPONENTS, len(latents))
    if latents.shape[1] > num_components:
        # Not all components as eval.latent.pca finds them: of thousands of dims that takes minutes.
        points = PCA(num_components, random_state=seed).fit_transform(points)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
