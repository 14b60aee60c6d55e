"""A whole report of tiny runs, opened from disk in a browser without a network."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from eval.report import main
from eval.reports.output.schema import SCHEMA_FILE
from tiny_runs import untrained_run

WIDTHS = {"narrow": 390, "wide": 1280}
A4_WIDTH_PX = 718  # within margins of 1 cm
TIMEOUT_MS = 240_000


@pytest.fixture(scope="module")
def out(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a family that can do nearly everything, one that only samples, and one that only encodes."""
    root = tmp_path_factory.mktemp("browser")
    runs = {family: untrained_run(root / family, tiny_dataset, family) for family in ("cvae", "dcgan", "face_cnn")}
    (runs["cvae"] / "config.yaml").write_text("family: cvae\n")
    (runs["cvae"] / "pictures").mkdir()
    for number, color in ((320, "navy"), (640, "olive")):
        picture = Image.new("RGB", (134, 66), color)
        picture.save(runs["cvae"] / "pictures" / f"reconstructions_images_{number:012d}.png")
    lines = [{"images_seen": number, "val/mse": 1 / number, "train/kl": number / 10} for number in (160, 320, 640)]
    (runs["cvae"] / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {"data": tiny_dataset, "out": root / "report", "num_images": 6, "num_samples": 4, "num_train": 40}
    arguments = [str(path) for path in runs.values()]
    arguments += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGEN_CACHE", str(root / "cache"))
        patch.setattr(sys, "argv", ["eval.report", *arguments, "--fid_weights", "none", "--device", "cpu"])
        main()
    return root / "report"


def test_pictures_numbers_and_reasons_of_a_report(out):
    content = json.loads((out / "report.json").read_text())
    Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(content)
    cvae, dcgan, face_cnn = content["runs"]
    holders = (content, *content["runs"], *content["baselines"])
    shown = {picture["file"] for holder in holders for picture in holder["pictures"]}
    assert shown == {path.name for path in (out / "figures").iterdir()}
    names = {picture["title"] for picture in cvae["pictures"]}
    assert {"Degree sweep", "Extended degree sweep", "Forced degrees", "Attribute edits", "Morphs"} <= names
    assert {"Sweeps of principal components", "Map of the latents", "Reconstructions over training"} <= names
    assert {"Samples", "Samples by standard deviation", "Samples and their nearest training faces"} <= names
    assert {item["title"]: item["reason"] for item in cvae["missing"]} == {
        "Latent usage over training": "the run kept no variances of mu per epoch",
        "Samples over training": "the run kept 0 pictures of samples",
    }
    assert "smile" in cvae["condition"].lower()
    assert not dcgan["condition"]
    assert {"Morphs": "dcgan does not encode", "Degree sweep": "dcgan generates by no label"}.items() <= {
        item["title"]: item["reason"] for item in dcgan["missing"]
    }.items()
    assert dcgan["measures"]["mse"]["reason"] == "dcgan does not reconstruct"
    assert {item["title"] for item in face_cnn["missing"]} >= {"Samples", "Morphs", "Axis sweeps"}
    assert {picture["title"] for picture in face_cnn["pictures"]} >= {"Map of the latents", "Latent variance"}
    assert {(stage["run"], stage["name"]) for stage in content["stages"]} >= {
        ("cvae", "cost"),
        ("", "features of test"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", list(WIDTHS))
def test_the_page_opens_whole_without_a_network(out, browser, width, scheme):
    context = browser.new_context(viewport={"width": WIDTHS[width], "height": 900}, color_scheme=scheme, offline=True)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url[:80]}"))
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto((out / "report.html").as_uri(), wait_until="load")
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    loaded = page.evaluate(
        "Promise.all([...document.images].map(async (image) => {"
        " try { await image.decode(); } catch (error) { return 0; } return image.naturalWidth; }))"
    )
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    screenshot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.set_viewport_size({"width": A4_WIDTH_PX, "height": 900})
    page.emulate_media(media="print")
    cut_off = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    context.close()

    assert cut_off <= 0 and paper == "rgb(255, 255, 255)"
    assert wrong == []
    assert [url for url in requested if not url.startswith(("file:", "data:"))] == []
    assert len(loaded) > 12 and all(loaded)
    assert overflow <= 0
    assert screenshot.width == WIDTHS[width]
    pixels = np.asarray(screenshot, np.float64)
    assert pixels.std() > 5, "the page is blank"
    assert (pixels.mean() < 128) == (scheme == "dark")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")


def test_the_summary_of_runs_with_long_names_fits_a_laptop(out, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900}, offline=True)
    page.goto((out / "report.html").as_uri())
    name = "vae_lfw_kld_0.01_report:gaussian_mixture_diag_100"
    page.eval_on_selector_all("#summary td a", "(links, name) => links.forEach((a) => { a.textContent = name; })", name)
    # The column that a report has with Inception's weights.
    page.eval_on_selector_all(
        "#summary tr", "(rows) => rows.forEach((row) => row.append(row.children[3].cloneNode(true)))"
    )
    missing = page.eval_on_selector("#summary .scroll", "(part) => part.scrollWidth - part.clientWidth")
    page.close()
    assert missing <= 0
