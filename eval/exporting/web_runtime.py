"""onnxruntime-web, the program that runs ONNX files in a browser: two files of its npm package."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

from shards.base.errors import UserError
from shards.base.places import cache_directory
from shards.downloads.download import download

VERSION = "1.30.0"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/{ARCHIVE}"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_SCRIPT = "dist/ort.wasm.bundle.min.mjs"
_BINARY = "dist/ort-wasm-simd-threaded.wasm"
_ADVICE = f"download it elsewhere (npm pack onnxruntime-web@{VERSION}) and give it as --web_runtime {ARCHIVE}"


class WebRuntime(NamedTuple):
    """The two files."""

    script: bytes
    """JavaScript module."""
    binary: bytes
    """WebAssembly, which the script starts."""


def web_runtime(path: Path | None) -> WebRuntime:
    """Reads the files.

    Args:
        path: The npm package: an archive as ``npm pack`` writes it, or an unpacked folder. None takes the version that
            this project is tested with, which is downloaded once, checked, and kept in the cache directory.

    Raises:
        UserError: They are not there, or cannot be downloaded.
    """
    if path is None:
        path = cache_directory() / "web_runtime" / ARCHIVE
        download(URL, path, SHA256, advice=_ADVICE)
    try:
        if path.is_dir():
            folder = path / "package" if (path / "package").is_dir() else path
            return WebRuntime((folder / _SCRIPT).read_bytes(), (folder / _BINARY).read_bytes())
        with tarfile.open(path, "r:gz") as archive:
            return WebRuntime(_member(archive, _SCRIPT), _member(archive, _BINARY))
    except (OSError, tarfile.TarError, zlib.error, KeyError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip("'\"")
        raise UserError(f"{path} is not the npm package onnxruntime-web ({reason}); {_ADVICE}.") from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"package/{name}")
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()
