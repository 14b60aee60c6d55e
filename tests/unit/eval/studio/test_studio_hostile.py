"""Hostile uploads and requests: each is answered with one sentence, and the studio keeps working."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.types import Message, Receive, Scope, Send

from eval.latent.editing.uploads import Uploads
from eval.latent.tools.tsne import later_map
from eval.studio import studio as studio_module
from eval.studio.studio import Studio
from shards.serving import guards
from studio_hostile import HOSTILE_CALLS, HOSTILE_FILES, ODD_BUT_GOOD, PICTURE, SEED, recipe, saved
from studio_runs import client_of, pixels_of, tiny_studio


@pytest.fixture(scope="module")
def studio(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    root = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGEN_CACHE", str(root / "cache"))
        yield tiny_studio(root, tiny_dataset, "vae")


@pytest.fixture(scope="module")
def client(studio: Studio) -> Iterator[TestClient]:
    with client_of(studio) as opened:
        yield opened


def sentence_of(response: Any) -> str:
    """The one sentence of a refusal, which reveals nothing internal."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:300])
    assert set(response.json()) == {"error"}
    sentence = response.json()["error"]
    assert 10 < len(sentence) < 320 and sentence.endswith(".") and "\n" not in sentence
    assert "Traceback" not in sentence and "/eval/" not in sentence and "site-packages" not in sentence
    return sentence


def is_alive(client: TestClient) -> bool:
    response = client.post("/api/runs/vae/picture", json={"face": SEED})
    return response.status_code == 200 and pixels_of(response.content).shape == (16, 16, 3)


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_file_is_one_sentence(client, name, recwarn):
    sentence_of(client.post("/api/uploads", content=HOSTILE_FILES[name]()))
    assert is_alive(client)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["pickle", "PyTorch file", "NumPy file of objects", "ZIP with a path"])
def test_the_sentence_for_a_pickle_says_that_it_is_never_opened(client, name):
    assert "never opened" in sentence_of(client.post("/api/uploads", content=HOSTILE_FILES[name]()))


@pytest.mark.parametrize("name", ODD_BUT_GOOD)
def test_only_the_photo_of_an_odd_file_is_read(client, name):
    response = client.post("/api/uploads", content=ODD_BUT_GOOD[name]())
    assert response.status_code == 200, response.text
    kept = client.get(f"/api/uploads/{response.json()['face']['token']}/picture").content
    image = Image.open(io.BytesIO(kept))
    assert image.mode == "RGB" and max(image.size) <= 512 and not image.getexif() and image.info.get("Comment") is None
    assert b"script" not in kept and b"PK\x03\x04" not in kept
    assert client.post("/api/runs/vae/picture", json={"face": response.json()["face"]}).status_code == 200


def test_uploads_are_forgotten_in_order():
    uploads = Uploads(capacity=4)
    large = saved(Image.effect_noise((1500, 1500), 60).convert("RGB"), "JPEG")
    tokens = [uploads.add(large)[0] for _ in range(15)]
    assert len(set(tokens)) == 15
    assert uploads.photo(tokens[-4]).pixels.shape == (512, 512, 3)
    with pytest.raises(ValueError, match="send the file again"):
        uploads.photo(tokens[-5])


@pytest.mark.parametrize("name", HOSTILE_CALLS)
def test_a_hostile_call_is_one_sentence(studio, client, name):
    # Two calls need fits: while those run, the answer would be 202.
    studio.run("vae").attributes.wait()
    later_map(studio.run("vae"), "pca").wait()
    method, path, options = HOSTILE_CALLS[name]
    if "content" in options:
        options = {**options, "headers": {"content-type": "application/json"} | options.get("headers", {})}
    sentence_of(client.request(method, path, **options))
    assert is_alive(client)


def test_every_answer_forbids_what_the_page_does_not_use(client):
    for path in ("/", "/main.js", "/api/studio", "/api/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert (
        "access-control-allow-origin"
        not in client.get("/api/studio", headers={"origin": "https://evil.example"}).headers
    )


def test_the_page_loads_nothing_from_elsewhere():
    for path in (Path(studio_module.__file__).parent / "page").iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and 'src="//' not in text, path
        assert "style=" not in text and " onclick=" not in text and "eval(" not in text, path


def test_a_body_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(guards, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(guards, "_LARGE_BODIES", 1)
    sent: list[Message] = []

    async def never_called(scope: Scope, receive: Receive, send: Send) -> None:
        pytest.fail("a part of a body came through")

    async def beginning_only() -> Message:
        if not sent:
            sent.append({})
            return {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/uploads", "headers": []}
    limit = guards.BodyLimit(never_called, {"/api/uploads": 100})
    for _ in range(2):  # The second would wait forever if the first kept its slot.
        asyncio.run(limit(scope, beginning_only, send))
        assert sent[1]["status"] == 408 and b"too long to arrive" in sent[2]["body"]
        sent.clear()


def basic(password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def test_a_shared_studio_asks_for_its_password(studio, monkeypatch):
    monkeypatch.setattr(guards, "WRONG_PASSWORD_SECONDS", 0)
    with client_of(studio, password="correct horse") as client:
        for headers in ({}, basic("wrong"), {"authorization": "Basic !!!"}, {"authorization": "Bearer correct horse"}):
            for path in ("/", "/main.js", "/api/studio", "/api/data/test/0/picture", "/api/docs"):
                response = client.get(path, headers=headers)
                assert response.status_code == 401 and "Basic" in response.headers["www-authenticate"]
        right = basic("correct horse")
        assert client.get("/api/studio", headers={**right, "host": "192.168.0.7:7860"}).status_code == 200
        cross = {**right, "origin": "https://evil.example"}
        assert client.post(PICTURE, json=recipe(), headers=cross).status_code == 403
