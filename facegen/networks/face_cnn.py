"""The face CNN's network: one tower for both faces of a pair, and a head that compares their embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from facegen.networks.conv_config import ImageShape


@dataclass
class FaceNetConfig:
    """Tower and head; the defaults are the reference's."""

    widths: list[int] = field(default_factory=lambda: [64, 128, 128])
    """Channels of each stage of the tower: two 3x3 convolutions of that width, then max-pooling by 2."""
    fc_widths: list[int] = field(default_factory=lambda: [128, 256])
    """Hidden layers between the tower and the embedding."""
    head_widths: list[int] = field(default_factory=lambda: [128, 256, 128])
    """Hidden layers of the head, from the difference of two embeddings to its two logits."""
    norm: Literal["none", "batch"] = "none"
    """Normalization between each convolution and its ReLU."""
    dropout: float = 0.25
    """Share of activations dropped after each stage and between the hidden layers of the head, in [0, 1)."""
    embedding_norm: Literal["none", "l2"] = "none"
    """``l2`` scales each embedding to length sqrt(latent_size), so that only its direction counts."""
    difference: Literal["absolute", "signed"] = "absolute"
    """The head's input, from two embeddings; with ``absolute`` their order does not matter."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("widths", "fc_widths", "head_widths"):
            widths = getattr(self, name)
            if not widths or min(widths) < 1:
                raise ValueError(f"{name} must be at least one positive number, not {widths}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}.")


class FaceTower(nn.Module):
    """Images to embeddings.

    Attributes:
        stages: One module per stage, up to its last ReLU; ``stage_outputs`` applies them.
        shrink: Max-pooling and dropout between stages.
    """

    def __init__(self, image: ImageShape, embedding_size: int, config: FaceNetConfig) -> None:
        """Builds for images of ``image``.

        Raises:
            ValueError: Images too small to be halved by every stage.
        """
        super().__init__()
        factor = 2 ** len(config.widths)
        if min(image.height, image.width) < factor:
            raise ValueError(
                f"images of {image.height}x{image.width} cannot be halved {len(config.widths)} times: use fewer "
                f"model.network.widths or pack images of at least {factor}x{factor}."
            )
        widths = [image.channels, *config.widths]
        self.stages = nn.ModuleList(_stage(before, after, config) for before, after in pairwise(widths))
        self.shrink = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(config.dropout))
        num_features = config.widths[-1] * (image.height // factor) * (image.width // factor)
        # The reference applies a ReLU to the embedding too; without it the difference would cancel the last bias.
        self.head = nn.Sequential(*_hidden([num_features, *config.fc_widths, embedding_size], 0.0))
        self.embedding_norm = config.embedding_norm
        self.apply(_init_for_relu)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W in [-1, 1] to N x embedding_size, at least 0."""
        embeddings = self.head(self.shrink(self.stage_outputs(images)[-1]).flatten(1))
        if self.embedding_norm == "none":
            return embeddings
        return F.normalize(embeddings.float(), dim=1) * embeddings.shape[1] ** 0.5

    def stage_outputs(self, images: Tensor) -> list[Tensor]:
        """The output of each stage's last ReLU, before max-pooling.

        Args:
            images: N x C x H x W in [-1, 1], of any size that can be halved for every stage but the last.

        Returns:
            For stage s, counted from 0: N x widths[s] x (H // 2**s) x (W // 2**s).
        """
        outputs: list[Tensor] = []
        for stage in self.stages:
            outputs.append(stage(self.shrink(outputs[-1]) if outputs else images))
        return outputs


class Comparison(NamedTuple):
    """The network's output for pairs."""

    logits: Tensor
    """N x 2: different people, the same person."""
    embeddings: Tensor
    """2N x embedding_size, in the order of the images."""


class FaceNet(nn.Module):
    """Tower, difference and head in one forward, so that DDP sees every gradient."""

    def __init__(self, image: ImageShape, embedding_size: int, config: FaceNetConfig) -> None:
        """Builds for images of ``image``."""
        super().__init__()
        self.tower = FaceTower(image, embedding_size, config)
        self.head = nn.Sequential(*_hidden([embedding_size, *config.head_widths], config.dropout))
        self.head.append(nn.Linear(config.head_widths[-1], 2))
        self.head.apply(_init_for_relu)
        self.difference = config.difference

    def forward(self, images: Tensor) -> Comparison:
        """Compares images 0 and 1, 2 and 3, and so on, of 2N x C x H x W in [-1, 1]."""
        embeddings = self.tower(images)
        return Comparison(self.compare(embeddings[0::2], embeddings[1::2]), embeddings)

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits N x 2 (different, same) of embeddings N x embedding_size."""
        difference = first - second
        return self.head(difference.abs() if self.difference == "absolute" else difference)


def _stage(before: int, after: int, config: FaceNetConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, 3, padding=1))
        layers += [nn.BatchNorm2d(after)] if config.norm == "batch" else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _hidden(widths: list[int], dropout: float) -> list[nn.Module]:
    """Linear layers with ReLU, and dropout between them."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.Dropout(dropout)] if number and dropout else []
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers


def _init_for_relu(module: nn.Module) -> None:
    # PyTorch's default would halve the signal in every layer, and after thirteen without normalization little would be
    # left (He et al. 2015).
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
