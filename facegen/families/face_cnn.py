"""Face CNN: face verification, learned end to end from pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facegen.families.base import Family, TrainBatch, TurnLosses
from facegen.losses.contrastive import contrastive_loss
from facegen.losses.terms import Term
from facegen.networks.conv_config import ImageShape
from facegen.networks.face_cnn import Comparison, FaceNet, FaceNetConfig
from facegen.option_values import refuse_unused
from shards.dataset.dataset import Dataset
from shards.loading.pairs import SAME, PairUnits, require_separate_people


@dataclass
class FaceCNNConfig:
    """Options of the face CNN."""

    latent_size: int = 256
    """Number of dims of the embedding."""
    identity: str = "identity"
    """Label of the person."""
    contrastive_weight: float = 0.0
    """Weight of a contrastive loss over all faces of a micro-batch, beside the cross entropy; 0 leaves it out. More
    processes or accumulation steps make micro-batches smaller and this loss easier."""
    temperature: float = 0.1
    """Temperature of the contrastive loss."""
    network: FaceNetConfig = field(default_factory=FaceNetConfig)
    """Tower and head."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, not {self.latent_size}.")
        if self.contrastive_weight < 0:
            raise ValueError(f"contrastive_weight must not be negative, not {self.contrastive_weight}.")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}.")
        if not self.contrastive_weight:
            refuse_unused(self, ("temperature",), "with contrastive_weight 0")


class FaceCNN(Family):
    """End-to-end face verification: a shared tower, and a head on the difference of two embeddings."""

    turns = ("verifier",)
    can = frozenset({"encode", "verify"})

    def __init__(self, config: FaceCNNConfig, image: ImageShape) -> None:
        """Builds the network."""
        super().__init__(config, image)
        self.latent_size = config.latent_size
        self.identity = config.identity
        self.networks = nn.ModuleDict({"verifier": FaceNet(image, config.latent_size, config.network)})

    def prepare(self, dataset: Dataset, device: torch.device) -> None:
        """Refuses data with the same people in training and held-out splits."""
        require_separate_people(dataset, self.config.identity)

    def units(self, dataset: Dataset, split: str, seed: int) -> PairUnits:
        """Pairs, half of them of the same person."""
        return PairUnits(dataset, split, seed, self.config.identity)

    def losses(self, turn: str, networks: Mapping[str, nn.Module], batch: TrainBatch) -> TurnLosses:
        """Cross entropy of the pairs (images 0 and 1, 2 and 3, ...) + contrastive_weight * contrastive loss."""
        config, same = self.config, batch.labels[SAME][0::2]
        logits, embeddings = self.forward_as_trained(networks, batch)
        logits = logits.float()
        terms = {"cross_entropy": Term(F.cross_entropy(logits, same))}
        if config.contrastive_weight:
            people = batch.labels[config.identity]
            contrastive = contrastive_loss(embeddings, same, people, config.temperature)
            terms["contrastive"] = Term(contrastive, config.contrastive_weight)
        return TurnLosses.of_terms(terms, {"accuracy": (logits.detach().argmax(1) == same).float().mean()})

    def forward_as_trained(self, networks: Mapping[str, nn.Module], batch: TrainBatch) -> Comparison:
        """Logits of the pairs, and embeddings."""
        return networks["verifier"](batch.images)

    def posterior(self, images: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The embedding of each image; no variance."""
        return self.networks["verifier"].tower(images), None  # type: ignore[union-attr,operator]

    def verify(self, first: Tensor, second: Tensor) -> Tensor:
        """Probabilities N that the two faces of each pair are the same person."""
        network = self.networks["verifier"]
        logits = network.compare(network.tower(first), network.tower(second))  # type: ignore[union-attr,operator]
        return logits.float().softmax(1)[:, 1]
