"""Connections whose client keeps the server waiting are dropped: before any password, and before they are too many."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

WAITING_SECONDS = 40.0
"""Longer than ``BODY_SECONDS``, so that a body that does not end is answered first."""
MAX_WAITING = 128
"""Connections that may wait for their clients at a time; fewer than ``MAX_CONNECTIONS``, so that others find room."""


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for a client only so long: for the end of a request, and until an answer is read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Takes what uvicorn gives its protocols."""
        super().__init__(*args, **options)
        self.waiting_since: float | None = None
        """None while it is the server's turn."""
        self._timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for the first request; where too many connections wait, drops the one that has waited longest."""
        super().connection_made(transport)
        self._wait()
        others = [other for other in self.connections if isinstance(other, ImpatientProtocol)]
        waiting = [(other.waiting_since, other) for other in others if other.waiting_since is not None]
        if len(waiting) > MAX_WAITING:
            min(waiting, key=lambda item: item[0])[1]._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stops the clock when the request is whole; more of it does not set the clock back."""
        super().data_received(data)
        self._update()

    def on_response_complete(self) -> None:
        """Waits until the client has read the answer and sent another request."""
        super().on_response_complete()
        self._stop_waiting()
        self._update()

    def _update(self) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self._stop_waiting()
        elif self.waiting_since is None:
            self._wait()

    def _wait(self) -> None:
        self.waiting_since = self.loop.time()
        self._start_clock()

    def _start_clock(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(WAITING_SECONDS, self._expire)

    def _stop_waiting(self) -> None:
        self.waiting_since = None
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        is_reading = 0 < self.transport.get_write_buffer_size() < self._unread_bytes
        if is_reading or self.flow.read_paused:  # A slow line, or a body that waits for its turn here.
            self._start_clock()
        else:
            self._drop()

    def _drop(self) -> None:
        self._stop_waiting()
        self.transport.abort()
