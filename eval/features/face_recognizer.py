"""dlib's face recognizer as a torch network: the same numbers in a tenth of dlib's time on a core, and on any device.

Its file of weights is what dlib's C++ writes: nested templates whose layers each write their name and then their
parameters, from the input to the output. The network is a ResNet of 29 convolutions (King 2017).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shards.base.errors import UserError

INPUT_SIZE, NUM_FEATURES = 150, 128
_MEAN_COLOR, _SCALE = (122.782, 117.001, 104.298), 256.0
_BLOCKS = (
    *((32, 1), (32, 1), (32, 1)),
    *((64, 2), (64, 1), (64, 1), (64, 1)),
    *((128, 2), (128, 1), (128, 1)),
    *((256, 2), (256, 1), (256, 1)),
    (256, 2),
)
"""Channels and stride of each residual block."""
_LAYER = re.compile(rb"(con|affine|fc)_\d?")
_TENSOR_VERSION = 2


class FaceRecognizer(nn.Module):
    """Maps faces (N, 3, 150, 150), float in 0..255, to features (N, 128)."""

    mean: Tensor
    output: Tensor

    def __init__(self, layers: Iterator[np.ndarray]) -> None:
        """Fills the network.

        Args:
            layers: Parameters of each layer that has some, in order.

        Raises:
            ValueError: The parameters of another network.
            StopIteration: Too few layers.
        """
        super().__init__()
        self.first = _convolution(layers, 3, 32, size=7, stride=2)
        blocks, channels = [], 32
        for width, stride in _BLOCKS:
            first = _convolution(layers, channels, width, size=3, stride=stride)
            blocks.append(_Block(first, _convolution(layers, width, width, size=3, stride=1)))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.register_buffer("output", torch.from_numpy(next(layers).reshape(channels, NUM_FEATURES).copy()))
        self.register_buffer("mean", torch.tensor(_MEAN_COLOR).view(3, 1, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Features, which are not normalized."""
        x = functional.relu(self.first((faces - self.mean) / _SCALE))
        x = self.blocks(functional.max_pool2d(x, 3, 2))
        return x.mean(dim=(2, 3)) @ self.output


class _Block(nn.Module):
    """Two convolutions around which the input goes, averaged over 2x2 squares where the first one has a stride."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x)))
        if self.first.stride != (1, 1):
            x = functional.avg_pool2d(x, 2, 2)
            # dlib adds tensors of different shapes as if zeros followed in the smaller one.
            x = functional.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
            y = functional.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        return functional.relu(x + y)


def load_recognizer(path: Path) -> FaceRecognizer:
    """Loads the network from dlib's file.

    Raises:
        UserError: The file holds something else.
    """
    try:
        return FaceRecognizer(_layers(path.read_bytes())).eval().requires_grad_(False)
    except (OSError, ValueError, StopIteration, IndexError) as error:
        problem = str(error) or type(error).__name__
        raise UserError(f"{path} is not dlib's face recognizer ({problem}); install facegen[face] again.") from None


def _convolution(layers: Iterator[np.ndarray], num_in: int, num_out: int, size: int, stride: int) -> nn.Conv2d:
    """A convolution with the factors and shifts of the affine layer behind it."""
    weights, biases = np.split(next(layers), [num_out * num_in * size**2])
    factors, shifts = next(layers).reshape(2, num_out)
    layer = nn.Conv2d(num_in, num_out, size, stride, padding=size // 2 if stride == 1 else 0)
    kernels = weights.reshape(num_out, num_in, size, size) * factors[:, None, None, None]
    bias = biases.reshape(num_out) * factors + shifts
    layer.load_state_dict({"weight": torch.from_numpy(kernels), "bias": torch.from_numpy(bias)})
    return layer


def _layers(content: bytes) -> Iterator[np.ndarray]:
    """The parameters of each layer, float32, in order."""
    at = 0
    while found := _LAYER.search(content, at):
        at = found.end()
        for _ in range(2 if found[1] == b"fc" else 0):  # Numbers of outputs and inputs.
            _, at = _integer(content, at)
        version, at = _integer(content, at)
        if version != _TENSOR_VERSION:
            raise ValueError("a layer has no parameters")
        num = 1
        for _ in range(4):
            size, at = _integer(content, at)
            num *= size
        yield np.frombuffer(content, "<f4", num, at)
        at += 4 * num


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """One of dlib's integers, which is not negative here, and where it ends: a byte with its length goes first."""
    end = at + 1 + content[at]
    return int.from_bytes(content[at + 1 : end], "little"), end
