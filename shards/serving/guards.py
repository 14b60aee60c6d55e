"""Checks before every request: password, origin and size; and headers that limit what a page may do."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shards.base.printing import printable

MAX_JSON_BYTES = 1_000_000
BODY_SECONDS = 30.0
"""A request's body must arrive within this time."""
WRONG_PASSWORD_SECONDS = 1.0
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
MAX_IGNORED_BYTES = 100_000_000
"""Bytes read beyond a limit before the connection is cut."""
_LARGE_BODIES = 4
"""Uploads in memory at a time."""
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}


def refuse(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose sentence says what is wrong; half a character in a request could not be encoded again."""
    return JSONResponse({"error": printable(sentence)}, status, headers)


class SafeHeaders:
    """Adds ``HEADERS`` to every answer, except where it sets its own."""

    def __init__(self, app: ASGIApp) -> None:
        """Wraps an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class SameSite:
    """Refuses requests from other sites' pages.

    Any page can make its visitor's browser send requests to 127.0.0.1, or resolve its own name to that address.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        """``hosts``: host names that are answered; None for all, where a password protects the page."""
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "http" and (sentence := self._objection(scope)):
            await refuse(403, sentence)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _objection(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and _without_port(host) not in self.hosts:
            return "this page answers its own machine only, at http://127.0.0.1 and its port."
        is_read = scope["method"] in ("GET", "HEAD")
        if is_read and headers.get("sec-fetch-dest", "document") == "document":  # A link may lead here.
            return ""
        is_own = is_read or headers.get("origin") in (None, f"http://{host}", f"https://{host}")
        if not is_own or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "requests from other pages are refused; open this address itself."
        return ""


class Password:
    """Asks for a password, with any user name (HTTP Basic)."""

    def __init__(self, app: ASGIApp, password: str, realm: str) -> None:
        """``realm``: what the browser says that the password is for."""
        self.app = app
        self.password = password.encode()
        self.asks = {"www-authenticate": f'Basic realm="{realm}", charset="UTF-8"'}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = _password(Headers(scope=scope).get("authorization", ""))
        if given is not None and hmac.compare_digest(given, self.password):
            await self.app(scope, receive, send)
            return
        if given is not None:
            await asyncio.sleep(WRONG_PASSWORD_SECONDS)
        await refuse(401, "this page asks for its password.", self.asks)(scope, receive, send)


class BodyLimit:
    """Reads the body first, and refuses one that is too large or too slow."""

    def __init__(self, app: ASGIApp, large: Mapping[str, int]) -> None:
        """``large``: the limit in bytes of each path that accepts more than ``MAX_JSON_BYTES``."""
        self.app = app
        self.large = large
        self._few = asyncio.Semaphore(_LARGE_BODIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif scope["path"] in self.large:
            async with self._few:
                await self._limited(scope, receive, send, self.large[scope["path"]])
        else:
            await self._limited(scope, receive, send, MAX_JSON_BYTES)

    async def _limited(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive, limit, limit + MAX_IGNORED_BYTES)
        except TimeoutError:
            body = refuse(408, "the request took too long to arrive; send it again.", {"connection": "close"})
        except _TooLarge:
            body = refuse(413, f"the request is larger than {limit / 1e6:g} MB; send less.", {"connection": "close"})
        if body is None:
            return
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)


class _TooLarge(Exception):
    """A body beyond its limit."""


async def _read(receive: Receive, limit: int, most: int) -> bytes | None:
    """A whole body, or None if the client has disconnected.

    Bytes beyond the limit are read and dropped, up to ``most``: a browser that is still sending ignores the answer.

    Raises:
        _TooLarge: More than ``limit`` bytes.
    """
    body, num_bytes = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        num_bytes += len(part)
        if num_bytes <= limit:
            body += part
        else:
            body.clear()
        is_last = not message.get("more_body", False)
        if num_bytes > most or (is_last and num_bytes > limit):
            raise _TooLarge
        if is_last:
            return bytes(body)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _password(authorization: str) -> bytes | None:
    kind, _, value = authorization.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return None
