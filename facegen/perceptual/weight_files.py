"""Files of weights: downloaded once, into the cache directory, and read."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from shards.base.errors import UserError
from shards.base.places import cache_directory
from shards.dataset.tar import sha256_file
from shards.downloads.download import TIMEOUT_SEC, download

_ADVICE = "download it elsewhere and give --model.features.weights FILE"


def cached_path(url: str) -> Path:
    """Path at which ``cached_download`` keeps the file of an address."""
    return cache_directory() / "weights" / url.rsplit("/", 1)[-1]


def cached_download(url: str, sha256: str | None, timeout_sec: float = TIMEOUT_SEC) -> Path:
    """The file of an address, downloaded unless the cache directory has it.

    Args:
        url: Address of the file.
        sha256: Required checksum; None accepts any complete file.
        timeout_sec: Seconds to wait for a silent server.

    Raises:
        UserError: No answer, an incomplete file, or another checksum.
    """
    path = cached_path(url)
    download(url, path, sha256, timeout_sec, advice=_ADVICE)
    if sha256 and sha256_file(path) != sha256:
        raise UserError(f"{path} does not have the sha256 {sha256}; delete it to download it again.")
    return path


def read_tensors(path: Path, advice: str) -> dict[str, Tensor]:
    """Tensors by name, from a file of safetensors or ``torch.save``.

    Args:
        path: The file; its content decides, whatever its name.
        advice: What to do about a wrong file, for the error.

    Raises:
        UserError: No such file, or one that does not hold tensors by name.
    """
    if not path.is_file():
        raise UserError(f"the weights file {path} does not exist; {advice}.")
    try:
        tensors = load_file(path) if _is_safetensors(path) else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle can raise nearly anything.
        raise UserError(f"{path} does not hold weights ({type(error).__name__}); {advice}.") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} does not hold tensors by name; {advice}.")
    return tensors


def _is_safetensors(path: Path) -> bool:
    """Whether JSON follows the eight bytes of its length."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"
