"""A layer around a web application that lets a share of its requests fail or stall, and counts them all."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NoReturn, get_args

from werkzeug.test import run_wsgi_app

Fault = Literal["refused", "answer lost", "silent", "breaks off", "stuck"]
"""An error before or after the request is carried out; nothing read and no answer; half an answer, then its end, or
nothing more."""
_STALL_SEC = 60.0
"""Longer than clients should wait."""


class Faults:
    """Which requests fail; tests change ``share``.

    Attributes:
        share: Of the requests for which ``counts`` holds.
        requests: How many came, by method.
        injected: How many failed, by method and kind.
    """

    def __init__(self, counts: Callable[[dict[str, Any]], bool]) -> None:
        """Lets nothing fail yet.

        Args:
            counts: Whether a request, given as its WSGI environment, may fail and is counted.
        """
        self.share = 0.0
        self.requests: Counter[str] = Counter()
        self.injected: Counter[tuple[str, Fault]] = Counter()
        self._counts = counts
        self._random, self._lock, self._ended = random.Random(0), threading.Lock(), threading.Event()

    def around(self, app: Any) -> Any:
        """The application with faults."""

        def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            fault = self._draw(environ)
            if fault is None:
                return app(environ, start_response)
            if fault == "silent":
                self._stall()
            if fault == "refused":
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                return _unavailable(start_response)
            answer, status, headers = run_wsgi_app(app, environ)
            body = b"".join(answer)
            if fault == "answer lost":
                return _unavailable(start_response)
            if not body:  # There is no half of it.
                self._break_off() if fault == "breaks off" else self._stall()
            start_response(status, list(headers))
            return self._half(body, fault)

        return serve

    def end(self) -> None:
        """Ends the stalled requests."""
        self._ended.set()

    def _draw(self, environ: dict[str, Any]) -> Fault | None:
        if not self._counts(environ):
            return None
        method = environ["REQUEST_METHOD"]
        with self._lock:
            self.requests[method] += 1
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(get_args(Fault))
            self.injected[method, fault] += 1
            return fault

    def _half(self, body: bytes, fault: Fault) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        self._break_off() if fault == "breaks off" else self._stall()

    def _stall(self) -> NoReturn:
        self._ended.wait(_STALL_SEC)
        self._break_off()

    def _break_off(self) -> NoReturn:
        raise ConnectionAbortedError


def _unavailable(start_response: Any) -> Iterable[bytes]:
    start_response("503 Slow Down", [("Content-Length", "0")])
    return []
