"""Actions on the studio's page in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def pixels(page: Any, image: str) -> np.ndarray:
    """The pixels of a picture on the page, at its own size."""
    page.wait_for_selector(f"{image}[src]")
    data = page.eval_on_selector(
        image,
        "async (image) => { await image.decode(); const canvas = document.createElement('canvas');"
        " canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;"
        " const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);"
        " return [canvas.width, ...pen.getImageData(0, 0, canvas.width, canvas.height).data]; }",
    )
    return np.array(data[1:], np.uint8).reshape(-1, data[0], 4)[..., :3]


def repainted(page: Any, image: str, act: Callable[[], object]) -> np.ndarray:
    """The pixels of a picture once it has changed after ``act``."""
    before = page.get_attribute(image, "src")
    act()
    page.wait_for_selector(f'{image}[src]:not([src="{before}"])')
    page.wait_for_load_state("networkidle")
    return pixels(page, image)


def move(page: Any, slider: str, value: float) -> None:
    """Moves a slider to a value."""
    page.eval_on_selector(
        slider,
        "(range, value) => { range.value = value; range.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s"
        time.sleep(0.1)
