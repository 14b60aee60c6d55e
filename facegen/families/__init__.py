"""The registry of families: one line each."""

from __future__ import annotations

from typing import Any, NamedTuple

from facegen.families.ae import AE, AEConfig
from facegen.families.base import Family
from facegen.families.beta_vae import BetaVAE, BetaVAEConfig
from facegen.families.vae import VAE, VAEConfig
from facegen.networks.conv import ImageShape


class Entry(NamedTuple):
    """A family's config dataclass and its class."""

    config_class: type
    family_class: type[Family]


FAMILIES: dict[str, Entry] = {
    "ae": Entry(AEConfig, AE),
    "vae": Entry(VAEConfig, VAE),
    "beta_vae": Entry(BetaVAEConfig, BetaVAE),
}


def build(name: str, config: Any, image: ImageShape) -> Family:
    """Builds a family's networks.

    Raises:
        ValueError: A config that does not fit the images.
    """
    return FAMILIES[name].family_class(config, image)
