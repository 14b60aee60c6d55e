"""The pictures that a run drew while it trained."""

from __future__ import annotations

import re
from pathlib import Path

from facegen.reporting.monitor import PICTURES


def training_pictures(run: Path | None, kind: str, images_seen: int) -> list[tuple[int, Path]]:
    """Images seen and path of each picture of a kind that training drew before a snapshot, in order."""
    if run is None:
        return []
    found = []
    for path in (run / PICTURES).glob(f"{kind}_images_*.png"):
        number = re.fullmatch(rf"{re.escape(kind)}_images_(\d+)", path.stem)
        if number and int(number[1]) <= images_seen:
            found.append((int(number[1]), path))
    return sorted(found)
