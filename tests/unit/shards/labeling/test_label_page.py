"""The labeling page without a browser: what is served and saved, and what is refused."""

from __future__ import annotations

import errno
import gc
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from field_trees import write_images
from shards.base.errors import UserError
from shards.label import ServeConfig, serve
from shards.labeling.answers import Answer, read_answers
from shards.labeling.label_app import make_label_app
from shards.labeling.session import open_session
from shards.labeling.subjects import Labeling
from shards.serving.server import listen

FILES = tuple(f"face{number:02d}.png" for number in range(6))
ANSWER = {"subject": "ann", "trial": 0, "smile": True, "rt_ms": 432.5}


@pytest.fixture
def labeling(tmp_path: Path) -> Labeling:
    images = tmp_path / "images"
    write_images(images, FILES, size=(30, 20))
    (images / "broken.png").write_text("no image")
    (tmp_path / "secret.png").write_bytes((images / FILES[0]).read_bytes())
    return Labeling(images, tmp_path / "out", open_session(tmp_path / "out", images, seed=0, repeats=0.0))


@pytest.fixture
def client(labeling: Labeling) -> Iterator[TestClient]:
    app = make_label_app(labeling)
    with TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False) as opened:
        yield opened


def test_the_server_serves_the_page_its_pictures_and_nothing_else(
    client: TestClient, labeling: Labeling, tmp_path: Path
) -> None:
    assert labeling.session.files == FILES  # the broken one is left out
    assert "Smile or no smile" in client.get("/").text
    for name, kind in (("label.js", "text/javascript"), ("label.css", "text/css")):
        assert client.get(f"/{name}").headers["content-type"].startswith(kind)
    picture = client.get("/images/2")
    assert picture.status_code == 200 and Image.open(io.BytesIO(picture.content)).size == (30, 20)
    for path in ("/images/6", "/images/-1", "/images/../secret.png", "/secret.png", "/../secret.png", "/session.json",
                 "/answers/ann.jsonl", "/images/%2e%2e/secret.png", "/label_app.py", "/docs"):  # fmt: skip
        assert client.get(path).status_code == 404, path
    assert client.get(f"/images/{'9' * 5000}").status_code == 400
    assert client.get("/api/state?subject=..%2Fx").status_code == 400
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    undo = {"subject": "ann"}
    assert client.post("/api/undo", json=undo, headers={"host": "evil.example:80"}).status_code == 403
    assert client.post("/api/undo", json=undo, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post("/api/undo", json=undo, headers={"content-type": "text/plain"}).status_code == 400
    assert client.post("/api/undo", content=b" " * 2_000_000).status_code == 413
    assert not (tmp_path / "out" / "answers").exists()


def test_answers_over_http(client: TestClient, labeling: Labeling, tmp_path: Path) -> None:
    state = client.get("/api/state?subject=ann").json()
    assert state["total"] == 6 and state["done"] == 0 and len(state["upcoming"]) == 4
    response = client.post("/api/answer", json=ANSWER)
    after = response.json()
    assert response.status_code == 200 and after["kept"] and after["done"] == 1
    assert after["upcoming"] == [*state["upcoming"][1:], after["upcoming"][-1]]
    assert not client.post("/api/answer", json=ANSWER).json()["kept"]
    stored = read_answers(tmp_path / "out")["ann"]
    assert stored == [Answer(0, FILES[state["upcoming"][0]["image"]], True, 432.5)]
    assert client.post("/api/undo", json={"subject": "ann"}).json()["done"] == 0
    for wrong in (
        {**ANSWER, "smile": "yes"},
        {**ANSWER, "rt_ms": -1},
        {**ANSWER, "trial": "0"},
        {"subject": "ann"},
        [1],
    ):
        assert client.post("/api/answer", json=wrong).status_code == 400
    half = client.post("/api/undo", content=b'{"subject": "\\ud800"}', headers={"content-type": "application/json"})
    assert half.status_code == 400 and "'\\ud800' cannot name a subject" in half.json()["error"]
    assert client.post("/api/else", json=ANSWER).status_code == 404
    assert read_answers(tmp_path / "out")["ann"] == [] and not labeling.answer("ann", -1, True, 1.0)["kept"]


def test_looking_at_many_subjects_creates_no_files_and_keeps_no_descriptors(client: TestClient, tmp_path: Path) -> None:
    gc.collect()  # Other tests' files.
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        assert client.get(f"/api/state?subject=s{number}").status_code == 200
    assert client.post("/api/answer", json=ANSWER | {"subject": "ann"}).json()["kept"]
    assert len(os.listdir("/proc/self/fd")) == before
    assert [path.name for path in (tmp_path / "out" / "answers").iterdir()] == ["ann.jsonl"]
    # Others' requests made the server forget the subject: the answers are read again.
    for number in range(100):
        client.get(f"/api/state?subject=s{number}")
    assert client.get("/api/state?subject=ann").json()["done"] == 1


def test_an_answer_that_the_disk_refuses_is_a_sentence_and_can_be_sent_again(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for _ in range(3):
            response = client.post("/api/answer", json=ANSWER)
            assert response.status_code == 500  # The page retries.
            assert response.json() == {"error": "the answer could not be saved (No space left on device)."}
    assert client.post("/api/answer", json=ANSWER).json()["kept"]
    assert len((tmp_path / "out" / "answers" / "ann.jsonl").read_text().splitlines()) == 1


def test_one_server_a_folder_and_only_for_this_machine(
    labeling: Labeling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[tuple[str, int]] = []

    def run(app: object, listening: socket.socket) -> None:
        addresses.append(listening.getsockname())
        with pytest.raises(UserError, match="another server collects answers in .*out; stop it"):
            serve(config)
        with pytest.raises(UserError, match=f"port {addresses[-1][1]} cannot be used"):
            listen(*addresses[-1])
        listening.close()

    monkeypatch.setattr("shards.label.run_app", run)
    config = ServeConfig(tmp_path / "images", tmp_path / "out", port=0, repeats=0.0)
    serve(config)
    serve(config)  # The first one has ended.
    assert [host for host, _ in addresses] == ["127.0.0.1"] * 2
