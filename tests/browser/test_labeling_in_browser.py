"""The labeling page in a real browser: keys, reaction times, undo, pause, a killed server, and the exported CSV."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from field_trees import write_images
from shards.label import main
from shards.labeling.answers import read_answers

REPO = Path(__file__).resolve().parents[2]
NUM = 50
TIMEOUT_MS = 60_000
NOW = "performance.now()"
# The page starts its clock in the frame after the one that sets the state, so by this frame it has.
SHOWN = "new Promise((resolve) => requestAnimationFrame(() => resolve(performance.now())))"
CROSS_MS = 400  # How long the page shows a cross before each face.


class Server:
    """``shards.label serve`` in its own process."""

    def __init__(self, images: Path, folder: Path, port: int = 0, *options: str) -> None:
        command = [
            sys.executable,
            "-m",
            "shards.label",
            "serve",
            str(images),
            str(folder),
            "--port",
            str(port),
            *options,
        ]
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        self.url, self.port = found[0], int(found[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 900, "height": 800})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    blocked = "Content Security Policy"
    page.on("console", lambda message: page.problems.append(message.text) if blocked in message.text else None)
    yield page
    context.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    write_images(root, [f"face{number:02d}.png" for number in range(NUM)], size=(60, 60))
    return root


def begin(page: Any, url: str, subject: str) -> None:
    page.goto(url)
    page.fill("#subject", subject)
    page.click("button")


def done(page: Any) -> int:
    return int(page.inner_text("#count").split()[0])


def wait_for_count(page: Any, num: int) -> None:
    page.wait_for_selector(f"#count >> text=/^{num} of/")


def wait_for_face(page: Any) -> None:
    page.wait_for_selector("body[data-state=showing]")


def test_fifty_faces_at_known_times(page: Any, images: Path, tmp_path: Path) -> None:
    """The server is killed halfway, the tab is closed later, and two answers are taken back."""
    folder = tmp_path / "answers"
    server = Server(images, folder, 0, "--repeats", "0")
    delays = np.random.default_rng(0).uniform(0.16, 0.8, NUM).tolist()
    bounds: list[tuple[float, float]] = []  # The page's clock before and after the script's key press.
    smiles: list[bool] = []
    begin(page, server.url, "ann")
    position, has_undone = 0, False
    before = 0.0  # Before the next face's cross: when the page opened, or the last key press.
    while position < NUM:
        wait_for_face(page)
        shown = page.evaluate(SHOWN)
        page.wait_for_timeout(delays[position] * 1000)
        smile = position % 3 != 0
        pressed = page.evaluate(NOW)
        if position == 25:
            server.kill()
        page.keyboard.press("j" if smile else "f")
        after = page.evaluate(NOW)
        bounds.append((pressed - shown, after - before - CROSS_MS))
        before = pressed
        smiles.append(smile)
        position += 1
        if position == 26:
            page.wait_for_selector("#trouble >> text=cannot be reached")
            assert len(read_answers(folder)["ann"]) == 25
            server = Server(images, folder, server.port, "--repeats", "0")
        wait_for_count(page, position)
        if position == 35:  # The tab is closed and opened again.
            page.goto("about:blank")
            begin(page, server.url, "ann")
            wait_for_count(page, 35)
            before = 0.0
        if position == 40 and not has_undone:
            has_undone = True
            for left in (39, 38):
                wait_for_face(page)
                page.keyboard.press("Backspace")
                wait_for_count(page, left)
            position = 38
            del bounds[38:], smiles[38:]
    page.wait_for_selector("body[data-state=end]")
    assert page.problems == []
    server.kill()

    answers = read_answers(folder)["ann"]
    lines = (folder / "answers" / "ann.jsonl").read_text().splitlines()
    assert len(answers) == NUM and len({answer.image for answer in answers}) == NUM
    assert len(lines) == NUM + 4 and sum("undo" in json.loads(line) for line in lines) == 2
    assert [answer.smile for answer in answers] == smiles
    for answer, (low, high), delay in zip(answers, bounds, delays, strict=True):
        # The face appeared before the script's clock; the key came after it.
        assert 1000 * delay - 5 < low - 1 <= answer.rt_ms <= high + 1, (answer, low, high, delay)

    main(["export", str(folder), str(tmp_path / "degrees.csv")])
    rows = [line.split(",") for line in (tmp_path / "degrees.csv").read_text().splitlines()[1:]]
    times = np.array([answer.rt_ms for answer in answers])
    fast, slow = np.percentile(np.log(times), [5, 95])
    strengths = np.clip((slow - np.log(times)) / (slow - fast), 0, 1)
    expected = {
        answer.image: value if answer.smile else -value for answer, value in zip(answers, strengths, strict=True)
    }
    assert {name: float(value) for name, value in rows} == pytest.approx(expected, abs=1e-6)


def test_keys_that_do_not_count(page: Any, images: Path, tmp_path: Path) -> None:
    server = Server(images, tmp_path / "answers")
    try:
        begin(page, server.url, "bob")
        wait_for_face(page)
        for key in ("a", "Space", "Enter", "Control+j"):
            page.keyboard.press(key)
        assert page.get_attribute("body", "data-state") == "showing" and done(page) == 0
        page.keyboard.press("Escape")
        page.wait_for_selector("body[data-state=pause]")
        page.keyboard.press("j")
        time.sleep(0.3)
        assert done(page) == 0
        page.keyboard.press("Space")
        wait_for_face(page)
        page.keyboard.down("j")  # Held down: one answer.
        page.keyboard.down("j")
        page.keyboard.down("j")
        page.keyboard.up("j")
        wait_for_count(page, 1)
        wait_for_face(page)
        assert done(page) == 1 and page.inner_text("#count") == "1 of 55"
        assert page.problems == []
    finally:
        server.kill()
    assert len(read_answers(tmp_path / "answers")["bob"]) == 1


def test_two_subjects_and_a_bad_name(page: Any, browser: Any, images: Path, tmp_path: Path) -> None:
    server = Server(images, tmp_path / "answers")
    other = browser.new_page()
    try:
        begin(page, server.url, "ann")
        begin(other, server.url, "bob")
        for tab in (page, other):
            wait_for_face(tab)
        assert page.get_attribute("#face", "src") != other.get_attribute("#face", "src")  # Each has its own order.
        for tab, key in ((page, "j"), (other, "f")):
            tab.bring_to_front()
            tab.wait_for_selector("body[data-state=showing], body[data-state=pause]")
            if tab.get_attribute("body", "data-state") == "pause":
                tab.keyboard.press("Space")
                wait_for_face(tab)
            tab.keyboard.press(key)
            wait_for_count(tab, 1)
    finally:
        other.close()
        server.kill()
    answers = read_answers(tmp_path / "answers")
    assert [[answer.smile for answer in answers[name]] for name in ("ann", "bob")] == [[True], [False]]
