"""Lets systems train in turns, each in its own process, and collects what they reach."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shards.base.errors import UserError
from time_to_quality.setup import Setup
from time_to_quality.systems import work
from time_to_quality.turns import Facts, Order, Report

_GROWTH = 0.25
"""Early turns are this share of the time so far: what is reached soon is timed as exactly as what is reached late."""


class Point(NamedTuple):
    """What a system had reached at a moment."""

    seconds: float
    cpu_seconds: float
    images: int
    mse: float
    kl: float | None
    distance: float | None


@dataclass
class Curve:
    """What one system reached by when."""

    name: str
    points: list[Point] = field(default_factory=list)
    facts: Facts | None = None
    seconds: float = 0.0
    """Trained in all."""
    cpu_seconds: float = 0.0
    images: int = 0
    ended: str = ""
    """Why it trained for less than the budget; empty if it did not."""

    def reached(self, mse: float) -> Point | None:
        """Where the held-out MSE was first measured at or below this; None if it never was."""
        return next((point for point in self.points if point.mse <= mse), None)


def moments(budget_sec: float, first_sec: float, turn_sec: float) -> list[float]:
    """When turns end, on each system's own clock: from 0, rarer as time passes, to ``budget_sec``."""
    ends = [0.0]
    while ends[-1] < budget_sec:
        ends.append(min(budget_sec, ends[-1] + min(turn_sec, max(first_sec, _GROWTH * ends[-1]))))
    return ends


class Competitor:
    """One system's process, and its curve."""

    def __init__(self, name: str, setup: Setup) -> None:
        """Starts the process, which waits for its first turn."""
        self.curve = Curve(name)
        self._log = setup.folder / f"{name}.log"
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(name, setup, other), daemon=True)
        self._process.start()
        other.close()
        self._evaluated_at = -np.inf
        self._evaluation_sec = 0.0

    def turn(self, until_sec: float, is_last: bool, measure_distance: Callable[[np.ndarray], float] | None) -> None:
        """Lets it train until its clock reads ``until_sec``, unless it does already.

        A system whose evaluation takes longer than it has trained since the last one is not evaluated.
        """
        curve = self.curve
        if curve.ended or (curve.points and curve.seconds >= until_sec and not is_last):
            return
        evaluate = is_last or until_sec - self._evaluated_at >= self._evaluation_sec
        try:
            with suppress(ConnectionError):  # One that failed before its turn has left a report, too.
                self._connection.send(Order(until_sec, evaluate, with_images=measure_distance is not None))
            report = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            said = self._log.read_text(errors="replace").strip().rpartition("\n")[2] if self._log.exists() else ""
            curve.ended = f"its process ended with exit code {self._process.exitcode} ({said})"
            return
        self._take(report, measure_distance)

    def end(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def _take(self, report: Report, measure_distance: Callable[[np.ndarray], float] | None) -> None:
        curve = self.curve
        curve.seconds, curve.cpu_seconds, curve.images = report.seconds, report.cpu_seconds, report.images
        curve.facts, curve.ended = report.facts or curve.facts, report.ended
        if report.mse is None:
            return
        self._evaluated_at, self._evaluation_sec = report.seconds, report.evaluation_sec
        images = report.reconstructions
        distance = measure_distance(images) if measure_distance and images is not None else None
        curve.points.append(Point(report.seconds, report.cpu_seconds, report.images, report.mse, report.kl, distance))


def compete(
    names: Sequence[str],
    setup: Setup,
    ends_sec: Sequence[float],
    measure_distance: Callable[[np.ndarray], float] | None,
    distance_every: int,
) -> Iterator[tuple[float, list[Curve]]]:
    """Trains all systems; yields each moment with the curves up to it.

    Args:
        names: Of the systems.
        setup: What they share.
        ends_sec: When turns end, rising.
        measure_distance: Of reconstructions, uint8 N x H x W x C; None measures none.
        distance_every: Moments between two of its measurements; it is measured at the end in any case.

    Raises:
        UserError: All of them failed.
    """
    competitors = [Competitor(name, setup) for name in names]
    try:
        for number, until_sec in enumerate(ends_sec):
            is_last = number == len(ends_sec) - 1
            has_distance = is_last or (distance_every > 0 and number % distance_every == 0)
            for competitor in competitors:
                competitor.turn(until_sec, is_last, measure_distance if has_distance else None)
            curves = [competitor.curve for competitor in competitors]
            if not any(curve.points for curve in curves):
                raise UserError("; ".join(f"{curve.name}: {curve.ended}" for curve in curves))
            yield until_sec, curves
    finally:
        for competitor in competitors:
            competitor.end()
