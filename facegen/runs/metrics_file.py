"""``metrics.jsonl`` of a run: one line for each thing that training logged, with the images seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shards.base.files import write_bytes
from shards.base.records import MAX_COUNT, read_json_lines

METRICS_FILE = "metrics.jsonl"
WARNING = "warning"
"""The key of a sentence; every other value is a number, a list of numbers, or null where one is not finite."""

Point = dict[str, Any]


def read_metrics(run: Path | None) -> list[Point]:
    """The points that a run logged, each with ``images_seen``; none without a run or a file. Damaged ones are left out.

    Raises:
        UserError: The file cannot be read.
    """
    return [] if run is None else [point for point in read_json_lines(run / METRICS_FILE) if is_point(point)]


def drop_later(run: Path, images_seen: int) -> None:
    """Drops the points of later images, and damaged ones.

    Raises:
        UserError: The file cannot be read.
        OSError: It cannot be written.
    """
    if (run / METRICS_FILE).exists():
        kept = [json.dumps(point) + "\n" for point in read_metrics(run) if point["images_seen"] <= images_seen]
        write_bytes(run / METRICS_FILE, "".join(kept).encode(), durable=False)


def is_point(point: Point) -> bool:
    """Whether an object has ``images_seen``, and values that are logged."""
    seen = point.get("images_seen")
    return type(seen) is int and 0 <= seen <= MAX_COUNT and all(_fits(*item) for item in point.items())


def _fits(name: str, value: Any) -> bool:
    if name == WARNING:
        return isinstance(value, str)
    numbers = value if isinstance(value, list) else [value]
    return all(number is None or _is_number(number) for number in numbers)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= MAX_COUNT)
