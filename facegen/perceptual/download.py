"""Downloads a file of weights once, whole and checked, however many processes ask for it."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path

from facegen.cache import cache_directory
from shards.cli import UserError
from shards.tar import sha256_file

TIMEOUT_SEC = 30.0
_BLOCK_BYTES = 1 << 20


def cached_download(url: str, sha256: str | None, timeout_sec: float = TIMEOUT_SEC) -> Path:
    """The file behind an address, from the cache directory where it is there already.

    Args:
        url: Address of the file.
        sha256: What the content must have; None takes whatever comes whole over the (encrypted) connection.
        timeout_sec: How long a silent server is waited for.

    Raises:
        UserError: No answer, less than was announced, or other content than ``sha256`` says.
    """
    path = cache_directory() / "weights" / url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    # The processes of a run all come here at once: one downloads, the others then find the file.
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            _download(url, path, sha256, timeout_sec)
    if sha256 and sha256_file(path) != sha256:
        raise UserError(f"{path} does not have the sha256 {sha256}; delete it to download it again.")
    return path


def _download(url: str, path: Path, sha256: str | None, timeout_sec: float) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=timeout_sec) as answer:
            announced = answer.headers.get("Content-Length")
            digest = hashlib.sha256()
            while block := answer.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
            num_bytes = file.tell()
        if announced and num_bytes != int(announced):
            raise OSError(f"{num_bytes:,} of {int(announced):,} bytes came")
        if sha256 and digest.hexdigest() != sha256:
            raise OSError(f"its sha256 is {digest.hexdigest()} and not {sha256}")
        os.replace(temporary, path)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{url} could not be downloaded ({error}); download it elsewhere and give --model.features.weights FILE."
        ) from None
    finally:
        Path(temporary).unlink(missing_ok=True)
