"""Downloads a file of weights once, whole and checked, however many processes ask for it."""

from __future__ import annotations

import fcntl
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from facegen.cache import cache_directory
from shards.cli import UserError
from shards.tar import sha256_file

TIMEOUT_SEC = 30.0
_BLOCK_BYTES = 1 << 20
_ADVICE = "download it elsewhere and give --model.features.weights FILE"


class _Interrupted(OSError):
    """Less came than was announced; what came is good."""


def cached_path(url: str) -> Path:
    """Where ``cached_download`` keeps the file behind an address."""
    return cache_directory() / "weights" / url.rsplit("/", 1)[-1]


def cached_download(url: str, sha256: str | None, timeout_sec: float = TIMEOUT_SEC) -> Path:
    """The file behind an address, from the cache directory where it is there already.

    Args:
        url: Address of the file.
        sha256: What the content must have; None takes whatever comes whole over the (encrypted) connection.
        timeout_sec: How long a silent server is waited for.

    Raises:
        UserError: No answer, less than was announced, or other content than ``sha256`` says.
    """
    path = cached_path(url)
    download(url, path, sha256, timeout_sec)
    if sha256 and sha256_file(path) != sha256:
        raise UserError(f"{path} does not have the sha256 {sha256}; delete it to download it again.")
    return path


def download(url: str, path: Path, sha256: str | None, timeout_sec: float = TIMEOUT_SEC, advice: str = _ADVICE) -> None:
    """Downloads to a path where no file is yet, with a progress bar on a terminal.

    A download that broke off goes on where it stopped, if the server can do that and still has the same file.

    Args:
        url: Address of the file.
        path: Where it appears, whole or not at all.
        sha256: What the content must have; None takes any but a web page.
        timeout_sec: How long a silent server is waited for.
        advice: What to do without a network, for the error.

    Raises:
        UserError: No answer, less than was announced, a web page, or other content than ``sha256`` says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The processes of a run all come here at once: one downloads, the others then find the file.
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file():
            return
        part = path.with_name(f".{path.name}.part")
        # Names the version that the part is of; without it nobody can say that the rest belongs to it.
        tag = path.with_name(f".{path.name}.etag")
        try:
            _fetch(url, part, tag, timeout_sec)
            _check(part, sha256)
            os.replace(part, path)
            tag.unlink(missing_ok=True)
        except (OSError, http.client.HTTPException) as error:
            is_resumable = isinstance(error, _Interrupted | TimeoutError | ConnectionError) and tag.is_file()
            if not is_resumable and not isinstance(error, urllib.error.URLError):
                part.unlink(missing_ok=True)
                tag.unlink(missing_ok=True)
            again = "; run the same again to go on, or" if is_resumable else ";"
            raise UserError(f"{url} could not be downloaded ({error}){again} {advice}.") from None


def is_web_page(start: bytes) -> bool:
    """Whether a file that begins like this is a page, such as the error or login page of a proxy, and no weights."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


def _fetch(url: str, part: Path, tag: Path, timeout_sec: float) -> None:
    """Adds what is missing to a part, or starts over."""
    start = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"Range": f"bytes={start}-", "If-Range": tag.read_text()} if start else {}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_sec)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        part.unlink()  # It is as long as the file or longer, and so not the start of it.
        return _fetch(url, part, tag, timeout_sec)
    with answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise OSError("the server sent another part than it was asked for")
        start = start if goes_on else 0
        etag = answer.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            tag.write_text(etag)
        elif not goes_on:
            tag.unlink(missing_ok=True)
        announced = answer.headers.get("Content-Length")
        total = start + int(announced) if announced else None
        with (
            open(part, "ab" if goes_on else "wb") as file,
            tqdm(total=total, initial=start, desc=part.name[1:-5], unit="B", unit_scale=True, disable=None) as bar,
        ):
            while block := answer.read(_BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
    num_bytes = part.stat().st_size
    if total is not None and num_bytes != total:
        raise _Interrupted(f"{num_bytes:,} of {total:,} bytes came")


def _check(part: Path, sha256: str | None) -> None:
    with open(part, "rb") as file:
        if is_web_page(file.read(_BLOCK_BYTES)):
            raise OSError("the server answered with a web page in place of the weights")
    if sha256 and (found := sha256_file(part)) != sha256:
        raise OSError(f"its sha256 is {found} and not {sha256}")
