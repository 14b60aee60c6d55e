"""The studio's functions and its HTTP API, over tiny runs."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.numpy import load

from eval.latent.attribute_vectors import Attributes, save_attributes, split_attributes
from eval.latent.editing.background import NotYet
from eval.latent.editing.recipes import Recipe
from eval.latent.origin import Origin
from eval.latent.pca import split_pca
from eval.latent.tools.morph import Morph, morph_point
from eval.latent.tools.traverse import GridRequest, face_coordinates, faces_around
from eval.latent.tools.tsne import face_map
from eval.studio.studio import Studio
from facegen.model import load as load_model
from facegen.pixels import to_uint8
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from studio_runs import client_of, pixels_of, pixels_of_uri, png, tiny_studio
from tiny_runs import untrained_run

OLD_RUN = Path(__file__).parents[3] / "fixtures" / "release_0_1" / "run"
SEED = {"kind": "sample", "seed": 7}
HELD_OUT = {"kind": "data", "split": "test", "row": 3}


@pytest.fixture(scope="module")
def studio(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    root = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGEN_CACHE", str(root / "cache"))
        made = tiny_studio(root, tiny_dataset, "vae", "cvae", "ae", "dcgan")
        for run in made.runs.values():
            if run.can_encode:
                run.attributes.wait()
        yield made


@pytest.fixture(scope="module")
def client(studio: Studio) -> Iterator[TestClient]:
    with client_of(studio) as opened:
        yield opened


def picture(client: TestClient, run: str, **recipe: Any) -> np.ndarray:
    response = client.post(f"/api/runs/{run}/picture", json=recipe)
    assert response.status_code == 200, response.text
    return pixels_of(response.content)


def test_a_seed_is_the_sample_of_that_seed(client, studio):
    model = studio.run("vae").model
    np.testing.assert_array_equal(picture(client, "vae", face=SEED), to_uint8(model.sample(1, seed=7))[0])
    wide = picture(client, "vae", face={**SEED, "std": 2})
    np.testing.assert_array_equal(wide, to_uint8(model.sample(1, seed=7, std=2))[0])


def test_a_face_is_drawn_by_a_sampler_that_was_fitted_to_the_run(tmp_path):
    run = Path(shutil.copytree(OLD_RUN, tmp_path / "run"))
    studio = Studio([str(run)])
    fitted, face = load_model(run, sampler="gaussian"), {**SEED, "sampler": "gaussian"}
    assert studio.describe()["runs"][0]["samplers"] == ["gaussian"]
    with client_of(studio) as client:
        np.testing.assert_array_equal(picture(client, "run", face=face), to_uint8(fitted.sample(1, seed=7))[0])
        np.testing.assert_array_equal(picture(client, "run", face=SEED), to_uint8(load_model(run).sample(1, seed=7))[0])
        answer = client.post("/api/runs/run/picture", json={"face": {**SEED, "sampler": "../.."}})
    assert answer.status_code == 400
    assert answer.json()["error"] == "run has no sampler of this name; it has gaussian."


def test_a_slider_sets_one_component_and_leaves_the_others(studio, tiny_dataset):
    run = studio.run("vae")
    before = face_coordinates(run, Recipe.model_validate({"face": SEED}))
    after = face_coordinates(run, Recipe.model_validate({"face": SEED, "axes": {2: 1.5, 0: -0.5}}))
    assert after[[0, 2]] == pytest.approx([-0.5, 1.5], abs=1e-5)
    kept = np.delete(np.arange(len(before)), [0, 2])
    np.testing.assert_allclose(after[kept], before[kept], atol=1e-5)
    pca = split_pca(run.model, studio.dataset, "train")
    latent = run.start(Recipe.model_validate({"face": SEED}).face).latent
    np.testing.assert_allclose(before, pca.project(latent[None])[0] / pca.stds, atol=1e-4)


def test_axes_are_listed_by_the_variance_they_explain(client):
    answer = client.get("/api/runs/vae/axes?num=4").json()
    shares = [axis["share"] for axis in answer["axes"]]
    assert answer["kind"] == "component" and len(shares) == 4
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    rest = client.get(f"/api/runs/vae/axes?first=4&num={answer['total']}").json()
    assert len(rest["axes"]) == answer["total"] - 4


def test_a_strength_is_a_multiple_of_the_attribute_vector(studio):
    run = studio.run("vae")
    vector = split_attributes(run.model, studio.dataset, "train").vector("Smiling")
    plain = run.point(Recipe.model_validate({"face": HELD_OUT})).latent
    edited = run.point(Recipe.model_validate({"face": HELD_OUT, "attributes": {"Smiling": -1.5}})).latent
    np.testing.assert_allclose(edited - plain, -1.5 * vector, atol=1e-5)


def test_the_degree_of_a_conditional_run(client, studio):
    assert studio.describe()["runs"][1]["condition"]["label"] == "smile"
    own = picture(client, "cvae", face=HELD_OUT)
    own_degree = client.post("/api/runs/cvae/place", json={"face": HELD_OUT}).json()["degree"]
    assert own_degree == pytest.approx(float(studio.dataset.labels("smile", "test")[3]))
    np.testing.assert_array_equal(own, picture(client, "cvae", face=HELD_OUT, degree=own_degree))
    assert (own != picture(client, "cvae", face=HELD_OUT, degree=-own_degree)).any()
    middle = np.mean(studio.run("cvae").model.condition_range)
    sampled = client.post("/api/runs/cvae/place", json={"face": SEED}).json()["degree"]
    assert sampled == pytest.approx(middle)


def test_a_family_without_a_prior_samples_from_its_components(client, studio):
    latents = np.stack(
        [studio.run("ae").start(Recipe.model_validate({"face": {**SEED, "seed": n}}).face).latent for n in range(300)]
    )
    sliders = studio.run("ae").sliders.get()
    coordinates = (latents @ sliders.axes.directions.T - sliders.axes.centers) / np.maximum(sliders.axes.units, 1e-9)
    assert np.abs(coordinates[:, :4].mean(axis=0)).max() < 0.25
    assert coordinates[:, :4].std(axis=0) == pytest.approx(np.ones(4), abs=0.2)
    assert picture(client, "ae", face=SEED).shape == (16, 16, 3)


def test_a_family_without_an_encoder_has_single_dims_and_refuses_faces(client):
    answer = client.get("/api/runs/dcgan/axes").json()
    assert answer["kind"] == "dim" and answer["axes"][0] == {"number": 0, "share": None, "std": 1.0}
    refused = client.post("/api/runs/dcgan/picture", json={"face": HELD_OUT})
    assert refused.status_code == 400 and "cannot encode faces" in refused.json()["error"]
    place = client.post("/api/runs/dcgan/place", json={"face": SEED, "axes": {"1": 2}}).json()
    assert place["coordinates"][1] == pytest.approx(2)


def test_neighbors_differ_from_the_middle_by_the_step(studio):
    run = studio.run("vae")
    recipe = Recipe.model_validate({"face": SEED, "attributes": {"Smiling": 1}})
    rows = faces_around(run, GridRequest(recipe=recipe, across=1, down=3, step=0.5, size=3))
    np.testing.assert_array_equal(pixels_of_uri(rows[1][1].image), run.picture(recipe))
    center = face_coordinates(run, recipe)
    corner = face_coordinates(run, rows[2][0].recipe)
    assert corner[[1, 3]] - center[[1, 3]] == pytest.approx([-0.5, 0.5], abs=1e-4)
    np.testing.assert_array_equal(pixels_of_uri(rows[2][0].image), run.picture(rows[2][0].recipe))


def test_a_morph_passes_through_its_faces(studio):
    run = studio.run("cvae")
    recipes = [
        Recipe.model_validate({"face": {**SEED, "seed": seed}, "degree": degree})
        for seed, degree in ((1, -1), (2, 0), (3, 1))
    ]
    for path in ("linear", "spherical"):
        way = Morph(recipes=recipes, path=path)
        for position in (0, 1, 2):
            point, expected = morph_point(run, way, position), run.point(recipes[position])
            np.testing.assert_allclose(point.latent, expected.latent, atol=1e-5)
            assert point.degree == pytest.approx(expected.degree)
    middle = morph_point(run, Morph(recipes=recipes), 1.5)
    np.testing.assert_allclose(
        middle.latent, (run.point(recipes[1]).latent + run.point(recipes[2]).latent) / 2, atol=1e-6
    )
    assert middle.degree == 0.5


def test_a_face_of_unknown_degree_keeps_it_at_its_end_of_a_morph(studio):
    run = studio.run("cvae")
    token, _ = studio.uploads.add(png())
    unknown = Recipe.model_validate({"face": {"kind": "upload", "token": token}})
    way = Morph(recipes=[Recipe.model_validate({"face": SEED, "degree": 0.5}), unknown])
    assert morph_point(run, way, 0).degree == 0.5
    assert np.isnan(morph_point(run, way, 0.5).degree) and np.isnan(morph_point(run, way, 1).degree)


@pytest.mark.parametrize("form", ["webp", "gif"])
def test_an_animation_goes_there_and_back(client, form):
    body = {"recipes": [{"face": SEED}, {"face": HELD_OUT}], "steps": 4, "format": form}
    response = client.post("/api/runs/vae/morph/animation", json=body)
    assert response.headers["content-type"] == f"image/{form}"
    with Image.open(io.BytesIO(response.content)) as animation:
        assert animation.format == form.upper() and getattr(animation, "n_frames", 1) == 6


def test_an_upload_is_framed_by_its_crop(client):
    left, right = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([left, right], axis=1)).save(buffer, "PNG")
    answer = client.post("/api/uploads", content=buffer.getvalue()).json()
    assert (answer["width"], answer["height"]) == (120, 40)
    face = answer["face"]
    dark = client.post("/api/runs/vae/original", json={**face, "crop": [0, 0, 0.3, 1]})
    light = client.post("/api/runs/vae/original", json={**face, "crop": [0.7, 0, 1, 1]})
    assert pixels_of(dark.content).max() == 0 and pixels_of(light.content).min() == 255
    assert (picture(client, "vae", face={**face, "crop": [0, 0, 0.3, 1]}) != picture(client, "vae", face=face)).any()
    whole = client.get(f"/api/uploads/{face['token']}/picture")
    assert pixels_of(whole.content).shape == (40, 120, 3)
    refused = client.post("/api/runs/vae/original", json={**face, "crop": [0.5, 0, 0.5, 1]})
    assert refused.status_code == 400 and "is empty" in refused.json()["error"]


def test_a_saved_latent_gives_the_same_face(client):
    recipe = {"face": HELD_OUT, "axes": {"0": 1}, "attributes": {"Smiling": 0.5}}
    file = client.post("/api/runs/vae/latent", json=recipe).content
    assert set(load(file)) == {"latent"}
    face = client.post("/api/uploads", content=file).json()["face"]
    assert face["kind"] == "latent"
    np.testing.assert_array_equal(picture(client, "vae", **recipe), picture(client, "vae", face=face))
    other = client.post("/api/runs/ae/picture", json={"face": face})
    assert other.status_code == 400 and "belongs to other weights than ae" in other.json()["error"]


def test_compare_answers_for_each_run_alone(client, studio):
    body = {"runs": ["vae", "cvae", "dcgan"], "recipe": {"face": HELD_OUT}}
    vae, cvae, dcgan = client.post("/api/compare", json=body).json()
    images = np.zeros((1, 16, 16, 3), np.uint8)
    images[0] = pixels_of(client.get("/api/data/test/3/picture").content)
    copy = studio.run("vae").model.reconstruct(images).astype(float)
    assert vae["mse"] == pytest.approx(np.mean(((copy - images) / 127.5) ** 2), rel=1e-6)
    assert vae["image"].startswith("data:image/png;base64,") and vae["original"] and cvae["error"] is None
    assert dcgan["image"] is None and "cannot encode faces" in dcgan["error"]


def test_the_map_shows_every_held_out_face(client, studio):
    for method in ("pca", "tsne"):
        deadline = time.monotonic() + 60
        while (response := client.get(f"/api/runs/vae/map?method={method}&label=Smiling")).status_code == 202:
            assert "being laid out" in response.json()["working"] and time.monotonic() < deadline
            time.sleep(0.05)
        found = response.json()
        num = studio.dataset.num_samples("test")
        assert found["split"] == "test" and found["rows"] == list(range(num))
        assert len(found["x"]) == len(found["y"]) == len(found["colors"]) == num
        assert min(found["x"] + found["y"]) >= 0 and max(found["x"] + found["y"]) <= 1
        column = studio.dataset.labels("Smiling", "test")
        smiling = {color for color, value in zip(found["colors"], column, strict=True) if value == 1}
        assert len(smiling) == 1 and len(set(found["colors"])) == 2
        assert [text.split(" ")[0] for text, _ in found["legend"]] == ["no", "yes"]


def test_a_map_of_components_that_are_not_fitted_yet_waits_for_them(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    studio = Studio([str(untrained_run(tmp_path / "vae", tiny_dataset))], str(tiny_dataset))
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        try:
            assert len(face_map(studio.run("vae"), "pca").rows) == studio.dataset.num_samples("test")
            return
        except NotYet:
            time.sleep(0.05)


def test_attribute_vectors_from_a_file_come_before_those_of_the_data(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    run, other = (untrained_run(tmp_path / name, tiny_dataset, seed=seed) for seed, name in enumerate(("vae", "other")))
    dataset = Dataset(tiny_dataset)
    files = []
    for path, value in ((run, 2.0), (other, 3.0)):
        model = load_model(path)
        size = model.latent_size
        made = Attributes(
            ("Smiling", "Own"), np.full((2, size), value, np.float32), np.ones(2, np.int64), np.ones(2, np.int64)
        )
        files.append(str(tmp_path / f"{path.name}.safetensors"))
        save_attributes(files[-1], made, Origin.of(model, dataset, "train"))
    attributes = Studio([str(run)], str(tiny_dataset), attributes=files).run("vae").attributes.wait()
    assert (attributes.vector("Smiling") == 2).all() and (attributes.vector("Own") == 2).all()
    fitted = split_attributes(load_model(run), dataset, "train")
    np.testing.assert_array_equal(attributes.vector("Male"), fitted.vector("Male"))


def test_faces_of_the_data_set_with_their_labels(client, studio):
    first, second = client.get("/api/data/test?first=3&num=2").json()
    assert (first["row"], second["row"]) == (3, 4)
    assert first["key"] == studio.dataset.key("test", 3)
    assert first["labels"]["Smiling"] == bool(studio.dataset.labels("Smiling", "test")[3])
    assert client.get("/api/data/test?first=100000").json() == []


def test_without_data_sliders_are_dims(tiny_dataset, tmp_path):
    studio = tiny_studio(tmp_path, None, "vae", made_of=tiny_dataset)
    with client_of(studio) as client:
        assert client.get("/api/studio").json()["data"] is None
        assert client.get("/api/runs/vae/axes").json()["kind"] == "dim"
        assert picture(client, "vae", face=SEED, axes={"0": 2}).shape == (16, 16, 3)
        refused = client.post("/api/runs/vae/picture", json={"face": HELD_OUT})
        assert refused.status_code == 400 and "--data DIR" in refused.json()["error"]


def test_components_are_read_from_the_cache_the_second_time(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    first = tiny_studio(tmp_path, tiny_dataset, "vae").run("vae").sliders.get()
    monkeypatch.setattr("eval.latent.editing.fits.fit_pca", lambda latents: pytest.fail("fitted again"))
    second = tiny_studio(tmp_path, tiny_dataset, "vae").run("vae").sliders.get()
    np.testing.assert_array_equal(first.axes.directions, second.axes.directions)


def test_unusable_runs_are_reported_at_the_start(tiny_dataset, tmp_path):
    with pytest.raises(UserError, match="cannot decode faces"):
        tiny_studio(tmp_path, tiny_dataset, "face_cnn")
    with pytest.raises(UserError, match="does not exist"):
        Studio([str(tmp_path / "nowhere")])
