"""The perceptual error: squared differences of features (Hou et al. 2017; Johnson et al. 2016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from facegen.perceptual.feature_net import FeatureNet

FeatureReduction = Literal["mean", "sum"]


def perceptual_error(
    net: FeatureNet, images: Tensor, reconstructions: Tensor, reduction: FeatureReduction
) -> list[Tensor]:
    """Difference of each image from its reconstruction in each layer.

    Args:
        net: The feature net.
        images: N x C x H x W in [-1, 1]; no gradient reaches them.
        reconstructions: The same shape; the gradient passes through the net to them.
        reduction: ``sum`` of squared differences over a layer's values, as facenet's loss; ``mean`` is half their mean,
            as in Hou et al.

    Returns:
        One value an image, N, for each layer; not yet weighted.
    """
    with torch.no_grad():
        targets = net(images)
    return [
        _squared_difference(target, feature, reduction)
        for target, feature in zip(targets, net(reconstructions), strict=True)
    ]


def _squared_difference(target: Tensor, feature: Tensor, reduction: FeatureReduction) -> Tensor:
    squared = (target - feature).square().flatten(1)
    return squared.sum(1) if reduction == "sum" else 0.5 * squared.mean(1)
