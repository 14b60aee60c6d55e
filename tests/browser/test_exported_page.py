"""The exported page in a real browser, without a server: it decodes what the model does, and asks for nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.export import main
from eval.exporting.web_runtime import ARCHIVE, VERSION
from eval.latent.editing.editor import Editor
from eval.latent.editing.recipes import Recipe, Sample, Stored
from eval.latent.editing.uploads import Uploads
from facegen.model import load
from shards.dataset.mixture import open_dataset
from studio_pages import move, repainted
from tiny_runs import untrained_run

pytest.importorskip("onnxscript", reason="the extra export is not installed")

RUNTIME_VARIABLE = "FACEGEN_WEB_RUNTIME"
TIMEOUT_MS = 120_000
BUSY = "body[aria-busy=false]"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package, from the place that the environment names, or from npm."""
    if place := os.environ.get(RUNTIME_VARIABLE):
        return Path(place)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no npm on the path, and {RUNTIME_VARIABLE} names no onnxruntime-web")
    folder = tmp_path_factory.mktemp("npm")
    packed = subprocess.run([npm, "pack", f"onnxruntime-web@{VERSION}"], cwd=folder, capture_output=True, timeout=300)
    if packed.returncode:
        pytest.skip(f"npm cannot download onnxruntime-web {VERSION}")
    return folder / ARCHIVE


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.problems, page.requests = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: page.requests.append(request.url))
    yield page
    context.close()


def make_page(run: Path, out: Path, runtime: Path, *options: str) -> str:
    """Exports a page and returns its address on disk."""
    arguments = [str(run), "--out", str(out), "--format", "html", "--web_runtime", str(runtime), "--num_faces", "3"]
    main([*arguments, *options])
    return (out / "sliders.html").as_uri()


def same(shown: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two pictures agree up to the rounding of single values."""
    return shown.shape == wanted.shape and int(np.abs(shown.astype(int) - wanted).max()) <= 1


def test_a_slider_moves_a_face_and_nothing_leaves_the_page(
    page: Any, runtime: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "cvae")
    address = make_page(run, tmp_path / "out", runtime, "--data", str(tiny_dataset))
    editor = Editor("run", load(run), open_dataset(str(tiny_dataset)), [], Uploads())
    editor.sliders.wait()
    page.goto(address)
    page.wait_for_selector(BUSY)

    recipe = Recipe(face=Sample(kind="sample", seed=1, std=0.7, sampler=None))
    seed_one = repainted(page, "#face", lambda: page.click("#faces button[title='seed 1']"))
    assert same(seed_one, editor.picture(recipe))

    moved = repainted(page, "#face", lambda: move(page, "#axes .slider input[type=range]", 2.0))
    assert same(moved, editor.picture(recipe.model_copy(update={"axes": {0: 2.0}})))
    assert np.abs(moved.astype(int) - seed_one).max() > 3
    assert re.fullmatch(r"\d+ ms", page.inner_text("#ms"))

    degree = repainted(page, "#face", lambda: move(page, "#degree .slider input[type=range]", -0.8))
    assert same(degree, editor.picture(recipe.model_copy(update={"axes": {0: 2.0}, "degree": -0.8})))

    undone = repainted(page, "#face", lambda: page.click("#undo"))
    assert same(undone, seed_one)

    held_out = repainted(page, "#face", lambda: page.click("#faces button[title='test 0']"))
    assert same(held_out, editor.picture(Recipe(face=Stored(kind="data", split="test", row=0))))

    attribute = editor.attributes.wait().names[0]
    label = attribute.replace("_", " ")
    smiling = repainted(
        page, "#face", lambda: move(page, f"#attributes .slider:has(label:text-is('{label}')) >> input >> nth=0", 1.5)
    )
    edited = Recipe(face=Stored(kind="data", split="test", row=0), attributes={attribute: 1.5})
    assert same(smiling, editor.picture(edited))

    assert page.problems == []
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data", "blob"}
    assert [url for url in page.requests if url.startswith("file:")] == [address]


def test_a_flow_is_followed_in_the_page(page: Any, runtime: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "flow", num_steps=3)
    page.goto(make_page(run, tmp_path / "out", runtime))
    page.wait_for_selector(BUSY)
    model = load(run)
    shown = repainted(page, "#face", lambda: page.click("#faces button[title='seed 2']"))
    latent = model.sample_latents(1, seed=2, std=0.7).numpy()
    middle = np.mean(model.condition_range or ())
    assert same(shown, model.decode(latent, {"smile": [middle]})[0])
    assert page.problems == []


def test_names_cannot_become_code(page: Any, runtime: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "<script>alert(1)<", tiny_dataset, "vae")
    page.on("dialog", lambda dialog: page.problems.append(dialog.message))
    page.goto(make_page(run, tmp_path / "out", runtime))
    page.wait_for_selector(BUSY)
    assert page.inner_text(".brand") == "facegen <script>alert(1)<"
    assert page.problems == []
