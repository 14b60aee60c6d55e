"""The studio's HTTP API: thin routes over the functions that do the work. The page calls nothing else."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from eval.studio import rendered as pictures
from eval.studio import responses as answers
from eval.studio.background import NotYet
from eval.studio.face_map import Method, colors
from eval.studio.recipes import (
    AnimationRequest,
    CompareRequest,
    Given,
    GridRequest,
    MorphRequest,
    Name,
    Recipe,
    Stored,
    Uploaded,
)
from eval.studio.run import StudioRun
from eval.studio.running import PictureKind
from eval.studio.studio import Studio
from eval.studio.uploads import Photo
from shards.base.errors import UserError
from shards.images.codecs import encode

UPLOADS_PATH = "/api/uploads"
RunName = Annotated[Name, Path(description="Name of a run, as /api/studio lists it.")]
SplitName = Annotated[Literal["train", "val", "test"], Path()]
Row = Annotated[int, Path(ge=0, le=2**40, description="Counts within the split, from 0.")]
_SVG_POLICY = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
_ERRORS: dict[int | str, dict[str, Any]] = {
    202: {"model": answers.WorkingAnswer, "description": "Being computed; ask again in a second."},
    400: {"model": answers.ErrorAnswer, "description": "What is wrong, as a sentence."},
}


class Png(Response):
    """A picture."""

    media_type = "image/png"


def make_router(studio: Studio, links: Mapping[str, str]) -> APIRouter:
    """All routes.

    Args:
        studio: Where the answers come from.
        links: Addresses elsewhere by title, such as TensorBoard's.
    """
    router = APIRouter(prefix="/api", responses=_ERRORS)
    _add_overview(router, studio, links)
    _add_faces(router, studio)
    _add_recipes(router, studio)
    _add_morphs(router, studio)
    _add_training(router, studio)
    return router


def _add_overview(router: APIRouter, studio: Studio, links: Mapping[str, str]) -> None:
    @router.get("/studio", tags=["Overview"])
    def overview() -> answers.StudioAnswer:
        """Runs, data, and what may be sent."""
        return answers.StudioAnswer(**studio.describe(), links=dict(links))

    @router.get("/runs/{run}/axes", tags=["Overview"])
    def axes(
        run: RunName, first: Annotated[int, Query(ge=0)] = 0, num: Annotated[int, Query(ge=1, le=512)] = 12
    ) -> answers.AxesAnswer:
        """Sliders: principal components, the one that explains most first; single dims where there is no data."""
        sliders = studio.run(run).sliders.get()
        numbers = range(first, min(first + num, len(sliders.axes.units)))
        listed = [
            answers.AxisAnswer(
                number=number,
                share=None if sliders.shares is None else float(sliders.shares[number]),
                std=float(sliders.axes.units[number]),
            )
            for number in numbers
        ]
        return answers.AxesAnswer(kind=sliders.kind, total=len(sliders.axes.units), axes=listed)

    @router.get("/runs/{run}/attributes", tags=["Overview"])
    def attributes(run: RunName) -> answers.AttributesAnswer:
        """Attribute vectors, with how many faces are behind each; or why there are none."""
        try:
            found = studio.run(run).attributes.get()
        except UserError as error:
            return answers.AttributesAnswer(attributes=[], reason=str(error))
        lengths = np.linalg.norm(found.vectors, axis=1)
        listed = [
            answers.AttributeAnswer(
                name=name,
                num_present=int(found.num_present[row]),
                num_absent=int(found.num_absent[row]),
                length=float(lengths[row]),
            )
            for row, name in enumerate(found.names)
        ]
        return answers.AttributesAnswer(attributes=listed, reason="")


def _add_faces(router: APIRouter, studio: Studio) -> None:
    @router.get("/data/{split}", tags=["Faces"])
    def faces(
        split: SplitName, first: Annotated[int, Query(ge=0)] = 0, num: Annotated[int, Query(ge=1, le=120)] = 24
    ) -> list[answers.FaceAnswer]:
        """Faces of the data set with their labels."""
        return [answers.FaceAnswer(**face) for face in studio.faces(split, first, num)]

    @router.get("/data/{split}/{row}/picture", tags=["Faces"], response_class=Png)
    def face_picture(split: SplitName, row: Row) -> Png:
        """One face of the data set."""
        return Png(studio.face_picture(split, row), headers={"cache-control": "private, max-age=3600"})

    @router.post(
        "/uploads",
        tags=["Faces"],
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    async def upload(request: Request) -> answers.UploadAnswer:
        """Takes a photo (JPEG, PNG or WebP) or a saved latent as the body, and keeps it in memory for a while."""
        data = await request.body()
        token, item = await run_in_threadpool(studio.uploads.add, data)
        if isinstance(item, Photo):
            height, width = item.pixels.shape[:2]
            face = Uploaded(kind="upload", token=token, crop=None, align=False)
            return answers.UploadAnswer(face=face, width=width, height=height)
        return answers.UploadAnswer(face=Given(kind="latent", token=token))

    @router.get("/uploads/{token}/picture", tags=["Faces"], response_class=Png)
    def uploaded_picture(token: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{22}$")]) -> Png:
        """An uploaded photo as it is kept."""
        return Png(encode(studio.uploads.photo(token).pixels, "png"))

    @router.post("/runs/{run}/original", tags=["Faces"], response_class=Png)
    def original(run: RunName, face: Stored | Uploaded) -> Png:
        """A face as the run's encoder sees it."""
        return Png(encode(studio.run(run).original(face), "png"))


