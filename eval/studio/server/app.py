"""The web application: the page's files, the API, and one sentence for every error."""

from __future__ import annotations

import os
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from eval.latent.editing.background import NotYet
from eval.latent.photo import MAX_UPLOAD_BYTES
from eval.studio.server.api import UPLOADS_PATH, make_router
from eval.studio.server.api_page import api_page
from eval.studio.server.guards import LOCAL_HOSTS, BodyLimit, Password, SafeHeaders, SameSite, refuse
from eval.studio.studio import Studio
from facegen import __version__
from shards.base.errors import UserError

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_TOKENS = Path(__file__).parents[2] / "reports" / "templates" / "tokens.css"
"""Colors that the page and reports share."""
_EXTRA_THREADS = 2
"""On top of one for each core, for requests that wait for a file or for each other."""
_MAX_SENTENCE = 300
_REPORT_POLICY = {"content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'"}


def make_app(
    studio: Studio, *, links: Mapping[str, str] | None = None, report: bytes | None = None, password: str | None = None
) -> FastAPI:
    """The application.

    Args:
        studio: Answers the requests.
        links: Addresses elsewhere, by title.
        report: Content of a report.html, served at /report.
        password: With one, every machine may connect and is asked for it; without, only this machine may.
    """
    guards = [
        Middleware(SafeHeaders),
        Middleware(SameSite, hosts=None if password else LOCAL_HOSTS),
        *([Middleware(Password, password=password)] if password else []),
        Middleware(BodyLimit, large={UPLOADS_PATH: MAX_UPLOAD_BYTES}),
    ]
    app = FastAPI(
        title="facegen studio",
        version=__version__,
        description="Everything that the studio's page does. Recipes describe faces; pictures are PNG.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        middleware=guards,
        lifespan=_few_threads,
    )
    found = dict(links or {})
    if report is not None:
        found["Report"] = "/report"
        app.add_api_route(
            "/report", lambda: Response(report, media_type="text/html", headers=_REPORT_POLICY), include_in_schema=False
        )
    app.include_router(make_router(studio, found))
    app.add_api_route(
        "/api/docs", lambda: Response(api_page(app.openapi()), media_type="text/html"), include_in_schema=False
    )
    for name, content in _page_files().items():
        _add_file(app, "/" if name == "index.html" else f"/{name}", content, _TYPES[Path(name).suffix])
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(NotYet, _not_yet)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    return app


def _page_files() -> dict[str, bytes]:
    """The page's files by name, read once: no request ever becomes a path."""
    folder = Path(__file__).parents[1] / "page"
    files = [path for path in folder.iterdir() if path.suffix in _TYPES]
    return {path.name: path.read_bytes() for path in [*files, _TOKENS]}


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    app.add_api_route(path, lambda: Response(content, media_type=media_type), include_in_schema=False)


@asynccontextmanager
async def _few_threads(app: FastAPI) -> AsyncIterator[None]:
    # The default of forty threads would slow each other down; a queue is fairer.
    anyio.to_thread.current_default_thread_limiter().total_tokens = (os.cpu_count() or 1) + _EXTRA_THREADS
    yield


def _user_error(request: Request, error: Exception) -> Response:
    return refuse(400, str(error))


def _not_yet(request: Request, error: Exception) -> Response:
    return JSONResponse({"working": str(error)}, 202)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return refuse(400, f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"[:_MAX_SENTENCE] + ".")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {
        404: "there is nothing at this address; /api/docs lists all addresses.",
        405: "this address takes another method; /api/docs says which.",
    }
    return refuse(error.status_code, sentences.get(error.status_code, f"{error.detail}."))


def _bug(request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return refuse(500, "the studio failed; its terminal shows the error.")
