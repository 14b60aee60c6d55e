"""A studio over tiny untrained runs, and a client for it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from eval.studio.server.app import make_app
from eval.studio.studio import Studio
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource
from tiny_runs import untrained_run

ADDRESS = "http://127.0.0.1:7860"


def tiny_studio(root: Path, data: Path | None, *families: str, **options: Any) -> Studio:
    """A studio over one run of each family, with all fits done."""
    runs = [str(untrained_run(root / family, data or options.pop("made_of"), family)) for family in families]
    studio = Studio(runs, None if data is None else str(data), **options)
    for run in studio.runs.values():
        run.sliders.wait()
    return studio


@contextmanager
def client_of(studio: Studio, **options: Any) -> Iterator[TestClient]:
    """A client of a studio's application, without a network."""
    with TestClient(make_app(studio, **options), base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


def pixels_of(content: bytes) -> np.ndarray:
    """A picture's pixels."""
    return np.asarray(Image.open(io.BytesIO(content)))


def pixels_of_uri(address: str) -> np.ndarray:
    """The pixels of a picture inside JSON."""
    return pixels_of(base64.b64decode(address.removeprefix("data:image/png;base64,")))


def png(size: tuple[int, int] = (40, 30), color: str = "olive") -> bytes:
    """A small photo."""
    return sent(Image.new("RGB", size, color))


def sent(image: Image.Image) -> bytes:
    """An image as a browser sends it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def tilted_portrait() -> Image.Image:
    """A photo with a rotated face off its center."""
    held = ["yaw", "roll", "scale", "shift_x", "shift_y"]
    source = SyntheticSource(SyntheticConfig(num=4, hold=held), 160)
    face = Image.fromarray(source.load(source[0])).rotate(12, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    canvas = Image.new("RGB", (320, 280), (128, 128, 128))
    canvas.paste(face, (130, 60))
    return canvas
