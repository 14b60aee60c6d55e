"""The pictures of a run in progress: reconstructions, samples, pairs, and the family's own."""

from __future__ import annotations

import torch
from torch import Tensor

from facegen.families.base import Family
from facegen.pixels import grid, to_float, to_uint8
from facegen.randomness import derive_seed

FRAME_PIXELS = 2


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
    """Samples of the prior, from the same latents at every call; uint8 height x width x C on the CPU."""
    device = next(family.parameters()).device
    generator = torch.Generator().manual_seed(derive_seed(seed, "sample_grid"))
    latents = family.latents_of_noise(torch.randn(num, family.latent_size or 0, generator=generator).to(device))
    return grid(to_uint8(family.decode(latents, {})).cpu(), num_columns)


@torch.inference_mode()
def pair_grid(family: Family, first: Tensor, second: Tensor, same: Tensor, num_columns: int = 4) -> Tensor:
    """Pairs of faces side by side, framed in green where the family is right and in red where it is wrong.

    Args:
        family: In eval mode; verifies.
        first: uint8, N x H x W x C.
        second: The same shape.
        same: N, 1 for the same person and 0 for two.
        num_columns: Pairs in a row.

    Returns:
        A picture, uint8 height x width x C, on the CPU; gray faces are framed in white and black.
    """
    device = next(family.parameters()).device
    probabilities = family.verify(to_float(first.to(device)), to_float(second.to(device))).cpu()
    is_right = (probabilities > 0.5) == same.bool()
    pairs = torch.cat([first, second], dim=2)
    right, wrong = ([0, 160, 0], [220, 0, 0]) if pairs.shape[3] == 3 else ([255], [0])
    frames = torch.where(is_right[:, None], pairs.new_tensor(right), pairs.new_tensor(wrong))[:, None, None]
    framed = frames.expand(-1, pairs.shape[1] + 2 * FRAME_PIXELS, pairs.shape[2] + 2 * FRAME_PIXELS, -1).clone()
    framed[:, FRAME_PIXELS:-FRAME_PIXELS, FRAME_PIXELS:-FRAME_PIXELS] = pairs
    return grid(framed, num_columns)


@torch.inference_mode()
def family_grids(family: Family, images: Tensor, labels: dict[str, Tensor]) -> dict[str, Tensor]:
    """The family's own pictures by name, each uint8 height x width x C on the CPU.

    Args:
        family: In eval mode.
        images: Held-out images, uint8, N x H x W x C.
        labels: Of these images.
    """
    device = next(family.parameters()).device
    on_device = {name: label.to(device) for name, label in labels.items()}
    pictures = family.pictures(to_float(images.to(device)), on_device)
    return {name: grid(to_uint8(picture.images).cpu(), picture.num_columns) for name, picture in pictures.items()}
