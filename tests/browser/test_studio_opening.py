"""What the studio shows before anything is chosen: likely faces, cards in a row, and only pictures that are there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio_pages import eventually, pixels
from studio_runs import png
from tiny_runs import untrained_run

OLD_RUN = Path(__file__).parents[1] / "fixtures" / "release_0_1" / "run"
TIMEOUT_MS = 240_000


@pytest.fixture(scope="module")
def address(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory, start_studio: Callable[..., str]) -> str:
    """A studio over a run with a fitted sampler, one without, and one without a prior."""
    root = tmp_path_factory.mktemp("opening")
    fitted = shutil.copytree(OLD_RUN, root / "run")
    runs = [fitted, untrained_run(root / "vae", tiny_dataset, "vae"), untrained_run(root / "ae", tiny_dataset, "ae")]
    return start_studio(*map(str, runs), FACEGEN_CACHE=str(root / "cache"))


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize(("run", "sampler", "std"), [("run", "gaussian", 1), ("vae", None, 0.7)])
def test_the_first_face_is_the_samplers_or_near_the_middle_of_the_prior(page, address, run, sampler, std):
    with page.expect_request("**/picture") as first:
        page.goto(f"{address}#generate?run={run}")
    expected = {"kind": "sample", "seed": 0, "std": std, "sampler": sampler}
    assert first.value.post_data_json["face"] == expected
    page.wait_for_load_state("networkidle")
    assert page.input_value("#generate-std [type=number]") == str(std)
    page.click("#tab-morph")
    with page.expect_request("**/picture") as added:
        page.click("#morph-random")
    assert added.value.post_data_json["face"].items() >= {"std": std, "sampler": sampler}.items()


def test_a_link_keeps_the_sampler_of_an_edited_face(page, address):
    page.goto(f"{address}#generate?run=run&seed=5&sampler=gaussian")
    page.wait_for_selector("#generate-face[src]")
    page.wait_for_load_state("networkidle")
    shown = pixels(page, "#generate-face")
    page.click("#generate-edit")
    eventually(lambda: np.array_equal(pixels(page, "#edit-face"), shown))
    assert "sampler=gaussian" in page.url
    page.reload()
    eventually(lambda: np.array_equal(pixels(page, "#edit-face"), shown))
    # Another run has no such sampler.
    page.select_option("#run", "vae")
    page.wait_for_load_state("networkidle")
    assert "sampler" not in page.url
    assert page.query_selector("#notices .notice") is None


def test_cards_are_compared_in_a_row_and_do_not_wait_for_each_other(page, address):
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route) if route.request.post_data_json["runs"] == ["run"] else route.continue_()

    page.route("**/api/compare", hold)
    page.goto(f"{address}#compare")
    second = "#compare-runs article:nth-child(2)"
    page.wait_for_selector(f"{second} .face:not([hidden]) img[src]")
    assert page.locator("#compare-runs article").count() == 3 and len(held) == 1
    face = held[0].request.post_data_json["recipe"]["face"]
    assert face == {"kind": "sample", "seed": 0, "std": 0.7, "sampler": "gaussian"}
    page.eval_on_selector(f"{second} .soft", "(facts) => { facts.textContent = 'long '.repeat(30); }")
    tops = "(images) => images.map((image) => image.getBoundingClientRect().top)"
    assert len(set(page.eval_on_selector_all("#compare-runs .face:not([hidden]) img", tops))) == 1
    held[0].continue_()
    page.wait_for_selector("#compare-runs article:nth-child(1) .face:not([hidden]) img[src]")


def test_the_average_is_named_where_it_is_shown(page, address, tmp_path):
    (tmp_path / "photo.png").write_bytes(png(color="navy"))
    page.goto(f"{address}#edit?run=vae")
    page.wait_for_selector("#edit-attributes[aria-busy=false]")
    page.set_input_files("#edit-file", tmp_path / "photo.png")
    page.wait_for_selector("#edit-guide[src]")
    first = pixels(page, "#edit-guide")
    assert "this average" in page.inner_text("#edit-framing")
    page.select_option("#run", "ae")
    eventually(lambda: not np.array_equal(pixels(page, "#edit-guide"), first))
    assert "this average" in page.inner_text("#edit-framing")
