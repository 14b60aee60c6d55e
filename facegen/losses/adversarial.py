"""Adversarial losses, and measures that balance the players, as pure functions.

Every loss is a mean over the micro-batch. ``bce`` is the non-saturating loss of Goodfellow et al. 2014 on logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

GanLoss = Literal["bce", "hinge"]

_GRADIENT_SCALES = (2.0**12, 2.0**6, 1.0, 2.0**-6, 2.0**-12)
"""The largest keeps per-pixel gradients of a mean over a million pixels within float16, the smallest those of a sum."""


def real_loss(logits: Tensor, kind: GanLoss) -> Tensor:
    """The discriminator's loss on real images, from their logits N; a scalar."""
    return functional.softplus(-logits).mean() if kind == "bce" else functional.relu(1 - logits).mean()


def fake_loss(logits: Tensor, kind: GanLoss) -> Tensor:
    """The discriminator's loss on generated images, from their logits N; a scalar."""
    return functional.softplus(logits).mean() if kind == "bce" else functional.relu(1 + logits).mean()


def generator_loss(logits: Tensor, kind: GanLoss) -> Tensor:
    """The generator's loss, from the discriminator's logits N of its images; a scalar."""
    return functional.softplus(-logits).mean() if kind == "bce" else -logits.mean()


def relativistic_loss(judged: Tensor, others: Tensor) -> Tensor:
    """The cross entropy of one image being more real than another (Jolicoeur-Martineau 2019); a scalar.

    Args:
        judged: Logits N of the side that should win: the real images for the discriminator, the generated ones for the
            generator.
        others: Logits N of the other side.
    """
    return functional.softplus(others - judged).mean()


def accuracy(real: Tensor, fakes: Sequence[Tensor]) -> Tensor:
    """The discriminator's accuracy over equally weighted groups of logits, each N; in [0, 1]."""
    right = [(real > 0).float().mean(), *((fake < 0).float().mean() for fake in fakes)]
    return torch.stack(right).mean()


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """Half the squared gradient norm of a logit with respect to its image, a mean over images (Mescheder et al. 2018).

    Of real images it is R1, of generated ones R2.

    Args:
        images: Images that require a gradient, N x C x H x W.
        logits: The images' logits, N; each must depend on its own image only.

    Returns:
        A scalar, differentiable with respect to the discriminator.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def lecam_penalty(real: Tensor, fake: Tensor, real_anchor: float, fake_anchor: float) -> Tensor:
    """Pulls each side's logits N towards the other side's moving average (LeCam, Tseng et al. 2021); a scalar."""
    return (real - fake_anchor).square().mean() + (fake - real_anchor).square().mean()


def gradient_norm(loss: Tensor, weight: Tensor) -> Tensor:
    """L2 norm of the gradient of ``loss`` with respect to one weight, float32; keeps the graph.

    In float16 the gradient can overflow or vanish on its way back to the weight. So the loss is scaled by the largest
    factor that keeps the gradient finite.
    """
    norm = loss.new_tensor(torch.nan)
    for scale in _GRADIENT_SCALES:
        (gradient,) = torch.autograd.grad(loss * scale, weight, retain_graph=True)
        norm = gradient.detach().float().norm() / scale
        if norm.isfinite():
            break
    return norm


def adaptive_weight(reconstruction_norm: float, adversarial_norm: float, most: float = 1e4) -> float:
    """The factor that makes the adversarial gradient at the last layer as long as the reconstruction's.

    ``|grad reconstruction| / (|grad adversarial| + 1e-8)``, at most ``most``: equation 7 of Esser et al. 2021 with a
    smaller constant, since the losses here are smaller.
    """
    return min(reconstruction_norm / (adversarial_norm + 1e-8), most)


def players_in_turn(real_loss: float, fake_loss: float, equilibrium: float, margin: float) -> tuple[bool, bool]:
    """Whether the discriminator and the generator learn, from the discriminator's losses on both sides.

    The discriminator waits if its loss on either side is below ``equilibrium - margin``, and the generator waits if
    either is above ``equilibrium + margin``. If both would wait, both learn (Larsen et al. 2016).
    """
    discriminator = min(real_loss, fake_loss) >= equilibrium - margin
    generator = max(real_loss, fake_loss) <= equilibrium + margin
    return (discriminator, generator) if discriminator or generator else (True, True)


def batch_variance(images: Tensor) -> Tensor:
    """Per-pixel variance over a batch of at least two images N x C x H x W, averaged over pixels.

    Half the mean squared difference of neighboring images is an unbiased estimate, and unlike the sample variance it
    averages over micro-batches to that of the whole batch.
    """
    pairs = images[: len(images) // 2 * 2].unflatten(0, (-1, 2))
    return 0.5 * (pairs[:, 0] - pairs[:, 1]).square().mean()


def variance_term(name: str, images: Tensor) -> dict[str, Tensor]:
    """``batch_variance`` by name, for logging; empty for a single image."""
    return {name: batch_variance(images.detach().float())} if len(images) > 1 else {}
