"""The learned variance of a Gaussian decoder (sigma-VAE, Rybkin et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOG_SIGMA_UNIT = 10.0
"""Adam moves a parameter by about the learning rate in each step, and log sigma must go further than a weight."""


class LearnedVariance(nn.Module):
    """One variance for all values; starts at 1 and never falls below a minimum."""

    def __init__(self, minimum: float) -> None:
        """Makes the parameter, log sigma in units of ``LOG_SIGMA_UNIT``.

        Args:
            minimum: Added to sigma^2; without it, the likelihood of perfect reconstructions is unbounded.
        """
        super().__init__()
        self.minimum = minimum
        self.scaled_log_sigma = nn.Parameter(torch.zeros(()))

    def forward(self) -> Tensor:
        """The variance, a scalar."""
        return (2 * LOG_SIGMA_UNIT * self.scaled_log_sigma).exp() + self.minimum

    @torch.no_grad()
    def start_from(self, variance: float) -> None:
        """Sets the variance, above the minimum."""
        self.scaled_log_sigma.fill_(math.log(max(variance - self.minimum, 1e-12)) / (2 * LOG_SIGMA_UNIT))
