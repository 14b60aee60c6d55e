"""The registry of families: one line each."""

from __future__ import annotations

from typing import Any, NamedTuple

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
from facegen.families.mod_vae import ModVAE, ModVAEConfig
from facegen.families.vae import VAE, VAEConfig
from facegen.families.vae_gan import VAEGAN, VAEGANConfig
from facegen.networks.conv_config import ImageShape


class Entry(NamedTuple):
    """A family's config dataclass and its class."""

    config_class: type
    family_class: type[Family]


FAMILIES: dict[str, Entry] = {
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
}


def build(name: str, config: Any, image: ImageShape) -> Family:
    """Builds a family's networks.

    Raises:
        ValueError: A config that does not fit the images.
    """
    return FAMILIES[name].family_class(config, image)
