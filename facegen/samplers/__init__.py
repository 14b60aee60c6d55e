"""Samplers: densities of latents, fitted after training and stored apart from the models; one line each.

Plug-ins of the group ``facegen.samplers`` come behind them.
"""

from __future__ import annotations

from typing import NamedTuple

from facegen.samplers.base import Sampler
from facegen.samplers.blend import BlendConfig, BlendSampler
from facegen.samplers.gaussian import GaussianConfig, GaussianSampler
from facegen.samplers.gaussian_mixture import GaussianMixtureConfig, GaussianMixtureSampler
from facegen.samplers.second_stage import SecondStageConfig, SecondStageSampler
from shards.base.plugins import Registry


class Entry(NamedTuple):
    """A sampler's config dataclass and its class."""

    config_class: type
    sampler_class: type[Sampler]


_OWN = {
    "gaussian": Entry(GaussianConfig, GaussianSampler),
    "gaussian_mixture": Entry(GaussianMixtureConfig, GaussianMixtureSampler),
    "blend": Entry(BlendConfig, BlendSampler),
    "second_stage": Entry(SecondStageConfig, SecondStageSampler),
}
SAMPLERS = Registry("facegen.samplers", Entry, _OWN)
