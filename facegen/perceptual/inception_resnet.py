"""Inception-ResNet-v1 (Szegedy et al. 2017, in facenet's form) up to its last block, as a feature net.

Parameter names are those of facenet-pytorch's checkpoints, which were converted from facenet's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ConvNormReLU(nn.Module):
    """A convolution without bias, batch norm and ReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        """Builds for ``before`` channels in and ``after`` out."""
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, inputs: Tensor) -> Tensor:
        """N x before x H x W to N x after x H' x W'."""
        return self.bn(self.conv(inputs)).relu()


class InceptionBlock(nn.Module):
    """relu(x + scale * conv(concatenated branches of x)); the net's last block has no ReLU."""

    def __init__(
        self, branches: list[nn.Module], branch_width: int, width: int, scale: float, relu: bool = True
    ) -> None:
        """Takes branches whose outputs have ``branch_width`` channels in total."""
        super().__init__()
        self.num_branches, self.scale, self.relu = len(branches), scale, relu
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)
        self.conv2d = nn.Conv2d(branch_width, width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Keeps the shape."""
        branches = [self.get_submodule(f"branch{number}")(inputs) for number in range(self.num_branches)]
        outputs = inputs + self.scale * self.conv2d(torch.cat(branches, 1))
        return outputs.relu() if self.relu else outputs


class ReductionBlock(nn.Module):
    """Halves the size: strided branches and a max-pool, concatenated."""

    def __init__(self, branches: list[nn.Module]) -> None:
        """Takes the convolutional branches and adds the max-pool as the last one."""
        super().__init__()
        self.num_branches = len(branches) + 1
        for number, branch in enumerate([*branches, nn.MaxPool2d(3, 2)]):
            self.add_module(f"branch{number}", branch)

    def forward(self, inputs: Tensor) -> Tensor:
        """Concatenates the branches of N x C x H x W; halves H and W, rounding down."""
        return torch.cat([self.get_submodule(f"branch{number}")(inputs) for number in range(self.num_branches)], 1)


def _block35() -> nn.Module:
    branches: list[nn.Module] = [
        ConvNormReLU(256, 32, 1),
        nn.Sequential(ConvNormReLU(256, 32, 1), ConvNormReLU(32, 32, 3, padding=1)),
        nn.Sequential(ConvNormReLU(256, 32, 1), ConvNormReLU(32, 32, 3, padding=1), ConvNormReLU(32, 32, 3, padding=1)),
    ]
    return InceptionBlock(branches, 96, 256, 0.17)


def _block17() -> nn.Module:
    branches: list[nn.Module] = [
        ConvNormReLU(896, 128, 1),
        nn.Sequential(
            ConvNormReLU(896, 128, 1),
            ConvNormReLU(128, 128, (1, 7), padding=(0, 3)),
            ConvNormReLU(128, 128, (7, 1), padding=(3, 0)),
        ),
    ]
    return InceptionBlock(branches, 256, 896, 0.10)


def _block8(scale: float, relu: bool) -> nn.Module:
    branches: list[nn.Module] = [
        ConvNormReLU(1792, 192, 1),
        nn.Sequential(
            ConvNormReLU(1792, 192, 1),
            ConvNormReLU(192, 192, (1, 3), padding=(0, 1)),
            ConvNormReLU(192, 192, (3, 1), padding=(1, 0)),
        ),
    ]
    return InceptionBlock(branches, 384, 1792, scale, relu)


def _mixed_6a() -> nn.Module:
    deep = nn.Sequential(ConvNormReLU(256, 192, 1), ConvNormReLU(192, 192, 3, padding=1), ConvNormReLU(192, 256, 3, 2))
    return ReductionBlock([ConvNormReLU(256, 384, 3, 2), deep])


def _mixed_7a() -> nn.Module:
    return ReductionBlock(
        [
            nn.Sequential(ConvNormReLU(896, 256, 1), ConvNormReLU(256, 384, 3, 2)),
            nn.Sequential(ConvNormReLU(896, 256, 1), ConvNormReLU(256, 256, 3, 2)),
            nn.Sequential(
                ConvNormReLU(896, 256, 1), ConvNormReLU(256, 256, 3, padding=1), ConvNormReLU(256, 256, 3, 2)
            ),
        ]
    )


_STAGES: dict[str, Callable[[], nn.Module]] = {
    "conv2d_1a": lambda: ConvNormReLU(3, 32, 3, 2),
    "conv2d_2a": lambda: ConvNormReLU(32, 32, 3),
    "conv2d_2b": lambda: ConvNormReLU(32, 64, 3, padding=1),
    "maxpool_3a": lambda: nn.MaxPool2d(3, 2),
    "conv2d_3b": lambda: ConvNormReLU(64, 80, 1),
    "conv2d_4a": lambda: ConvNormReLU(80, 192, 3),
    "conv2d_4b": lambda: ConvNormReLU(192, 256, 3, 2),
    "repeat_1": lambda: nn.Sequential(*(_block35() for _ in range(5))),
    "mixed_6a": _mixed_6a,
    "repeat_2": lambda: nn.Sequential(*(_block17() for _ in range(10))),
    "mixed_7a": _mixed_7a,
    "repeat_3": lambda: nn.Sequential(*(_block8(0.20, relu=True) for _ in range(5))),
    "block8": lambda: _block8(1.0, relu=False),
}
STAGES = tuple(_STAGES)
"""Names of the stages, in order; ``conv2d_1a`` is facenet's ``Conv2d_1a_3x3`` after batch norm and ReLU."""


def build_stages(last: str) -> nn.ModuleDict:
    """The stages up to and including ``last``, with random weights; images N x 3 x H x W pass through them in order."""
    return nn.ModuleDict({name: _STAGES[name]() for name in STAGES[: STAGES.index(last) + 1]})
