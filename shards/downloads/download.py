"""Downloads a file once, whole and checked, however many processes ask for it."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from shards.base.errors import UserError
from shards.base.files import locked, make_folder, publish, write_bytes, writing_to
from shards.base.progress import ProgressLine

TIMEOUT_SEC = 30.0
_BLOCK_BYTES = 1 << 20


class _Interrupted(OSError):
    """The download ended early; the received part is intact."""


def download(
    url: str,
    path: Path,
    sha256: str | None,
    timeout_sec: float = TIMEOUT_SEC,
    *,
    advice: str = "download it elsewhere",
    md5: str | None = None,
) -> None:
    """Downloads a file unless it exists, with a progress bar on a terminal.

    An interrupted download resumes if the server supports that and still has the same file.

    Args:
        url: Address of the file.
        path: Where it appears, whole or not at all.
        sha256: Checksum of the content, or its first digits; None accepts anything but a web page.
        timeout_sec: How long to wait for a silent server.
        advice: What to do without a network, for the error.
        md5: As ``sha256``, for files that are published with this weaker checksum only.

    Raises:
        UserError: No answer, an incomplete file, a web page, a wrong checksum, or a disk that refuses.
    """
    make_folder(path.parent)
    # All processes of a run come here at once: one downloads, the others then find the file.
    with ExitStack() as lock:
        with writing_to(path.parent):
            lock.enter_context(locked(path.with_name(f".{path.name}.lock")))
        if path.is_file():
            return
        part = path.with_name(f".{path.name}.part")
        # Names the version that the part belongs to; without it, the rest may come from another file.
        tag = path.with_name(f".{path.name}.etag")
        try:
            _fetch(url, part, tag, timeout_sec)
            check_download(part, sha256, md5)
            with writing_to(path):
                publish(part, path, durable=False)
                tag.unlink(missing_ok=True)
        except (OSError, http.client.HTTPException) as error:
            is_resumable = isinstance(error, _Interrupted | TimeoutError | ConnectionError) and tag.is_file()
            if not is_resumable and not isinstance(error, urllib.error.URLError):
                with suppress(OSError):
                    part.unlink(missing_ok=True)
                    tag.unlink(missing_ok=True)
            again = "; rerun to resume, or" if is_resumable else ";"
            raise UserError(f"{url} could not be downloaded ({_reason(error)}){again} {advice}.") from None


def is_web_page(start: bytes) -> bool:
    """Whether a file that begins like this is a web page, such as the error or login page of a proxy."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


def _reason(error: Exception) -> str:
    """The cause in words, without the wrapping of the library."""
    cause = error
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        cause = error.reason
    return getattr(cause, "strerror", None) or str(cause)


def _fetch(url: str, part: Path, tag: Path, timeout_sec: float) -> None:
    """Downloads what a part lacks, or starts over."""
    start = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"Range": f"bytes={start}-", "If-Range": tag.read_text("utf-8")} if start else {}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_sec)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        with writing_to(part):
            part.unlink()  # It is not shorter than the file, so not a part of it.
        return _fetch(url, part, tag, timeout_sec)
    with answer:
        resumes = answer.status == http.client.PARTIAL_CONTENT
        if resumes and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise OSError("the server sent a different part than requested")
        start = start if resumes else 0
        version = _version(answer.headers)
        with writing_to(part):
            if version:
                write_bytes(tag, version.encode(), durable=False)
            elif not resumes:
                tag.unlink(missing_ok=True)
            # Unbuffered, so that no error waits for the file's end.
            file = open(part, "ab" if resumes else "wb", buffering=0)  # noqa: SIM115
        announced = answer.headers.get("Content-Length")
        total = start + int(announced) if announced else None
        with (
            file,
            ProgressLine(part.name[1:-5], total, "B", initial=start) as progress,
        ):
            while block := answer.read(_BLOCK_BYTES):
                rest = memoryview(block)
                with writing_to(part, "free space, then rerun to resume"):
                    while rest:
                        rest = rest[file.write(rest) :]
                progress.update(len(block))
    num_bytes = part.stat().st_size
    if total is not None and num_bytes != total:
        raise _Interrupted(f"received {num_bytes:,} of {total:,} bytes")


def _version(headers: Mapping[str, str]) -> str:
    """How the server names this version of the file: its strong ETag, else its date, else an empty string."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def check_download(path: Path, sha256: str | None, md5: str | None = None) -> None:
    """Checks a file that came from elsewhere.

    Raises:
        OSError: It is a web page, or has another checksum.
    """
    with open(path, "rb") as file:
        if is_web_page(file.read(_BLOCK_BYTES)):
            raise OSError("the server sent a web page instead of the file")
        for name, wanted in (("sha256", sha256), ("md5", md5)):
            file.seek(0)
            if wanted and not (found := hashlib.file_digest(file, name).hexdigest()).startswith(wanted):
                raise OSError(f"its {name} is {found}, not {wanted}")
