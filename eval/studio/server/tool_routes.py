"""Serves the routes of latent tools: the signature of a tool's function becomes the API."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from eval.latent.editing.recipes import Name
from eval.latent.tools.tool import Encoded, StudioRoute
from eval.studio.studio import Studio
from shards.images.codecs import encode

RunName = Annotated[Name, Path(description="Name of a run, as /api/studio lists it.")]


class Png(Response):
    """A picture."""

    media_type = "image/png"


_FILES = {np.ndarray: Png, Encoded: Response}


def add_tool_route(router: APIRouter, studio: Studio, route: StudioRoute) -> None:
    """Adds a tool's route for all runs of the studio."""
    signature = inspect.signature(route.answer, eval_str=True)
    answers = signature.return_annotation
    router.add_api_route(
        f"/runs/{{run}}/{route.path}",
        _endpoint(studio, route, signature),
        methods=[route.method],
        tags=[route.group],
        name=route.name or route.path.rpartition("/")[2],
        description=(inspect.getdoc(route.answer) or "").partition("\n\n")[0],
        response_model=None if answers in _FILES else answers,
        response_class=_FILES.get(answers, JSONResponse),
    )


def _endpoint(studio: Studio, route: StudioRoute, signature: inspect.Signature) -> Callable[..., Any]:
    """The route's function, taking the run's name instead of its editor; FastAPI reads the signature."""
    turn = asyncio.Lock()

    def answer(run: str, **asked: Any) -> Any:
        return _sent(route.answer(studio.run(run), **asked))

    async def answer_in_turn(run: str, **asked: Any) -> Any:
        async with turn:
            return await run_in_threadpool(answer, run, **asked)

    endpoint = answer_in_turn if route.one_at_a_time else answer
    _, *asked = signature.parameters.values()
    parameters = [Parameter("run", Parameter.KEYWORD_ONLY, annotation=RunName)]
    parameters += [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in asked]
    endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return endpoint


def _sent(found: Any) -> Any:
    if isinstance(found, np.ndarray):
        return Png(encode(found, "png"))
    if isinstance(found, Encoded):
        return Response(found.content, media_type=found.media_type)
    return found
