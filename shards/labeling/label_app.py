"""The labeling page's web application: its files, its pictures, and answers that are durable before confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

from shards.images.reading import BadImage
from shards.labeling.answers import ReactionTime, Smile, Trial
from shards.labeling.subjects import Labeling
from shards.serving.guards import refuse
from shards.serving.web_app import add_files, guarded_app

_PAGE = Path(__file__).parent / "page"


class _Subject(BaseModel):
    subject: str


class _GivenAnswer(_Subject):
    trial: Trial
    smile: Smile
    rt_ms: ReactionTime


def make_label_app(labeling: Labeling) -> FastAPI:
    """The application, for this machine only."""
    app = guarded_app("facegen labeling", openapi_url=None)
    add_files(app, _PAGE.iterdir(), start="label.html")
    app.add_exception_handler(OSError, _not_saved)

    @app.get("/images/{number}")
    def picture(number: int) -> Response:
        try:
            content = labeling.picture(number)
        except (IndexError, BadImage):
            raise HTTPException(404) from None
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    @app.get("/api/state")
    def state(subject: str = "") -> dict[str, Any]:
        return labeling.state(subject)

    @app.post("/api/answer")
    def answer(given: _GivenAnswer) -> dict[str, Any]:
        return labeling.answer(given.subject, given.trial, given.smile, given.rt_ms)

    @app.post("/api/undo")
    def undo(given: _Subject) -> dict[str, Any]:
        return labeling.undo(given.subject)

    return app


def _not_saved(request: Request, error: Exception) -> Response:
    """Such as a full disk: the page keeps the answer and retries."""
    assert isinstance(error, OSError)
    return refuse(500, f"the answer could not be saved ({error.strerror}).")
