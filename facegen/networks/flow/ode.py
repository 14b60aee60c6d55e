"""Solvers of the ordinary differential equation along which a flow carries noise to latents and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Solver = Literal["heun", "euler"]
Velocity = Callable[[Tensor, Tensor], Tensor]
"""Points N x L and times N to velocities N x L."""


def integrate(velocity: Velocity, start: Tensor, num_steps: int, solver: Solver, *, backwards: bool = False) -> Tensor:
    """Follows a velocity from time 0 to 1, or from 1 to 0.

    Args:
        velocity: What moves the points.
        start: Points N x L at the first time.
        num_steps: Steps of equal length.
        solver: ``euler`` evaluates the velocity once a step; ``heun`` twice, with an error of second order.
        backwards: From 1 to 0.

    Returns:
        The points at the last time, N x L.
    """
    times = torch.linspace(1, 0, num_steps + 1) if backwards else torch.linspace(0, 1, num_steps + 1)
    points = start
    for before, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        here = velocity(points, points.new_full((len(points),), before))
        moved = points + (after - before) * here
        if solver == "heun":
            there = velocity(moved, points.new_full((len(points),), after))
            moved = points + (after - before) * (here + there) / 2
        points = moved
    return points
