"""What an export holds: the encoder, the decoder and the step of a flow, each a function of tensors alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facegen.model import Model
from facegen.randomness import derive_seed

BATCH = "batch"
"""Name of the axis that may have any length, the first of every input and output."""
TOLERANCE = 1e-4
"""Largest allowed difference of an export from the model, as ``largest_difference`` measures it."""
_NUM_EXAMPLES = 8


@dataclass(frozen=True)
class Program:
    """A function of tensors.

    Attributes:
        name: ``encoder``, ``decoder`` or ``flow_step``.
        network: Computes it.
        inputs: Examples of its inputs by name, ``_NUM_EXAMPLES`` rows each.
        outputs: Names of its outputs.
    """

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]

    @property
    def examples(self) -> tuple[Tensor, ...]:
        """The inputs in order."""
        return tuple(self.inputs.values())

    @torch.inference_mode()
    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the model itself computes."""
        return self.network(*inputs)


class _Step(nn.Module):
    """Calls one function of a family with a degree, which ``labels`` gives its name."""

    def __init__(self, family: nn.Module, function: str, condition: str | None) -> None:
        super().__init__()
        self.family = family
        self.function = function
        self.condition = condition

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *values, last = inputs
        labels = {} if self.condition is None else {self.condition: last}
        found: Any = getattr(self.family, self.function)(*(values if self.condition else inputs), labels)
        return tuple(part for part in found if part is not None) if isinstance(found, tuple) else (found,)


def programs_of(model: Model) -> list[Program]:
    """The programs of a model, of those that its family has.

    Args:
        model: On the CPU.

    Returns:
        ``encoder``: images N x C x H x W in [-1, 1] to ``mu`` and, where the encoder has one, ``logvar``, each N x L.
        ``decoder``: latents N x L to images. ``flow_step``: points N x L, their time and the next one, N each, to the
        points at that time and what they are as latents. Programs of a conditional family take degrees N, too, NaN
        where unknown. Beside a flow, encoder and decoder are those of its autoencoder.
    """
    flow, codec = model.network, model.network.codec
    generator = torch.Generator().manual_seed(derive_seed("export"))
    noise = torch.randn(_NUM_EXAMPLES, model.latent_size or 0, generator=generator)
    found = []
    images = 2 * torch.rand(_NUM_EXAMPLES, *model.image_shape, generator=generator) - 1
    if "decode" in codec.can:
        decoder = _program("decoder", codec, "decode", {"latents": noise}, ("images",))
        # What the model draws is nearer to what it reads than noise is.
        images = decoder.run(*decoder.examples)[0].clone()
        found.append(decoder)
    if "encode" in codec.can:
        outputs = ("mu", "logvar") if "posterior" in codec.can else ("mu",)
        found.insert(0, _program("encoder", codec, "posterior", {"images": images}, outputs))
    if flow.num_flow_steps is not None:
        times = torch.linspace(0, 0.9, _NUM_EXAMPLES)
        inputs = {"points": noise, "times": times, "next_times": times + 0.1}
        found.append(_program("flow_step", flow, "flow_step", inputs, ("next_points", "latents")))
    return found


def _program(name: str, family: Any, function: str, inputs: dict[str, Tensor], outputs: tuple[str, ...]) -> Program:
    if family.condition is not None:
        low, high = family.condition_range or (-1.0, 1.0)
        degrees = torch.linspace(low, high, _NUM_EXAMPLES)
        degrees[-1] = torch.nan
        inputs = inputs | {"degrees": degrees}
    return Program(name, _Step(family, function, family.condition), inputs, outputs)


def largest_difference(program: Program, run: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]) -> float:
    """How far another implementation is from the model.

    Args:
        program: The model's.
        run: The other implementation, inputs to outputs in order.

    Returns:
        The largest absolute difference of an output, divided by the output's largest value where that is above 1; over
        all examples at once, and the first alone. NaN where one has a NaN.
    """
    differences = []
    for inputs in (program.examples, tuple(value[:1] for value in program.examples)):
        for wanted, got in zip(program.run(*inputs), run([value.numpy() for value in inputs]), strict=True):
            expected = wanted.numpy()
            assert got.shape == expected.shape, (program.name, got.shape, expected.shape)
            differences.append(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))
    return float(np.max(differences))
