"""Warnings that a run logged in training: each kind once, with how often and when it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def run_warnings(points: Sequence[Mapping[str, Any]], images_seen: int) -> list[str]:
    """The newest sentence of each kind of warning; the kind is the text before the first colon.

    Args:
        points: Lines of the run's ``metrics.jsonl``, in order.
        images_seen: Images that the snapshot has seen; later warnings are not about it.
    """
    kinds: dict[str, list[tuple[int, str]]] = {}
    for point in points:
        if "warning" in point and point["images_seen"] <= images_seen:
            kind = point["warning"].partition(":")[0]
            kinds.setdefault(kind, []).append((point["images_seen"], point["warning"]))
    return [f"{found[-1][1]} ({_when([seen for seen, _ in found])})" for found in kinds.values()]


def _when(images_seen: Sequence[int]) -> str:
    if len(images_seen) == 1:
        return f"training warned once, at {images_seen[0]:,} images"
    return f"training warned {len(images_seen)} times, at {images_seen[0]:,} to {images_seen[-1]:,} images"
