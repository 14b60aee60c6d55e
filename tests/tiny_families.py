"""Each registered family at a size that trains in a second; the tests of all families build them from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facegen.families import FAMILIES, Family, build
from facegen.networks.conv import ConvNetConfig, ImageShape

IMAGE = ImageShape(3, 16, 16)


def _no_labels(num: int) -> dict[str, Tensor]:
    return {}


class Tiny(NamedTuple):
    """A small form of a family.

    Attributes:
        options: Its config's fields.
        labels: Labels of a batch of so many images, as the loader gives them.
        unit_size: Images that belong together in a batch.
        falls: The loss term that training on one batch must bring down.
    """

    options: dict[str, Any]
    labels: Callable[[int], dict[str, Tensor]] = _no_labels
    unit_size: int = 1
    falls: str = "mse"


def _network(**options: Any) -> ConvNetConfig:
    return ConvNetConfig(**{"widths": [8, 16]} | options)


TINY: dict[str, Callable[[], Tiny]] = {
    "ae": lambda: Tiny({"latent_size": 6, "network": _network()}),
    "vae": lambda: Tiny({"latent_size": 6, "network": _network()}),
    "beta_vae": lambda: Tiny({"latent_size": 6, "network": _network()}),
}


def tiny_config(name: str, **options: Any) -> Any:
    """A family's config dataclass; ``options`` replace its small defaults."""
    return FAMILIES[name].config_class(**TINY[name]().options | options)


def tiny_labels(name: str, num: int) -> dict[str, Tensor]:
    """Labels of ``num`` images that suit a family."""
    return TINY[name]().labels(num)


def tiny_family(name: str, image: ImageShape = IMAGE, **options: Any) -> Family:
    """A family with its initial weights, always the same."""
    torch.manual_seed(0)
    return build(name, tiny_config(name, **options), image)
