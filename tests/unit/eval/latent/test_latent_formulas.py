"""The latent tools' results against the formula or another implementation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from eval.drawing.frames import signed
from eval.drawing.scatter import color_by_label
from eval.latent import encode
from eval.latent.attribute_vectors import (
    Attributes,
    edited_latents,
    fit_attributes,
    load_attributes,
    presence,
    save_attributes,
    split_attributes,
)
from eval.latent.axes import active_dims, component_axes, latent_axes, sweep
from eval.latent.conditions import condition_labels, require_condition, split_degrees
from eval.latent.encode import decode_images, encode_split
from eval.latent.faces import Faces
from eval.latent.nearest import Nearest, nearest_rows, pixel_points, pixel_views
from eval.latent.origin import Origin, snapshot_identity
from eval.latent.pca import fit_pca, load_pca, save_pca
from eval.latent.tools.morph import linear, morph, morph_degrees, spherical
from eval.latent.tools.smile import FORCED_SHIFTS, SWEEP, degree_sweep, forced
from eval.metrics.attribute_effect import attribute_effect
from facegen.model import Model, load
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from shards.loading.loader import evaluation_batches
from tiny_runs import untrained_run

ORIGIN = Origin("0123", "run", "640", "abcd", "train")


def draws(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return Dataset(tiny_dataset)


@pytest.fixture(scope="module")
def vae(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(untrained_run(tmp_path_factory.mktemp("runs") / "vae", tiny_dataset))


@pytest.fixture(scope="module")
def cvae(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(untrained_run(tmp_path_factory.mktemp("runs") / "cvae", tiny_dataset, "cvae"))


# Latents of a split


def test_latents_of_a_split_are_those_of_its_images_in_order(vae: Model, dataset: Dataset) -> None:
    images = next(iter(evaluation_batches(dataset, "test", 100))).images.numpy()
    latents = encode_split(vae, dataset, "test", batch_size=7)
    assert latents.shape == (30, 6)
    np.testing.assert_allclose(latents, vae.encode(images), atol=1e-5)
    assert latents.std(axis=0).min() > 0.01


def test_latents_are_cached_for_these_weights_and_these_data(
    vae: Model, dataset: Dataset, other_dataset: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_split(vae, dataset, "test")
    other = encode_split(vae, Dataset(other_dataset), "test")
    assert not np.array_equal(first[:10], other[:10])
    assert len(list((cache / "latents").iterdir())) == 2
    monkeypatch.setattr(encode, "evaluation_batches", lambda *arguments, **options: pytest.fail("read again"))
    np.testing.assert_array_equal(encode_split(vae, dataset, "test"), first)


def test_a_damaged_cache_is_made_again(vae: Model, dataset: Dataset, cache: Path) -> None:
    first = encode_split(vae, dataset, "test")
    (path,) = (cache / "latents").iterdir()
    path.write_bytes(b"cut")
    np.testing.assert_array_equal(encode_split(vae, dataset, "test"), first)
    assert np.load(path).shape == (30, 6)


def test_the_identity_of_a_snapshot_is_that_of_its_weights(
    vae: Model, tiny_dataset: Path, other_dataset: Path, tmp_path: Path
) -> None:
    same = load(untrained_run(tmp_path / "elsewhere", other_dataset))
    assert snapshot_identity(same) == snapshot_identity(vae)
    other = load(untrained_run(tmp_path / "other", tiny_dataset, seed=1))
    assert snapshot_identity(other) != snapshot_identity(vae)
    with pytest.raises(UserError, match=r"fitted on other weights \(run vae after 640 images\)"):
        Origin.of(vae, Dataset(tiny_dataset), "train").check(other, "file")


def test_decoding_in_batches_keeps_shape_and_order(vae: Model) -> None:
    latents = draws(3, 5, 6)
    images = decode_images(vae, latents, np.zeros((3, 5)), batch_size=4)
    assert images.shape == (3, 5, 16, 16, 3)
    difference = images[2, 3].astype(int) - vae.decode(latents[2, 3][None])[0]
    assert np.abs(difference).max() <= 1


# Principal components


def test_components_are_those_of_numpys_decomposition() -> None:
    latents = (draws(500, 8) * np.arange(1, 9)) @ draws(8, 8, seed=1) + 3
    pca = fit_pca(latents)
    _, singular, rows = np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(pca.variances, singular**2 / 500, rtol=1e-4)
    np.testing.assert_allclose(np.abs((pca.components * rows).sum(axis=1)), 1, atol=1e-4)
    np.testing.assert_allclose(pca.project(latents).std(axis=0), pca.stds, rtol=1e-4)
    np.testing.assert_allclose(pca.unproject(pca.project(latents)), latents, atol=1e-4)
    assert pca.count == 500
    assert (pca.components[np.arange(8), np.abs(pca.components).argmax(axis=1)] > 0).all()


def test_few_images_still_give_all_components() -> None:
    pca = fit_pca(draws(4, 10))
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(10), atol=1e-8)
    assert (np.diff(pca.variances) <= 0).all()
    np.testing.assert_allclose(pca.variances[3:], 0, atol=1e-12)


def test_some_components_are_the_first_of_all() -> None:
    latents = draws(500, 8) * np.arange(1, 9)
    whole, first = fit_pca(latents), fit_pca(latents, 3)
    np.testing.assert_allclose(first.components, whole.components[:3], atol=1e-10)
    np.testing.assert_allclose(first.variances, whole.variances[:3], rtol=1e-10)
    assert first.total_variance == pytest.approx(whole.variances.sum(), rel=1e-10)
    assert component_axes(first, range(3)).names == component_axes(whole, range(3)).names


def test_components_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_pca(draws(100, 5))
    monkeypatch.setattr("eval.latent.pca._CHUNK", 7)
    np.testing.assert_allclose(fit_pca(draws(100, 5)).components, whole.components, atol=1e-8)


def test_components_are_saved_and_loaded(tmp_path: Path) -> None:
    pca = fit_pca(draws(50, 5))
    save_pca(tmp_path / "new" / "pca.safetensors", pca, ORIGIN)
    loaded, origin = load_pca(tmp_path / "new" / "pca.safetensors")
    assert origin == ORIGIN
    assert loaded.count == 50
    for name in ("mean", "components", "variances"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(pca, name))
    with pytest.raises(UserError, match="make one with: python -m eval.traverse --pca"):
        load_pca(tmp_path / "absent")


# Attribute vectors


def test_an_attribute_is_the_difference_of_means() -> None:
    latents = draws(6, 4)
    column = np.array([1, 0, 1, -1, 0, 1], np.int8)
    groups = presence(LabelField("bool"), column)
    assert groups is not None
    attributes = fit_attributes(latents, {"Smiling": groups})
    expected = latents[[0, 2, 5]].mean(axis=0) - latents[[1, 4]].mean(axis=0)
    np.testing.assert_allclose(attributes.vectors[0], expected, rtol=1e-5)
    np.testing.assert_allclose(attributes.unit_vectors[0], expected / np.linalg.norm(expected), rtol=1e-5)
    assert (attributes.num_present[0], attributes.num_absent[0]) == (3, 2)


@pytest.mark.parametrize(
    ("values", "present", "absent"),
    [
        ([-0.5, 0.0, 0.7, np.nan], [2], [0]),  # A degree: 0 is in neither group.
        ([0.1, 0.4, 0.5, 0.9, np.nan], [2, 3], [0, 1]),  # Without a sign, the median, 0.45, divides them.
        ([0.3, 0.3], None, None),
        ([np.nan, np.nan], None, None),
    ],
)
def test_where_a_degree_is_present(values: list[float], present: Any, absent: Any) -> None:
    groups = presence(LabelField("float"), np.array(values, np.float32))
    if present is None:
        assert groups is None
    else:
        assert groups is not None
        assert np.flatnonzero(groups[0]).tolist() == present
        assert np.flatnonzero(groups[1]).tolist() == absent


def test_classes_and_one_sided_labels_are_not_attributes() -> None:
    assert presence(LabelField("class", ("a", "b")), np.array([0, 1], np.int32)) is None
    assert presence(LabelField("bool"), np.array([1, 1, -1], np.int8)) is None


def example_attributes() -> Attributes:
    vectors = np.array([[2, 1, 0], [0, 3, 0], [0, 0, 1], [0, 0, 0.5]], np.float32)
    counts = np.ones(4, np.int64)
    return Attributes(("Smiling", "Male", "Young", "Old"), vectors, counts, counts)


def test_a_vector_without_others_is_orthogonal_to_them() -> None:
    attributes = example_attributes()
    np.testing.assert_array_equal(attributes.vector("Smiling"), [2, 1, 0])
    # Young and Old are parallel: their span has one dim fewer.
    np.testing.assert_allclose(attributes.vector("Smiling", ["Male", "Young", "Old"]), [2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(attributes.vector("Smiling", ["Young", "Old", "Male"]), [2, 0, 0], atol=1e-6)
    with pytest.raises(UserError, match="nothing is left of Young"):
        attributes.vector("Young", ["Old"])
    with pytest.raises(UserError, match="cannot be removed from itself"):
        attributes.vector("Young", ["Young"])
    with pytest.raises(UserError, match="no attribute 'Happy'; there are Smiling, Male"):
        attributes.vector("Happy")


def test_strengths_are_multiples_of_the_vector() -> None:
    latents, vector = draws(2, 3), np.array([1, 0, -2], np.float32)
    edited = edited_latents(latents, vector, [-1, 0, 2.5])
    np.testing.assert_allclose(edited[1, 0], latents[1] - vector)
    np.testing.assert_array_equal(edited[:, 1], latents)
    np.testing.assert_allclose(edited[0, 2], latents[0] + 2.5 * vector)


def test_attributes_of_a_split(vae: Model, dataset: Dataset, tmp_path: Path) -> None:
    attributes = split_attributes(vae, dataset, "train")
    assert {"Smiling", "smile", "Male"} <= set(attributes.names)
    assert not {"identity", "hair_color"} & set(attributes.names)
    latents, labels = encode_split(vae, dataset, "train"), dataset.labels("Smiling", "train")
    expected = latents[labels == 1].mean(axis=0) - latents[labels == 0].mean(axis=0)
    np.testing.assert_allclose(attributes.vector("Smiling"), expected, atol=1e-5)

    origin = Origin.of(vae, dataset, "train")
    save_attributes(tmp_path / "attributes.safetensors", attributes, origin)
    loaded, loaded_origin = load_attributes(tmp_path / "attributes.safetensors")
    assert (loaded.names, loaded_origin) == (attributes.names, origin)
    np.testing.assert_array_equal(loaded.vectors, attributes.vectors)
    with safe_open(tmp_path / "attributes.safetensors", framework="np") as file:
        np.testing.assert_allclose(np.linalg.norm(file.get_tensor("unit_vectors"), axis=1), 1, rtol=1e-5)
        assert json.loads(file.metadata()["names"])[0] == attributes.names[0]
    with pytest.raises(UserError, match="make one with: python -m eval.attributes fit"):
        load_attributes(tmp_path)


# Paths


def test_paths_begin_and_end_at_the_faces() -> None:
    latents = draws(3, 16)
    for path in (linear, spherical):
        points = morph(latents, 12, path)
        assert points.shape == (2, 12, 16)
        np.testing.assert_allclose(points[:, 0], latents[:-1], atol=1e-6)
        np.testing.assert_allclose(points[:, -1], latents[1:], atol=1e-6)


def test_a_spherical_path_turns_and_grows_evenly() -> None:
    start, end = draws(2, 64)
    end *= 3
    points = spherical(start, end, np.linspace(0, 1, 9))
    lengths = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(np.diff(lengths), (lengths[-1] - lengths[0]) / 8, rtol=1e-6)
    directions = points / lengths[:, None]
    angles = np.arccos((directions[1:] * directions[:-1]).sum(axis=1))
    np.testing.assert_allclose(angles, angles.mean(), rtol=1e-6)
    middle = np.linalg.norm(linear(start, end, np.array([0.5])))
    assert middle < lengths[4]


@pytest.mark.parametrize("end", [np.zeros(3), np.array([2.0, 0, 0]), np.array([-1.0, 0, 0])])
def test_where_the_circle_is_undefined_the_path_is_the_line(end: np.ndarray) -> None:
    start, positions = np.array([1.0, 0, 0]), np.linspace(0, 1, 5)
    np.testing.assert_array_equal(spherical(start, end, positions), linear(start, end, positions))


def test_degrees_change_along_a_morph() -> None:
    degrees = morph_degrees([0.0, 1.0, np.nan], 3)
    np.testing.assert_array_equal(degrees[0], [0, 0.5, 1])
    assert np.isnan(degrees[1]).all()


# Sweeps


def test_the_most_active_dims_and_the_least_active_one() -> None:
    assert active_dims(np.array([0.1, 5, 0.0, 2]), 2) == [1, 3, 2]
    assert active_dims(np.array([1.0, 2]), 8) == [1, 0]


def test_a_sweep_of_dims_changes_one_dim_alone() -> None:
    latents = draws(100, 4) * 2 + 1
    steps = np.array([-1.2, 0, 1.2])
    swept = sweep(latents[0], latent_axes(latents, [2, 0], in_prior_units=True), steps)
    assert swept.shape == (2, 3, 4)
    np.testing.assert_allclose(swept[0, :, 2], steps, atol=1e-6)
    np.testing.assert_allclose(swept[0][:, [0, 1, 3]], np.tile(latents[0, [0, 1, 3]], (3, 1)))
    swept = sweep(latents[0], latent_axes(latents, [1], in_prior_units=False), steps)
    expected = latents[:, 1].mean() + steps * latents[:, 1].std()
    np.testing.assert_allclose(swept[0, :, 1], expected, rtol=1e-4)


def test_a_sweep_of_components_counts_their_standard_deviations() -> None:
    latents = (draws(300, 5) * [5, 4, 3, 2, 1]) @ draws(5, 5, seed=1) + 1
    pca = fit_pca(latents)
    axes = component_axes(pca, [0, 3])
    swept = sweep(latents[7], axes, np.array([-2.0, 0, 2]))
    coordinates, own = pca.project(swept[1]), pca.project(latents[7:8])[0]
    np.testing.assert_allclose(coordinates[:, 3], [-2 * pca.stds[3], 0, 2 * pca.stds[3]], atol=1e-5)
    np.testing.assert_allclose(coordinates[:, [0, 1, 2, 4]], np.tile(own[[0, 1, 2, 4]], (3, 1)), atol=1e-4)
    assert axes.names[0] == f"component 1  {100 * pca.variances[0] / pca.variances.sum():.1f} %"


# Conditions


class Recorder:
    """A conditional model that records the degrees it is given, and draws them as brightness."""

    name = "recorder"
    family = "recorder"
    condition = "smile"

    def __init__(self) -> None:
        self.encoded: list[float] = []

    def encode(self, images: np.ndarray, labels: dict[str, torch.Tensor]) -> np.ndarray:
        self.encoded += labels["smile"].tolist()
        return np.zeros((len(images), 2), np.float32)

    def decode(self, latents: np.ndarray, labels: dict[str, torch.Tensor]) -> np.ndarray:
        levels = (100 + 100 * labels["smile"].numpy()).round().astype(np.uint8)
        return np.tile(levels[:, None, None, None], (1, 2, 2, 3))


def test_a_forced_smile_is_encoded_with_its_own_degree_and_decoded_with_it_shifted() -> None:
    model = Recorder()
    faces = Faces(np.zeros((2, 2, 2, 3), np.uint8), ("a", "b"), np.array([0.2, -0.1], np.float32))
    levels = forced(model, faces)[..., 0, 0, 0]
    assert model.encoded == pytest.approx([0.2, -0.1])
    assert FORCED_SHIFTS == (-0.7, -0.5, 0.5, 0.7)
    assert levels.tolist() == [[120, 50, 70, 170, 190], [90, 20, 40, 140, 160]]


def test_a_degree_sweep_gives_every_face_every_degree() -> None:
    levels = degree_sweep(Recorder(), np.zeros((3, 2), np.float32), SWEEP)[..., 0, 0, 0]
    assert SWEEP.tolist() == pytest.approx([step / 10 for step in range(-10, 11)])
    assert levels.tolist() == [list(range(0, 201, 10))] * 3


def test_degrees_of_a_split(cvae: Model, vae: Model, dataset: Dataset) -> None:
    np.testing.assert_array_equal(split_degrees(cvae, dataset, "test"), dataset.labels("smile", "test"))
    assert np.isnan(split_degrees(vae, dataset, "test")).all()
    boolean = SimpleNamespace(condition="Smiling")
    degrees, labels = split_degrees(boolean, dataset, "test"), dataset.labels("Smiling", "test")
    np.testing.assert_array_equal(degrees, 2.0 * labels - 1)
    assert np.isnan(split_degrees(SimpleNamespace(condition="absent"), dataset, "test")).all()
    assert condition_labels(vae, np.zeros(3)) == {}
    assert require_condition(cvae) == "smile"
    with pytest.raises(UserError, match="has no condition"):
        require_condition(vae)


def test_a_conditional_encoder_gets_the_degrees_of_the_data(cvae: Model, dataset: Dataset) -> None:
    batch = next(iter(evaluation_batches(dataset, "test", 100)))
    latents = encode_split(cvae, dataset, "test")
    np.testing.assert_allclose(latents, cvae.encode(batch.images.numpy(), batch.labels), atol=1e-5)
    assert np.abs(latents - cvae.encode(batch.images.numpy())).max() > 1e-3


@pytest.mark.parametrize(("value", "text"), [(-2.75, "-2.75"), (0.1 * 3, "+0.3"), (1e-17, "0"), (2.0, "+2")])
def test_steps_are_labeled_without_rounding_them_away(value: float, text: str) -> None:
    assert signed(value) == text


# Neighbors


def test_the_nearest_rows_are_those_of_a_full_search(dataset: Dataset) -> None:
    images = next(iter(evaluation_batches(dataset, "train", 200))).images.numpy()
    queries = np.concatenate([images[5:6], images[9:10, :, ::-1], draws(2, 16, 16, 3).astype(np.uint8)])
    nearest = nearest_rows(pixel_views(queries)[0], pixel_points(dataset, "train", batch_size=50), 3)
    assert nearest.rows[0, 0] == 5
    assert nearest.rows[1, 0] == 9
    np.testing.assert_allclose(nearest.distances[:2, 0], 0, atol=1e-6)

    def rmse(mirrored: bool) -> np.ndarray:
        others = (images[:, :, ::-1] if mirrored else images).astype(float)
        return np.sqrt((((queries[:, None].astype(float) - others[None]) / 127.5) ** 2).mean(axis=(2, 3, 4)))

    expected = np.minimum(rmse(False), rmse(True))
    np.testing.assert_array_equal(nearest.rows, np.argsort(expected, axis=1, kind="stable")[:, :3])
    np.testing.assert_allclose(nearest.distances, np.sort(expected, axis=1)[:, :3], atol=1e-5)


def test_fewer_faces_than_neighbors_leave_places_empty() -> None:
    nearest = Nearest.empty(1, 3)
    nearest.update(np.array([4, 2]), np.array([[0.5, 0.1]]))
    assert nearest.rows.tolist() == [[2, 4, -1]]
    assert nearest.distances.tolist() == [[0.1, 0.5, np.inf]]


# Colors of a map


def test_values_have_different_colors_and_missing_ones_are_marked() -> None:
    coloring = color_by_label("Male", LabelField("bool"), np.array([0, 1, -1, 1], np.int8))
    assert [text for text, _ in coloring.legend] == ["no (1)", "yes (2)"]
    assert coloring.known.tolist() == [True, True, False, True]
    assert (coloring.colors[1] == coloring.colors[3]).all() and (coloring.colors[0] != coloring.colors[1]).any()
    people = LabelField("class", tuple(f"person {number}" for number in range(20)))
    column = np.array([*range(20), 3, 3], np.int32)
    coloring = color_by_label("identity", people, column)
    assert coloring.legend[0][0] == "person 3 (3)"
    assert coloring.legend[-1][0] == "13 others"
    degrees = color_by_label("smile", LabelField("float"), np.array([-1, 0, 1, np.nan], np.float32))
    assert len({tuple(color) for color in degrees.colors[:3].tolist()}) == 3
    assert not degrees.known[3]
    empty = color_by_label("smile", LabelField("float"), np.full(3, np.nan, np.float32))
    assert not empty.known.any()


def test_the_effect_of_an_attribute_is_counted_face_by_face() -> None:
    judged = np.array([[0.1, 0.2, 0.2], [0.1, 0.0, 0.3], [0.5, 0.4, 0.4], [0.0, 0.5, 1.0]])
    effect = attribute_effect(judged)
    assert (effect.monotone, effect.rises) == (0.5, 0.75)
    np.testing.assert_allclose(effect.mean, [0.175, 0.275, 0.475])
