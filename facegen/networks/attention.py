"""Self-attention over the places of a feature map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from facegen.networks.norm import group_norm

HEAD_CHANNELS = 64
"""Channels of a head; narrower features have one head."""


class SelfAttention(nn.Module):
    """``x + f(x)``, where f attends from each place to all others (Vaswani et al. 2017); starts as identity."""

    def __init__(self, width: int) -> None:
        """Builds for ``width`` channels in and out."""
        super().__init__()
        self.num_heads = max(1, width // HEAD_CHANNELS)
        self.norm = group_norm(width)
        self.queries_keys_values = nn.Conv2d(width, 3 * width, 1)
        self.last = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """N x width x H x W to the same shape."""
        num, width, height, columns = features.shape
        shape = (num, 3, self.num_heads, width // self.num_heads, height * columns)
        queries, keys, values = self.queries_keys_values(self.norm(features)).reshape(shape).transpose(3, 4).unbind(1)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return features + self.last(attended.transpose(2, 3).reshape(num, width, height, columns))
