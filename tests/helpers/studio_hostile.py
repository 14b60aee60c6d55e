"""Hostile files and requests for the studio, by name."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from bad_images import jpeg_of_scans
from eval.latent.photo import MAX_UPLOAD_BYTES
from studio_runs import png

SEED = {"kind": "sample", "seed": 1}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims very many pixels and holds the first of them."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(3_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def text_bomb() -> bytes:
    """A PNG whose comment unpacks to 64 MB."""
    comment = b"Comment\0\0" + zlib.compress(b"a" * 64_000_000, 9)
    whole = png()
    return whole[:33] + chunk(b"zTXt", comment) + whole[33:]


def exif_loop() -> bytes:
    """A JPEG whose EXIF directory names itself as the next one, and an orientation of 99 bytes."""
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">H", 1) + struct.pack(">HHII", 0x0112, 2, 99, 8) + struct.pack(">I", 8)
    exif = b"Exif\0\0" + tiff
    jpeg = saved(Image.new("RGB", (20, 20)), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"latent": torch.zeros(8)}, buffer)
    return buffer.getvalue()


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    return buffer.getvalue()


def frames(form: str) -> bytes:
    image = Image.new("P", (400, 400))
    return saved(image, form, save_all=True, append_images=[Image.new("P", (400, 400), 1)] * 200)


class Runs:
    """Fails the test if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


HOSTILE_FILES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "bomb of 3.6 gigapixels": lambda: bomb(60_000, 60_000),
    "100 megapixels": lambda: bomb(10_000, 10_000),
    "a line of 60 million pixels": lambda: bomb(60_000_000, 1),
    "JPEG of 500 scans": lambda: jpeg_of_scans(500),
    "truncated JPEG": lambda: saved(Image.effect_noise((300, 300), 90), "JPEG")[:3000],
    "truncated PNG": lambda: saved(Image.effect_noise((300, 300), 90), "PNG")[:3000],
    "PNG with wrong checksums": lambda: png().replace(b"IDAT", b"IDAU"),
    "SVG with a script": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "HTML": lambda: b"<!doctype html><script>alert(1)</script>",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
    "PDF": lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "GIF of 200 frames": lambda: frames("GIF"),
    "TIFF": lambda: saved(Image.new("RGB", (20, 20)), "TIFF"),
    "float TIFF": lambda: saved(Image.new("F", (20, 20)), "TIFF"),
    "comment that unpacks to 64 MB": text_bomb,
    "pickle": lambda: pickle.dumps(Runs()),
    "PyTorch file": torch_file,
    "NumPy file of objects": object_array,
    "ZIP with a path": zip_file,
    "random bytes": lambda: np.random.default_rng(0).bytes(5000),
    "safetensors with another tensor": lambda: save({"weights": np.zeros(4, np.float32)}, {"snapshot": "x"}),
    "safetensors without its metadata": lambda: save({"latent": np.zeros(4, np.float32)}),
    "safetensors with NaN": lambda: save({"latent": np.full(4, np.nan, np.float32)}, {"snapshot": "x"}),
    "safetensors with a header of 2 GB": lambda: struct.pack("<Q", 2**31) + b'{"latent":' + b" " * 100,
    "safetensors whose header is no object": lambda: struct.pack("<Q", 2) + b"{]" + bytes(20),
    "safetensors with overlapping tensors": lambda: _overlapping(),
    "more bytes than are allowed": lambda: bytes(MAX_UPLOAD_BYTES + 1),
}
"""Each is refused."""

ODD_BUT_GOOD: dict[str, Callable[[], bytes]] = {
    "JPEG of 100 scans": lambda: jpeg_of_scans(100),
    "JPEG with a ZIP behind it": lambda: saved(Image.new("RGB", (20, 20)), "JPEG") + zip_file(),
    "PNG with a script behind it": lambda: png() + b"<script>alert(1)</script>",
    "GPS and a long comment in EXIF": lambda: saved(Image.new("RGB", (20, 20)), "JPEG", exif=_exif()),
    "EXIF that loops": exif_loop,
    "one pixel": lambda: png((1, 1)),
    "one line": lambda: png((900, 1)),
    "16 bit": lambda: saved(Image.fromarray(np.full((20, 20), 30_000, np.uint16)), "PNG"),
    "CMYK": lambda: saved(Image.new("CMYK", (20, 20)), "JPEG"),
}
"""Polyglots and odd files with a photo in them: only the photo is read."""


def _overlapping() -> bytes:
    header = {"__metadata__": {"snapshot": "x"}}
    header |= {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("latent", "other")}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 30_000
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def recipe(**parts: Any) -> dict[str, Any]:
    return {"face": SEED} | parts


def deep(depth: int = 50_000) -> bytes:
    return b'{"face":' + b"[" * depth + b"]" * depth + b"}"


