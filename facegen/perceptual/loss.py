"""The perceptual error: squared differences of features (Johnson et al. 2016; Hou et al. 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from facegen.perceptual.feature_net import FeatureNet

FeatureReduction = Literal["mean", "sum"]


def perceptual_error(
    net: FeatureNet, images: Tensor, reconstructions: Tensor, reduction: FeatureReduction
) -> list[Tensor]:
    """Feature error of each image's reconstruction, layer by layer.

    Args:
        net: The feature net.
        images: N x C x H x W in [-1, 1]; they get no gradient.
        reconstructions: The same shape; their gradient passes through the net.
        reduction: ``sum`` of the squared differences of a layer's values, as in facenet; ``mean``: half their mean, as
            in Hou et al.

    Returns:
        One value an image, N, for each layer; not weighted.
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
