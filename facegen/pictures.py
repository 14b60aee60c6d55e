"""The pictures of a run in progress: reconstructions beside originals, and samples of always the same latents."""

from __future__ import annotations

import torch
from torch import Tensor

from facegen.families import Family
from facegen.pixels import grid, to_float, to_uint8
from facegen.randomness import derive_seed


@torch.inference_mode()
def reconstruction_grid(family: Family, images: Tensor, labels: dict[str, Tensor], num_columns: int = 8) -> Tensor:
    """Rows of originals, each above the row of their reconstructions.

    Args:
        family: In eval mode; encodes and decodes.
        images: uint8, N x H x W x C.
        labels: Of these images.
        num_columns: Images in a row.

    Returns:
        A picture, uint8 height x width x C, on the CPU.
    """
    device = next(family.parameters()).device
    on_device = {name: label.to(device) for name, label in labels.items()}
    mu, _ = family.posterior(to_float(images.to(device)), on_device)
    reconstructions = to_uint8(family.decode(mu, on_device)).cpu()
    rows = zip(images.split(num_columns), reconstructions.split(num_columns), strict=True)
    return grid(torch.cat([part for pair in rows for part in pair]), num_columns)


@torch.inference_mode()
def sample_grid(family: Family, num: int, seed: int, num_columns: int = 8) -> Tensor:
    """Samples of the prior, the same latents at every call; uint8 height x width x C on the CPU."""
    device = next(family.parameters()).device
    generator = torch.Generator().manual_seed(derive_seed(seed, "sample_grid"))
    latents = torch.randn(num, family.latent_size or 0, generator=generator).to(device)
    return grid(to_uint8(family.decode(latents, {})).cpu(), num_columns)
