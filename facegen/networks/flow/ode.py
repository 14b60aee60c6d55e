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
        # Of the shape, not of `len`, so that an exported program takes any number of points.
        here, there = points.new_full(points.shape[:1], before), points.new_full(points.shape[:1], after)
        points = step(velocity, points, here, there, after - before, solver)
    return points


def step(
    velocity: Velocity, points: Tensor, before: Tensor, after: Tensor, length: float | Tensor, solver: Solver
) -> Tensor:
    """One step of ``integrate``.

    Args:
        velocity: What moves the points.
        points: N x L, at the time ``before``.
        before: N.
        after: N.
        length: Time from ``before`` to ``after``, one for all points, or N x 1.
        solver: As for ``integrate``.

    Returns:
        The points at the time ``after``, N x L.
    """
    here = velocity(points, before)
    moved = points + length * here
    if solver == "euler":
        return moved
    return points + length * (here + velocity(moved, after)) / 2
