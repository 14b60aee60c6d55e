"""A contrastive loss over the pairs of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(embeddings: Tensor, same: Tensor, people: Tensor, temperature: float) -> Tensor:
    """Cross entropy of finding each face's partner among the faces of everybody else in the batch.

    Logits are cosine similarities over ``temperature`` (NT-Xent, Chen et al. 2020; Sohn 2016). Further images of the
    same person count neither as right nor as wrong.

    Args:
        embeddings: 2 N x L; rows ``2 i`` and ``2 i + 1`` are a pair.
        same: N; 1 where a pair is the same person, 0 where it is two people.
        people: 2 N; the person of each face.
        temperature: Above 0; a smaller one weighs the nearest faces more.

    Returns:
        The mean over the faces in pairs of the same person, a scalar in nats; 0 without such a pair.
    """
    directions = F.normalize(embeddings.float(), dim=1)
    similarity = directions @ directions.T / temperature
    place = torch.arange(len(embeddings), device=embeddings.device)
    partner = place ^ 1
    is_candidate = (people[:, None] != people[None]) | (partner[:, None] == place[None])
    per_face = F.cross_entropy(similarity.masked_fill(~is_candidate, -torch.inf), partner, reduction="none")
    weights = same.repeat_interleave(2).to(per_face.dtype)
    # In a pair of two people the partner is a candidate too; the weight 0 removes that pair's terms.
    return (per_face * weights).sum() / weights.sum().clamp(min=1)
