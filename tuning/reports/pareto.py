"""The Pareto front of two metrics."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Positions of the points that no other point beats, in order of the first value; lower is better in both.

    A point beats another if it is no worse in either value and better in one. Equal points are all kept.
    """

    def beats(first: Point, second: Point) -> bool:
        return first != second and first[0] <= second[0] and first[1] <= second[1]

    kept = [n for n, point in enumerate(points) if not any(beats(other, point) for other in points)]
    return sorted(kept, key=lambda n: points[n])
