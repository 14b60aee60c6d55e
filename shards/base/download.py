"""Downloads a file once, whole and checked, however many processes ask for it."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from shards.base.errors import UserError
from shards.base.files import locked, make_folder, publish

TIMEOUT_SEC = 30.0
_BLOCK_BYTES = 1 << 20


class _Interrupted(OSError):
    """Less came than was announced; what came is good."""


def download(
    url: str,
    path: Path,
    sha256: str | None,
    timeout_sec: float = TIMEOUT_SEC,
    *,
    advice: str = "download it elsewhere",
    md5: str | None = None,
) -> None:
    """Downloads to a path where no file is yet, with a progress bar on a terminal.

    A download that broke off goes on where it stopped, if the server can do that and still has the same file.

    Args:
        url: Address of the file.
        path: Where it appears, whole or not at all.
        sha256: What the content must have; None takes any but a web page.
        timeout_sec: How long a silent server is waited for.
        advice: What to do without a network, for the error.
        md5: As ``sha256``, for files that are published with this weaker sum only.

    Raises:
        UserError: No answer, less than was announced, a web page, or other content than ``sha256`` says.
    """
    make_folder(path.parent)
    # All processes of a run come here at once: one downloads, the others then find the file.
    with locked(path.with_name(f".{path.name}.lock")):
        if path.is_file():
            return
        part = path.with_name(f".{path.name}.part")
        # Names the version that the part is of; without it nobody can say that the rest belongs to it.
        tag = path.with_name(f".{path.name}.etag")
        try:
            _fetch(url, part, tag, timeout_sec)
            check_download(part, sha256, md5)
            publish(part, path, durable=False)
            tag.unlink(missing_ok=True)
        except (OSError, http.client.HTTPException) as error:
            is_resumable = isinstance(error, _Interrupted | TimeoutError | ConnectionError) and tag.is_file()
            if not is_resumable and not isinstance(error, urllib.error.URLError):
                part.unlink(missing_ok=True)
                tag.unlink(missing_ok=True)
            again = "; run the same again to go on, or" if is_resumable else ";"
            raise UserError(f"{url} could not be downloaded ({_reason(error)}){again} {advice}.") from None


def is_web_page(start: bytes) -> bool:
    """Whether a file that begins like this is a page, such as the error or login page of a proxy, and not the file."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


def _reason(error: Exception) -> str:
    """What went wrong, without the name of the library that says so."""
    cause = error
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        cause = error.reason
    return getattr(cause, "strerror", None) or str(cause)


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
        version = _version(answer.headers)
        if version:
            tag.write_text(version)
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


def _version(headers: Mapping[str, str]) -> str:
    """What names the server's version of the file: its strong ETag, else its date; empty for neither."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def check_download(path: Path, sha256: str | None, md5: str | None = None) -> None:
    """Checks a file that came from elsewhere.

    Raises:
        OSError: It is a web page, or has another checksum.
    """
    with open(path, "rb") as file:
        if is_web_page(file.read(_BLOCK_BYTES)):
            raise OSError("the server answered with a web page in place of the file")
        for name, wanted in (("sha256", sha256), ("md5", md5)):
            file.seek(0)
            if wanted and (found := hashlib.file_digest(file, name).hexdigest()) != wanted:
                raise OSError(f"its {name} is {found} and not {wanted}")
