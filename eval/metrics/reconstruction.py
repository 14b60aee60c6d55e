"""How close a reconstruction is to its original: MSE on two scales, PSNR and SSIM.

Each is computed per image and then averaged over images, so the number does not depend on the batch size. MSE takes
the network's output as it is, as training does; PSNR and SSIM compare what a viewer sees: the output clamped to the
pixel range, as floats in [0, 1] with ``data_range=1``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

SSIM_WINDOW = 11
"""Gaussian window (sigma 1.5) of Wang et al. 2004, in pixels; a smaller image has no SSIM."""
MAX_PSNR = 100.0
"""dB of a perfect reconstruction: infinity would make the mean infinite."""


@dataclass
class ReconstructionSums:
    """Sums over images of the per-image values."""

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def update(self, originals: Tensor, reconstructions: Tensor) -> None:
        """Adds a batch.

        Args:
            originals: float (N, C, H, W) in [-1, 1].
            reconstructions: float (N, C, H, W), nominally in [-1, 1].
        """
        for name, values in per_image(originals, reconstructions).items():
            self.sums[name] = self.sums.get(name, 0.0) + float(values.double().sum())
        self.count += len(originals)

    def merge(self, other: ReconstructionSums) -> ReconstructionSums:
        """The sums of both sets together."""
        names = self.sums | other.sums
        sums = {name: self.sums.get(name, 0.0) + other.sums.get(name, 0.0) for name in names}
        return ReconstructionSums(self.count + other.count, sums)

    def means(self) -> dict[str, float]:
        """Mean over images: ``mse`` on [-1, 1], ``mse_unit`` on [0, 1], ``psnr`` in dB, ``ssim`` if large enough."""
        return {name: total / self.count for name, total in self.sums.items()}


def per_image(originals: Tensor, reconstructions: Tensor) -> dict[str, Tensor]:
    """The metrics of each image, (N,), of float images (N, C, H, W) in [-1, 1]."""
    originals, reconstructions = originals.float().cpu(), reconstructions.float().cpu()
    mse = (originals - reconstructions).square().flatten(1).double().mean(dim=1)
    shown_originals = originals.add(1).div(2)
    shown = reconstructions.clamp(-1, 1).add(1).div(2)
    psnr = peak_signal_noise_ratio(shown, shown_originals, data_range=1.0, reduction="none", dim=(1, 2, 3))
    values = {"mse": mse, "mse_unit": mse / 4, "psnr": psnr.clamp(max=MAX_PSNR)}
    if min(originals.shape[-2:]) >= SSIM_WINDOW:
        ssim = structural_similarity_index_measure(shown, shown_originals, data_range=1.0, reduction="none")
        values["ssim"] = torch.as_tensor(ssim).reshape(len(originals))
    return values
