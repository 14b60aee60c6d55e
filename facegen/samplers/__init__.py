"""Samplers: densities of latents, fitted after training and stored apart from the models; one line each."""

from __future__ import annotations

from typing import NamedTuple

from facegen.samplers.base import Sampler
from facegen.samplers.blend import BlendConfig, BlendSampler
from facegen.samplers.gaussian import GaussianConfig, GaussianSampler
from facegen.samplers.gaussian_mixture import GaussianMixtureConfig, GaussianMixtureSampler
from facegen.samplers.second_stage import SecondStageConfig, SecondStageSampler


class Entry(NamedTuple):
    """A sampler's config dataclass and its class."""

    config_class: type
    sampler_class: type[Sampler]


SAMPLERS: dict[str, Entry] = {
    "gaussian": Entry(GaussianConfig, GaussianSampler),
    "gaussian_mixture": Entry(GaussianMixtureConfig, GaussianMixtureSampler),
    "blend": Entry(BlendConfig, BlendSampler),
    "second_stage": Entry(SecondStageConfig, SecondStageSampler),
}
