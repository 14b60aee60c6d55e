"""How fsspec asks each kind of service: what a request costs, and how long it may be silent before it has failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shards.base.places import positive_number

TIMEOUT_VARIABLE = "FACEGEN_TIMEOUT_SEC"
DEFAULT_TIMEOUT_SEC = 20.0
"""Shorter than the time that launchers give a process to end."""
_SLOWEST_BYTES_PER_SEC = 250_000
"""An upload may take its bytes at this rate more: no service tells how many of them it has taken."""


@dataclass(frozen=True)
class Service:
    """Arguments for fsspec.

    Attributes:
        options: Of its file system: requests end after ``timeout_sec`` of silence, and it tries none again.
        part: Of ``cat_file`` for a part of a file.
        whole: Of ``cat_file`` for a whole file.
    """

    options: dict[str, Any] = field(default_factory=dict)
    part: dict[str, Any] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)


def find_service(protocol: str) -> Service:
    """What a protocol of fsspec, such as ``s3``, needs.

    Raises:
        UserError: As ``timeout_sec``.
        ImportError: The package of the service is missing.
    """
    seconds = timeout_sec()
    if protocol == "s3":
        config = {"connect_timeout": seconds, "read_timeout": seconds, "retries": {"total_max_attempts": 1}}
        # Without concurrency there is no second request, which asks for the size first.
        return Service({"config_kwargs": config}, whole={"max_concurrency": 1})
    if protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(None, sock_connect=seconds, sock_read=seconds)
        return Service({"client_kwargs": {"timeout": timeout}})
    if protocol == "hf":  # Otherwise each part of a file comes with the five megabytes behind it.
        return Service(part={"cache_type": "none"})
    return Service()


def timeout_sec() -> float:
    """The longest silence of a service, in seconds.

    Raises:
        UserError: The variable ``FACEGEN_TIMEOUT_SEC`` is not a positive number.
    """
    return positive_number(TIMEOUT_VARIABLE, DEFAULT_TIMEOUT_SEC, "seconds")


def upload_sec(num_bytes: int) -> float:
    """How long an upload of so many bytes may take."""
    return timeout_sec() + num_bytes / _SLOWEST_BYTES_PER_SEC
