"""The registry of families: one line each, and the plug-ins of the group ``facegen.families``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

from facegen.families.ae import AE, AEConfig
from facegen.families.ae_gan import AEGAN, AEGANConfig
from facegen.families.base import Family
from facegen.families.beta_vae import BetaVAE, BetaVAEConfig
from facegen.families.cvae import CVAE, CVAEConfig
from facegen.families.dcgan import DCGAN, DCGANConfig
from facegen.families.dfc_vae import (
    DFCVAE,
    DFCVAEConfig,
    DFCVAELarge,
    DFCVAELargeConfig,
    DFCVAEResNet,
    DFCVAEResNetConfig,
)
from facegen.families.face_cnn import FaceCNN, FaceCNNConfig
from facegen.families.flow import Flow, FlowConfig
from facegen.families.mod_vae import ModVAE, ModVAEConfig
from facegen.families.vae import VAE, VAEConfig
from facegen.families.vae_gan import VAEGAN, VAEGANConfig
from facegen.networks.conv_config import ImageShape
from shards.base.errors import UserError, shown
from shards.base.plugins import Registry
from shards.command_line.cli import from_values


class Entry(NamedTuple):
    """A family's config dataclass and its class."""

    config_class: type
    family_class: type[Family]


_OWN = {
    "ae": Entry(AEConfig, AE),
    "vae": Entry(VAEConfig, VAE),
    "beta_vae": Entry(BetaVAEConfig, BetaVAE),
    "dfc_vae": Entry(DFCVAEConfig, DFCVAE),
    "dfc_vae_resnet": Entry(DFCVAEResNetConfig, DFCVAEResNet),
    "dfc_vae_large": Entry(DFCVAELargeConfig, DFCVAELarge),
    "face_cnn": Entry(FaceCNNConfig, FaceCNN),
    "cvae": Entry(CVAEConfig, CVAE),
    "dcgan": Entry(DCGANConfig, DCGAN),
    "mod_vae": Entry(ModVAEConfig, ModVAE),
    "ae_gan": Entry(AEGANConfig, AEGAN),
    "vae_gan": Entry(VAEGANConfig, VAEGAN),
    "flow": Entry(FlowConfig, Flow),
}
FAMILIES = Registry("facegen.families", Entry, _OWN)


def build(name: str, config: Any, image: ImageShape) -> Family:
    """Builds a family's networks, and first those of the autoencoder that it works on.

    Raises:
        ValueError: A config that does not fit the images.
    """
    if not isinstance(config, FlowConfig):
        return FAMILIES[name].family_class(config, image)
    return Flow(config, image, _autoencoder(config.describe_autoencoder(), image))


def _autoencoder(described: Mapping[str, Any], image: ImageShape) -> Family:
    """The autoencoder of a flow, with random weights.

    Raises:
        ValueError: A description of none, or of one for other images.
    """
    family = described.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"autoencoder_config names no family: {shown(family)}.")
    try:
        options = options_from_dict(family, described.get("model"))
    except UserError as error:
        raise ValueError(f"autoencoder_config: {error}") from None
    return build(family, options, image)


def options_from_dict(family: str, values: Any) -> Any:
    """A family's config dataclass from plain values, checked like a YAML file."""
    return from_values(options_class(family), values, "model")


@functools.cache
def options_class(family: str) -> type:
    """A family's config dataclass, its annotations resolved.

    jsonargparse resolves names of inherited annotations in the module of one base class only.
    """
    model_class = FAMILIES[family].config_class
    model_class.__init__.__annotations__ = get_type_hints(model_class)  # type: ignore[misc]
    return model_class
