"""Runs a page's application until Ctrl-C. Imports the web packages, which are optional, only then."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from shards.base.errors import UserError
from shards.serving.memory import share_heap

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

LOOPBACK = "127.0.0.1"
"""The address of this machine that no other machine can reach."""
MAX_CONNECTIONS = 256


def require_web_packages(what: str) -> None:
    """Checks that the packages of a served page are installed.

    Raises:
        UserError: They are not; the sentence begins with ``what``.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise UserError(f"{what} needs fastapi and uvicorn; install: pip install 'facegen[studio]'") from None


def listen(host: str, port: int) -> socket.socket:
    """Opens a port; 0 takes a free one.

    Raises:
        UserError: The port is in use, or this user may not open it.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        advice = "give another --port, or --port 0 for any free one"
        raise UserError(f"port {port} cannot be used ({error.strerror}); {advice}.") from None


def make_server(app: FastAPI) -> uvicorn.Server:
    """The server of an application."""
    import uvicorn

    from shards.serving.connections import ImpatientProtocol

    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    return uvicorn.Server(config)


def run_app(app: FastAPI, listening: socket.socket) -> None:
    """Serves until Ctrl-C."""
    share_heap()
    with suppress(KeyboardInterrupt):
        make_server(app).run(sockets=[listening])
