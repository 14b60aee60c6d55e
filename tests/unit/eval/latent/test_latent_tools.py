"""What holds for every latent tool, and what it takes to add one: a file and a line in the list."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.latent.tools.catalog import TOOLS
from facegen.model import load
from studio_runs import client_of, pixels_of, tiny_studio
from tiny_runs import untrained_run

ROOT = Path(__file__).parents[4]
TOY_TOOL = '''
"""Dims set to 0: what a face looks like without them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from eval.drawing.frames import beside_originals
from eval.latent.editing.editor import Editor
from eval.latent.editing.recipes import Recipe, Strict
from eval.latent.encode import decode_images
from eval.latent.faces import choose_faces
from eval.latent.options import FaceOptions, ModelOptions, PictureOptions
from eval.latent.tools.tool import StudioRoute, Tool


def without(latents: np.ndarray, dims: list[int]) -> np.ndarray:
    changed = latents.copy()
    changed[..., dims] = 0
    return changed


@dataclass(kw_only=True)
class SilenceConfig(PictureOptions, FaceOptions, ModelOptions):
    """Options of silenced dims."""

    dims: list[int] = field(default_factory=lambda: [0])
    """Dims to set to 0."""


def draw(config, model):
    faces = choose_faces(config, model)
    latents = without(faces.encode(model), config.dims)
    images = decode_images(model, latents, faces.degrees)
    config.save_grid(beside_originals(faces.images, images[:, None], ["silenced"]))


class SilenceRequest(Strict):
    """A face and the dims to silence."""

    recipe: Recipe
    dims: list[int] = Field(max_length=3)


def silenced(run: Editor, request: SilenceRequest) -> np.ndarray:
    """The face without some of its dims."""
    point = run.point(request.recipe)
    return run.decode(without(point.latent, request.dims), point.degree)


TOOL = Tool(
    name="silence",
    about="Sets dims to 0.",
    options=SilenceConfig,
    draw=draw,
    needs=("encode", "decode"),
    routes=(StudioRoute("silence", silenced),),
)
'''


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_tool_has_a_command_and_a_file_of_its_name(tool) -> None:
    command = importlib.import_module(f"eval.{tool.name}")
    assert importlib.import_module(f"eval.latent.tools.{tool.name}").TOOL is tool is command.TOOL
    assert {path.stem for path in (ROOT / "eval" / "latent" / "tools").glob("*.py")} == {
        "__init__",
        "catalog",
        "tool",
        *(tool.name for tool in TOOLS),
    }


def test_every_route_of_a_tool_is_documented(tiny_dataset: Path, tmp_path: Path) -> None:
    with client_of(tiny_studio(tmp_path, None, "vae", made_of=tiny_dataset)) as client:
        described = client.get("/api/openapi.json").json()["paths"]
    for route in (route for tool in TOOLS for route in tool.routes):
        assert described[f"/api/runs/{{run}}/{route.path}"][route.method.lower()]["description"]


@pytest.fixture
def toy_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A tool in a package of its own, with its line in the list."""
    package = tmp_path / "toy_tools"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "silence.py").write_text(TOY_TOOL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    tool = importlib.import_module("toy_tools.silence").TOOL
    TOOLS.append(tool)
    yield tool
    TOOLS.remove(tool)
    for name in ("toy_tools.silence", "toy_tools"):
        del sys.modules[name]


def test_a_new_tool_is_a_command(toy_tool, tiny_dataset: Path, tmp_path: Path, capsys) -> None:
    run, out = untrained_run(tmp_path / "vae", tiny_dataset), tmp_path / "grid.png"
    toy_tool.main([str(run), "--data", str(tiny_dataset), "--rows", "3", "--dims", "0", "2", "--out", str(out)])
    assert capsys.readouterr().out == f"wrote {out}\n"
    with Image.open(out) as grid:
        original, silenced = (np.asarray(grid.convert("RGB"))[-96::6, left : left + 96 : 6] for left in (0, 100))
    model = load(run)
    latent = model.encode(original[None].copy())
    latent[:, [0, 2]] = 0
    np.testing.assert_array_equal(silenced, model.decode(latent)[0])
    with pytest.raises(SystemExit) as caught:
        toy_tool.main(["--help"])
    assert caught.value.code == 0
    assert "Dims to set to 0." in capsys.readouterr().out


def test_a_new_tool_is_in_the_studio(toy_tool, tiny_dataset: Path, tmp_path: Path) -> None:
    studio = tiny_studio(tmp_path, tiny_dataset, "vae")
    recipe = {"face": {"kind": "data", "split": "test", "row": 3}}
    with client_of(studio) as client:
        answer = client.post("/api/runs/vae/silence", json={"recipe": recipe, "dims": [0, 2]})
        refused = client.post("/api/runs/vae/silence", json={"recipe": recipe, "dims": [0, 1, 2, 3]})
        documented = client.get("/api/docs").text
    model = studio.run("vae").model
    latent = model.encode(pixels_of(studio.face_picture("test", 3))[None].copy())
    latent[:, [0, 2]] = 0
    np.testing.assert_array_equal(pixels_of(answer.content), model.decode(latent)[0])
    assert refused.status_code == 400 and "at most 3" in refused.json()["error"]
    assert "/api/runs/{run}/silence" in documented and "The face without some of its dims." in documented
