"""The studio's web application: its page's files and its API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse

from eval.latent.editing.background import NotYet
from eval.latent.photo import MAX_UPLOAD_BYTES
from eval.studio.server.api import UPLOADS_PATH, make_router
from eval.studio.server.api_page import api_page
from eval.studio.studio import Studio
from facegen import __version__
from shards.serving.web_app import add_files, guarded_app

_PAGE = Path(__file__).parents[1] / "page"
_TOKENS = Path(__file__).parents[2] / "reports" / "templates" / "tokens.css"
"""Colors that the page and reports share."""
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
    app = guarded_app(
        "facegen studio",
        password=password,
        large_bodies={UPLOADS_PATH: MAX_UPLOAD_BYTES},
        version=__version__,
        description="Everything that the studio's page does. Recipes describe faces; pictures are PNG.",
        openapi_url="/api/openapi.json",
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
    add_files(app, [*_PAGE.iterdir(), _TOKENS], start="index.html")
    app.add_exception_handler(NotYet, _not_yet)
    return app


def _not_yet(request: Request, error: Exception) -> Response:
    return JSONResponse({"working": str(error)}, 202)