def _add_recipes(router: APIRouter, studio: Studio) -> None:
    @router.post("/runs/{run}/picture", tags=["Recipes"], response_class=Png)
    def picture(run: RunName, recipe: Recipe) -> Png:
        """The face of a recipe. This is what each move of a slider asks for."""
        return Png(encode(studio.run(run).picture(recipe), "png"))

    @router.post("/runs/{run}/place", tags=["Recipes"])
    def place(run: RunName, recipe: Recipe, num: Annotated[int, Query(ge=1, le=512)] = 12) -> answers.PlaceAnswer:
        """Where a face lies along the first axes, before attributes are added, and its degree."""
        chosen = studio.run(run)
        degree = chosen.point(recipe).degree
        return answers.PlaceAnswer(
            coordinates=[round(float(value), 4) for value in pictures.face_coordinates(chosen, recipe)[:num]],
            degree=None if math.isnan(degree) else degree,
        )

    @router.post("/runs/{run}/neighbors", tags=["Recipes"])
    def neighbors(run: RunName, request: GridRequest) -> list[list[answers.Tile]]:
        """Faces around one face, along two axes."""
        rows = pictures.neighbors(studio.run(run), request)
        return [[answers.Tile(recipe=tile.recipe, image=_data_uri(tile.image)) for tile in row] for row in rows]

    @router.post("/runs/{run}/latent", tags=["Recipes"], response_class=Response)
    def latent(run: RunName, recipe: Recipe) -> Response:
        """The latent of a recipe as a safetensors file, which /api/uploads takes again."""
        return Response(pictures.saved_latent(studio.run(run), recipe), media_type="application/octet-stream")

    @router.post("/compare", tags=["Recipes"])
    def compare(request: CompareRequest) -> list[answers.ComparedAnswer]:
        """The same recipe in several runs, each with what it cannot do."""
        return [_compared(studio.run(name), request.recipe) for name in request.runs]


def _add_morphs(router: APIRouter, studio: Studio) -> None:
    one_at_a_time = asyncio.Lock()

    @router.post("/runs/{run}/morph", tags=["Morphs and maps"], response_class=Png)
    def morph(run: RunName, request: MorphRequest) -> Png:
        """One place on the way through two or more faces."""
        chosen = studio.run(run)
        return Png(encode(chosen.decode(*pictures.morph_point(chosen, request, request.position)), "png"))

    @router.post("/runs/{run}/morph/animation", tags=["Morphs and maps"], response_class=Response)
    async def animation(run: RunName, request: AnimationRequest) -> Response:
        """The whole way, there and back, as a WebP or GIF."""
        async with one_at_a_time:
            content = await run_in_threadpool(pictures.morph_animation, studio.run(run), request)
        return Response(content, media_type=f"image/{request.format}")

    @router.get("/runs/{run}/map", tags=["Morphs and maps"])
    def face_map(run: RunName, method: Method = "tsne", label: Name | None = None) -> answers.MapAnswer:
        """Held-out faces in the plane, colored by a label."""
        found = studio.face_map(run, method)
        assert studio.dataset is not None
        shades, legend = ([], []) if label is None else colors(studio.dataset, found, label)
        return answers.MapAnswer(
            split=found.split,
            rows=found.rows.tolist(),
            x=[round(float(value), 4) for value in found.points[:, 0]],
            y=[round(float(value), 4) for value in found.points[:, 1]],
            colors=shades,
            legend=legend,
        )


def _add_training(router: APIRouter, studio: Studio) -> None:
    @router.get("/trainings/{run}", tags=["Training"])
    def progress(run: RunName) -> answers.ProgressAnswer:
        """What a run has written so far."""
        return answers.ProgressAnswer(**asdict(studio.training(run).progress()))

    @router.get("/trainings/{run}/curves/{key}", tags=["Training"], response_class=Response)
    def curve(run: RunName, key: Annotated[str, Path(max_length=40)]) -> Response:
        """A curve as SVG."""
        return Response(studio.training(run).curve(key), media_type="image/svg+xml", headers=_SVG_POLICY)

    @router.get("/trainings/{run}/pictures/{kind}/{images_seen}", tags=["Training"], response_class=Png)
    def picture(run: RunName, kind: PictureKind, images_seen: Annotated[int, Path(ge=0, le=2**60)]) -> Png:
        """A picture that training drew."""
        return Png(studio.training(run).picture(kind, images_seen))


def _compared(run: StudioRun, recipe: Recipe) -> answers.ComparedAnswer:
    try:
        image = run.picture(recipe)
        has_original = isinstance(recipe.face, Stored | Uploaded)
        return answers.ComparedAnswer(
            run=run.name,
            image=_data_uri(image),
            original=_data_uri(run.original(recipe.face)) if has_original else None,
            mse=pictures.squared_error(run, recipe, image),
        )
    except UserError as error:
        return answers.ComparedAnswer(run=run.name, error=str(error))
    except NotYet as working:
        return answers.ComparedAnswer(run=run.name, working=str(working))


def _data_uri(image: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode(image, 'png')).decode()}"
