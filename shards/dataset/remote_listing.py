"""What lies below an address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

Patience = Callable[[Callable[[], Any]], Any]
"""Calls a function again until the service answers, and returns its result."""


class Listed(NamedTuple):
    """A file."""

    name: str
    """Relative to the address."""
    num_bytes: int
    etag: str | None
    """What the service gives another value with every content; None where it gives none."""


def list_files(files: Any, root: str, persistently: Patience) -> Iterator[Listed]:
    """Every file below the root, in any order.

    Args:
        files: A file system of fsspec.
        root: As it names the folder.
        persistently: How each request is repeated.
    """
    if "s3" in files.protocol:
        yield from _by_page(files, root, persistently)
        return
    for path, info in persistently(partial(_find, files, root)).items():
        yield Listed(path.removeprefix(f"{root}/"), int(info["size"]), info.get("ETag") or info.get("etag"))


def _find(files: Any, root: str) -> dict[str, Any]:
    files.invalidate_cache()
    return files.find(root, detail=True)


def _by_page(files: Any, root: str, persistently: Patience) -> Iterator[Listed]:
    """Repeats each page of a thousand alone: that all of a hundred succeed is rare where some fail."""
    bucket, key, _ = files.split_path(root)
    prefix, more = f"{key}/" if key else "", {}
    while True:
        page = persistently(partial(files.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more))
        for item in page.get("Contents", ()):
            if not item["Key"].endswith("/"):  # Stands for a folder.
                yield Listed(item["Key"].removeprefix(prefix), item["Size"], item.get("ETag"))
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}
