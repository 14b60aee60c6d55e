"""Downloads weights files once, into the cache directory."""

from __future__ import annotations

from pathlib import Path

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
