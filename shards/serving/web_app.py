"""What every served page has: guards before each request, files that are read once, one sentence for every error."""

from __future__ import annotations

import os
import traceback
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from shards.base.errors import UserError
from shards.serving.guards import LOCAL_HOSTS, BodyLimit, Password, SafeHeaders, SameSite, refuse

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_EXTRA_THREADS = 2
"""On top of one for each core, for requests that wait for a file or for each other."""
_MAX_SENTENCE = 300


def guarded_app(
    title: str, *, password: str | None = None, large_bodies: Mapping[str, int] | None = None, **options: Any
) -> FastAPI:
    """An application without routes.

    Args:
        title: What is served.
        password: With one, every machine may connect and is asked for it; without, only this machine may.
        large_bodies: The limit in bytes of each path that accepts more than ``MAX_JSON_BYTES``.
        options: FastAPI's own.
    """
    guards = [
        Middleware(SafeHeaders),
        Middleware(SameSite, hosts=None if password else LOCAL_HOSTS),
        *([Middleware(Password, password=password, realm=title)] if password else []),
        Middleware(BodyLimit, large=large_bodies or {}),
    ]
    app = FastAPI(title=title, docs_url=None, redoc_url=None, middleware=guards, lifespan=_few_threads, **options)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    return app


def add_files(app: FastAPI, files: Iterable[Path], start: str) -> None:
    """Serves the pages, styles and scripts among ``files``, read once: no request becomes a path.

    Args:
        app: Takes the routes.
        files: Each is served under its name.
        start: Name of the page that is served at ``/``.
    """
    for file in files:
        if file.suffix in _TYPES:
            _add_file(app, "/" if file.name == start else f"/{file.name}", file.read_bytes(), _TYPES[file.suffix])


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    app.add_api_route(path, lambda: Response(content, media_type=media_type), include_in_schema=False)


@asynccontextmanager
async def _few_threads(app: FastAPI) -> AsyncIterator[None]:
    # The default of forty threads would slow each other down; a queue is fairer.
    anyio.to_thread.current_default_thread_limiter().total_tokens = (os.cpu_count() or 1) + _EXTRA_THREADS
    yield


def _user_error(request: Request, error: Exception) -> Response:
    return refuse(400, str(error))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return refuse(400, f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"[:_MAX_SENTENCE] + ".")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "there is nothing at this address", 405: "this address takes another method"}
    return refuse(error.status_code, f"{sentences.get(error.status_code, error.detail)}.", error.headers)


def _bug(request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return refuse(500, "the server failed; its terminal shows the error.")
