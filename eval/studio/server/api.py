"""The studio's HTTP API: thin routes over the functions that do the work. The page calls nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from eval.latent.editing.background import NotYet
from eval.latent.editing.editor import Editor
from eval.latent.editing.recipes import Given, Recipe, Stored, Uploaded
from eval.latent.editing.uploads import Photo
from eval.latent.tools.catalog import TOOLS
from eval.latent.tools.tool import data_uri
from eval.studio.running import PictureKind
from eval.studio.server import schemas
from eval.studio.server.tool_routes import Png, RunName, add_tool_route
from eval.studio.studio import Studio
from shards.base.errors import UserError
from shards.images.codecs import encode

UPLOADS_PATH = "/api/uploads"
SplitName = Annotated[Literal["train", "val", "test"], Path()]
Row = Annotated[int, Path(ge=0, le=2**40, description="Counts within the split, from 0.")]
_SVG_POLICY = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
_ERRORS: dict[int | str, dict[str, Any]] = {
    202: {"model": schemas.WorkingAnswer, "description": "Still being computed; ask again in a second."},
    400: {"model": schemas.ErrorAnswer, "description": "What is wrong, as a sentence."},
}


def make_router(studio: Studio, links: Mapping[str, str]) -> APIRouter:
    """All routes.

    Args:
        studio: Answers the requests.
        links: Addresses elsewhere by title, such as TensorBoard's.
    """
    router = APIRouter(prefix="/api", responses=_ERRORS)
    _add_overview(router, studio, links)
    _add_faces(router, studio)
    _add_recipes(router, studio)
    for tool in TOOLS:
        for route in tool.routes:
            add_tool_route(router, studio, route)
    _add_training(router, studio)
    return router


def _add_overview(router: APIRouter, studio: Studio, links: Mapping[str, str]) -> None:
    @router.get("/studio", tags=["Overview"])
    def overview() -> schemas.StudioAnswer:
        """Runs, data, and the limits of uploads."""
        return schemas.StudioAnswer(**studio.describe(), links=dict(links))


def _add_faces(router: APIRouter, studio: Studio) -> None:
    @router.get("/data/{split}", tags=["Faces"])
    def faces(
        split: SplitName, first: Annotated[int, Query(ge=0)] = 0, num: Annotated[int, Query(ge=1, le=120)] = 24
    ) -> list[schemas.FaceAnswer]:
        """Faces of the data set with their labels."""
        return [schemas.FaceAnswer(**face) for face in studio.faces(split, first, num)]

    @router.get("/data/{split}/{row}/picture", tags=["Faces"], response_class=Png)
    def face_picture(split: SplitName, row: Row) -> Png:
        """One face of the data set."""
        return Png(studio.face_picture(split, row), headers={"cache-control": "private, max-age=3600"})

    @router.post(
        "/uploads",
        tags=["Faces"],
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    async def upload(request: Request) -> schemas.UploadAnswer:
        """Takes a photo (JPEG, PNG or WebP) or a saved latent as the body, and keeps it in memory for a while."""
        data = await request.body()
        token, item = await run_in_threadpool(studio.uploads.add, data)
        if isinstance(item, Photo):
            height, width = item.pixels.shape[:2]
            face = Uploaded(kind="upload", token=token, crop=None, align=False)
            return schemas.UploadAnswer(face=face, width=width, height=height)
        return schemas.UploadAnswer(face=Given(kind="latent", token=token))

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
        """The face of a recipe; each move of a slider asks for one."""
        return Png(encode(studio.run(run).picture(recipe), "png"))

    @router.post("/runs/{run}/latent", tags=["Recipes"], response_class=Response)
    def latent(run: RunName, recipe: Recipe) -> Response:
        """The latent of a recipe as a safetensors file; /api/uploads takes it back."""
        return Response(studio.run(run).saved_latent(recipe), media_type="application/octet-stream")

    @router.post("/compare", tags=["Recipes"])
    def compare(request: schemas.CompareRequest) -> list[schemas.ComparedAnswer]:
        """One recipe in several runs; a run that cannot make it says why."""
        return [_compared(studio.run(name), request.recipe) for name in request.runs]


def _add_training(router: APIRouter, studio: Studio) -> None:
    @router.get("/trainings/{run}", tags=["Training"])
    def progress(run: RunName) -> schemas.ProgressAnswer:
        """What a run has written so far."""
        return schemas.ProgressAnswer(**asdict(studio.training(run).progress()))

    @router.get("/trainings/{run}/curves/{key}", tags=["Training"], response_class=Response)
    def curve(run: RunName, key: Annotated[str, Path(max_length=40)]) -> Response:
        """A curve as SVG."""
        return Response(studio.training(run).curve(key), media_type="image/svg+xml", headers=_SVG_POLICY)

    @router.get("/trainings/{run}/pictures/{kind}/{images_seen}", tags=["Training"], response_class=Png)
    def picture(run: RunName, kind: PictureKind, images_seen: Annotated[int, Path(ge=0, le=2**60)]) -> Png:
        """A picture that training drew."""
        return Png(studio.training(run).picture(kind, images_seen))


def _compared(run: Editor, recipe: Recipe) -> schemas.ComparedAnswer:
    try:
        image = run.picture(recipe)
        has_original = isinstance(recipe.face, Stored | Uploaded)
        return schemas.ComparedAnswer(
            run=run.name,
            image=data_uri(image),
            original=data_uri(run.original(recipe.face)) if has_original else None,
            mse=run.squared_error(recipe, image),
        )
    except UserError as error:
        return schemas.ComparedAnswer(run=run.name, error=str(error))
    except NotYet as working:
        return schemas.ComparedAnswer(run=run.name, working=str(working))