PICTURE = "/api/runs/vae/picture"
HOSTILE_CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "path as a run": ("POST", "/api/runs/..%2f..%2fetc%2fpasswd/picture", {"json": recipe()}),
    "path as a split": ("GET", "/api/data/..%2f..%2fetc/0/picture", {}),
    "path as a page file": ("GET", "/..%2f..%2fetc/passwd", {}),
    "path as a training": ("GET", "/api/trainings/..%2f..%2fetc", {}),
    "path as a curve": ("GET", "/api/trainings/vae/curves/..%2f..%2fconfig.yaml", {}),
    "path as a picture": ("GET", "/api/trainings/vae/pictures/..%2f../1", {}),
    "path as a token": ("GET", "/api/uploads/..%2f..%2fetc%2fpasswd/picture", {}),
    "NUL in a run's name": ("POST", "/api/runs/vae%00/picture", {"json": recipe()}),
    "token that nobody has": ("POST", PICTURE, {"json": {"face": {"kind": "upload", "token": "a" * 22}}}),
    "row beyond the end": ("POST", PICTURE, {"json": {"face": {"kind": "data", "split": "test", "row": 10**9}}}),
    "negative row": ("GET", "/api/data/test/-1/picture", {}),
    "huge row": ("GET", f"/api/data/test/{10**30}/picture", {}),
    "seed that is no number": ("POST", PICTURE, {"json": {"face": {"kind": "sample", "seed": "'; DROP TABLE"}}}),
    "NaN": ("POST", PICTURE, {"content": b'{"face":{"kind":"sample","seed":1,"std":NaN}}'}),
    "infinity": ("POST", PICTURE, {"content": b'{"face":{"kind":"sample","seed":1},"axes":{"0":1e999}}'}),
    "far too large": ("POST", PICTURE, {"json": recipe(axes={"0": 1e9})}),
    "axis that is not there": ("POST", PICTURE, {"json": recipe(axes={"99999": 1})}),
    "axis with a name": ("POST", PICTURE, {"json": recipe(axes={"__class__": 1})}),
    "ten thousand axes": ("POST", PICTURE, {"json": recipe(axes={str(axis): 1 for axis in range(10_000)})}),
    "attribute that is not there": ("POST", PICTURE, {"json": recipe(attributes={"../x": 1})}),
    "unknown key": ("POST", PICTURE, {"json": recipe(path="/etc/passwd")}),
    "wrong kind": ("POST", PICTURE, {"json": {"face": {"kind": "file", "path": "/etc/passwd"}}}),
    "list": ("POST", PICTURE, {"json": [1, 2]}),
    "no JSON": ("POST", PICTURE, {"content": b"{"}),
    "bytes that are no text": ("POST", PICTURE, {"content": b"\xff\xfe\x00"}),
    "50,000 brackets": ("POST", PICTURE, {"content": deep()}),
    "number of 5,000 digits": ("POST", PICTURE, {"content": b'{"face":{"kind":"sample","seed":' + b"9" * 5000 + b"}}"}),
    "body of 2 MB": ("POST", PICTURE, {"content": b" " * 2_000_000}),
    "form": ("POST", PICTURE, {"data": {"face": "x"}}),
    "morph through a hundred faces": (
        "POST",
        "/api/runs/vae/morph",
        {"json": {"recipes": [recipe()] * 100, "position": 0}},
    ),
    "animation of a million pictures": (
        "POST",
        "/api/runs/vae/morph/animation",
        {"json": {"recipes": [recipe()] * 2, "steps": 1_000_000}},
    ),
    "animation of too many in all": (
        "POST",
        "/api/runs/vae/morph/animation",
        {"json": {"recipes": [recipe()] * 8, "steps": 48}},
    ),
    "format that runs a program": (
        "POST",
        "/api/runs/vae/morph/animation",
        {"json": {"recipes": [recipe()] * 2, "format": "mp4; rm -rf /"}},
    ),
    "thousand runs": ("POST", "/api/compare", {"json": {"runs": ["vae"] * 1000, "recipe": recipe()}}),
    "grid of 99": ("POST", "/api/runs/vae/neighbors", {"json": {"recipe": recipe(), "size": 99}}),
    "half a character": (
        "POST",
        PICTURE,
        {"content": b'{"face": {"kind": "\\ud800"}}', "headers": {"content-type": "application/json"}},
    ),
    "map of no method": ("GET", "/api/runs/vae/map?method=exec", {}),
    "label that is not there": ("GET", "/api/runs/vae/map?method=pca&label=__proto__", {}),
    "million sliders": ("GET", "/api/runs/vae/axes?num=1000000", {}),
    "method that is not there": ("DELETE", "/api/runs/vae/picture", {}),
    "another site's page": ("POST", PICTURE, {"json": recipe(), "headers": {"origin": "https://evil.example"}}),
    "a file's page": ("POST", PICTURE, {"json": recipe(), "headers": {"origin": "null"}}),
    "sent across sites": ("POST", PICTURE, {"json": recipe(), "headers": {"sec-fetch-site": "cross-site"}}),
    "origin that is no address": ("POST", PICTURE, {"json": recipe(), "headers": {"origin": "http://["}}),
    "read by another site's page": (
        "GET",
        "/api/studio",
        {"headers": {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}},
    ),
    "name that leads here": ("GET", "/api/studio", {"headers": {"host": "evil.example:7860"}}),
    "length that is no number": ("POST", PICTURE, {"content": b"{}", "headers": {"content-length": "-5"}}),
}


def attack(address: str) -> None:
    """Sends every file and every call to a studio, which must answer each, or close the connection of a broken one."""
    with httpx.Client(base_url=address, timeout=120) as client:
        for name, make in (HOSTILE_FILES | ODD_BUT_GOOD).items():
            response = client.post("api/uploads", content=make())
            assert response.status_code in ((400, 413) if name in HOSTILE_FILES else (200,)), name
    for name, (method, path, options) in HOSTILE_CALLS.items():
        kind = {"content-type": "application/json"} if "content" in options else {}
        options = {**options, "headers": kind | options.get("headers", {})}
        try:
            # A new connection each: a client that lies about lengths leaves a broken one.
            response = httpx.request(method, address.rstrip("/") + path, timeout=60, **options)
        except (httpx.RemoteProtocolError, httpx.LocalProtocolError):
            continue
        assert response.status_code < 500, name
