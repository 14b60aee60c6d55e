"""Coverage-guided fuzzing of the parsers of bytes: ``python -m tests.campaigns.fuzzing TARGET --seconds 60 --seed 0``.

atheris (libFuzzer) changes good inputs and keeps what reaches new code. A target may refuse its bytes; any other
exception, a run of more than ``watching.HANG_SEC``, or more memory than ``MAX_MIB`` ends the fuzzing with the input in
``--out``. ``--input FILE`` runs a target on that file alone.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import atheris
from PIL import Image

with atheris.instrument_imports(include=["shards", "eval.latent.editing", "eval.studio", "tarfile", "json", "PIL"]):
    import tarfile  # noqa: F401

    import PIL.ImageFile  # noqa: F401
    from fastapi.testclient import TestClient

    from eval.studio.server.app import make_app
    from eval.studio.studio import Studio
    from shards.base.errors import UserError
    from shards.command_line.cli import parse, run
    from shards.dataset.manifest import DATASET_FILE, INDEX_FILE
    from shards.dataset.tar import read_samples
    from shards.images.contents import read_contents
    from shards.images.reading import BadImage, open_image_bytes

from tests.campaigns.areas.data_sets import pack_small, read_everything, sign
from tests.campaigns.areas.runs import OLD
from tests.campaigns.watching import HANG_SEC

MAX_MIB = 2048
MAX_BYTES = 1 << 16
Refused = (UserError, BadImage)
Target = Callable[[bytes], object]


@dataclass
class Config:
    """Options of the fuzzing."""

    target: Literal["tar", "index", "manifest", "image", "body"]
    """What parses the bytes: a shard's tar, the index, dataset.json, an image, the body of a request to the studio."""
    seconds: int = 60
    """How long to fuzz."""
    seed: int = 1
    """Seed of the changes; with one, the same inputs come in the same order on the same machine."""
    out: Path = Path("fuzzing")
    """Folder of inputs that failed."""
    input: Path | None = None
    """Runs the target on this file alone, to look at a failure."""


def make_target(name: str, folder: Path) -> tuple[Target, list[bytes]]:
    """A function that parses bytes, and good inputs to begin with.

    Args:
        name: As ``Config.target``.
        folder: An empty one, for files that the target needs.
    """
    if name == "image":
        return open_image_bytes, [_image(form) for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")]
    if name == "body":
        client = TestClient(make_app(Studio([str(OLD / "run")], None)), base_url="http://127.0.0.1")
        return lambda data: _post(client, data), [
            json.dumps({"face": {"kind": "sample", "seed": 1, "std": 0.5}, "axes": {"0": 1.5}}).encode(),
            json.dumps({"face": {"kind": "upload", "token": "a" * 22, "crop": [0, 0, 1, 1]}}).encode(),
        ]
    data = pack_small(folder / "data")
    if name == "tar":
        shards = [path.read_bytes() for path in data.glob("*.tar")]
        return lambda content: _parse_tar(folder / "x.tar", content), shards
    path = data / (INDEX_FILE if name == "index" else DATASET_FILE)
    return lambda content: _parse_part(data, path, content), [path.read_bytes()]


def _image(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((12, 9)).convert("RGB").save(buffer, form)
    return buffer.getvalue()


def _parse_tar(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    list(read_samples(path))
    read_contents(path)


def _parse_part(data: Path, path: Path, content: bytes) -> None:
    """A part of a data set, with and without checksums that fit."""
    manifest = (data / DATASET_FILE).read_bytes()
    path.write_bytes(content)
    with suppress(*Refused):
        read_everything(data)
    sign(data)
    try:
        read_everything(data)
    finally:
        (data / DATASET_FILE).write_bytes(manifest)


def _post(client: TestClient, data: bytes) -> None:
    client.post("/api/runs/run/picture", content=data, headers={"content-type": "application/json"})


def main() -> None:
    """Fuzzes until the time is over or an input fails."""
    config = parse(Config, prog="python -m tests.campaigns.fuzzing", description=__doc__ or "", positional=("target",))
    config.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        target, inputs = make_target(config.target, Path(scratch))
        if config.input is not None:
            target(config.input.read_bytes())
            return
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        for number, content in enumerate(inputs):
            (corpus / str(number)).write_bytes(content)

        def test_one(data: bytes) -> None:
            with suppress(*Refused):
                target(data)

        options = [f"-max_total_time={config.seconds}", f"-seed={config.seed}", f"-timeout={HANG_SEC:.0f}"]
        options += [f"-rss_limit_mb={MAX_MIB}", f"-max_len={MAX_BYTES}", f"-artifact_prefix={config.out}/"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], test_one)
        atheris.Fuzz()


if __name__ == "__main__":
    run(main)
