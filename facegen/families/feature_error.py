"""The feature error: reconstructions compared with their images in the layers of a frozen net, not pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from facegen.families.base import Family
from facegen.option_values import refuse_unused
from facegen.perceptual.feature_net import FeatureNet, Frozen
from facegen.perceptual.loading import load_feature_net
from facegen.perceptual.loss import FeatureReduction, perceptual_error
from facegen.perceptual.options import FeatureNetConfig
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset


@dataclass
class FeatureErrorConfig:
    """Options of the feature error."""

    perceptual_weight: float = 0.0
    """Weight of the feature error; 0 needs no feature net."""
    perceptual_reduction: FeatureReduction = "mean"
    """Feature error of a layer: ``sum`` of squared differences (facenet), or half their ``mean`` (Hou et al.)."""
    features: FeatureNetConfig = field(default_factory=FeatureNetConfig)
    """The frozen feature net."""

    def check_feature_error(self) -> None:
        """Rejects impossible values.

        Raises:
            ValueError: With the option and its value.
        """
        if self.perceptual_weight < 0:
            raise ValueError(f"perceptual_weight must not be negative, not {self.perceptual_weight}.")
        if not self.perceptual_weight:
            refuse_unused(self, ("features", "perceptual_reduction"), "with perceptual_weight 0")


class FeatureError(Family):
    """A family that may compare images by the features of a frozen net; its other base says what it reconstructs."""

    # The file's content is checked against ``feature_sha256``.
    file_options = ("features.weights",)
    feature_sha256: Tensor

    def add_feature_net(self) -> None:
        """Makes room for the net, which is loaded when training starts; inference needs none."""
        self._frozen = Frozen()
        # In checkpoints, so that a run never resumes with another feature net.
        self.register_buffer("feature_sha256", torch.zeros(32, dtype=torch.uint8))

    @property
    def frozen_networks(self) -> Sequence[nn.Module]:  # type: ignore[override]
        """The feature net, once it is loaded."""
        return [self._frozen.net] if self.config.perceptual_weight and self._frozen.net else []

    def prepare(self, dataset: Dataset, device: torch.device) -> None:
        """Loads the feature net.

        Raises:
            UserError: Weights that are not available, or a net that does not fit the images.
        """
        super().prepare(dataset, device)
        if not self.config.perceptual_weight:
            return
        net = load_feature_net(self.config.features, self.image.channels, device)
        try:
            with torch.no_grad():
                net(torch.zeros(1, *self.image, device=device))
        except RuntimeError as error:
            raise UserError(
                f"images of {self.image.height}x{self.image.width} are too small for layer "
                f"{net.description.layers[-1]} of {net.description.name} ({' '.join(str(error).split())[:120]}); "
                "choose earlier --model.features.layers or a larger --model.features.input_size."
            ) from None
        self._frozen.net = net

    def perceptual(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """The feature error: weighted sum over layers, mean over images N x C x H x W; a scalar.

        Raises:
            UserError: The feature net's weights are not those that the run started with.
        """
        net = self._feature_net(images.device)
        errors = perceptual_error(net, images, reconstructions, self.config.perceptual_reduction)
        weighted = [weight * error for weight, error in zip(net.description.layer_weights, errors, strict=True)]
        return torch.stack(weighted).sum(0).mean()

    def _feature_net(self, device: torch.device) -> FeatureNet:
        frozen = self._frozen
        if frozen.net is None:
            frozen.net = load_feature_net(self.config.features, self.image.channels, device)
        if not frozen.is_checked:
            sha256 = frozen.net.description.sha256
            started_with = bytes(self.feature_sha256.tolist()).hex()
            if self.feature_sha256.any() and started_with != sha256:
                raise UserError(
                    f"this run started with feature net weights of sha256 {started_with}, but those of "
                    f"{frozen.net.description.name} have {sha256}; give the original weights, or another --run."
                )
            self.feature_sha256.copy_(torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8))
            frozen.is_checked = True
        return frozen.net
