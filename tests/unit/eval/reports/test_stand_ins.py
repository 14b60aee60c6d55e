"""Baselines, and images of other programs, in a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import eval
import facegen
from eval import sample
from eval.reports import make
from eval.reports.parts import reconstruction
from eval.reports.results import Report, best_runs
from eval.stand_ins.baselines import DoubleExposures, RealFaces
from eval.stand_ins.image_files import open_image_files
from eval.stand_ins.stand_in import read_rows
from facegen.model import Model
from facegen.pixels import to_float, to_uint8
from quick_spaces import use_quick_spaces
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from tiny_runs import untrained_run

DISTANCES = ["distances:samples"]


@pytest.fixture(scope="module")
def run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("runs") / "vae", tiny_dataset, latent_size=6)


@pytest.fixture(scope="module")
def report(run: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("report")
    return eval.report(run, tiny_dataset, out, only=["reconstruction", "samples", *DISTANCES], device="cpu")


def images_of(dataset: Dataset, split: str) -> torch.Tensor:
    return to_float(read_rows(dataset, split, np.arange(dataset.num_samples(split))))


def test_eigenfaces_have_as_many_components_as_the_run_has_latents(report: Report, tiny_dataset: Path) -> None:
    assert [baseline.name for baseline in report.baselines] == ["real", "mean face", "eigenfaces 6"]
    dataset = Dataset(tiny_dataset)
    train, test = (images_of(dataset, split) for split in ("train", "test"))
    both = torch.cat([train, train.flip(3)]).flatten(1).double()
    mean, held_out = both.mean(0), test.flatten(1).double()
    directions = torch.linalg.svd(both - mean, full_matrices=False)[2][:6]
    for baseline, kept in (("mean face", directions[:0]), ("eigenfaces 6", directions)):
        errors = held_out - mean - (held_out - mean) @ kept.T @ kept
        measured = next(found for found in report.baselines if found.name == baseline).measures["mse"].value
        assert measured == pytest.approx(float(errors.square().mean()), rel=1e-3)


def test_a_run_that_a_baseline_beats_is_told_so(report: Report) -> None:
    (vae,) = report.runs
    for what in ("reconstructions", "samples"):
        (sentence,) = [text for text in report.warnings if text.startswith(f"vae: the {what} of ")]
        assert "eigenfaces 6 are better (" in sentence
    real, *_, eigenfaces = report.baselines
    distance = "frechet_efflite0_samples"
    values = [column.measures[distance].value for column in (real, eigenfaces, vae)]
    assert all(value is not None for value in values) and values == sorted(values, key=lambda value: value or 0)
    assert eigenfaces.pictures and "picture" not in [picture.file for picture in report.pictures]


def test_baselines_are_computed_once(
    report: Report, run: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[str] = []
    evaluate = make.evaluate_run
    monkeypatch.setattr(make, "evaluate_run", lambda *args: evaluated.append(args[1]) or evaluate(*args))
    only = ["reconstruction", "samples", *DISTANCES]
    again = eval.report(run, tiny_dataset, tmp_path / "again", only=only, device="cpu", baselines=["eigenfaces"])
    assert evaluated == ["vae"]
    assert again.baselines[0].measures == report.baselines[-1].measures
    other = eval.report(run, tiny_dataset, tmp_path / "other", only=["reconstruction"], device="cpu", eigenfaces=[3, 9])
    assert [found.name for found in other.baselines] == ["real", "mean face", "eigenfaces 3", "eigenfaces 9"]
    without = eval.report(run, tiny_dataset, tmp_path / "none", only=["reconstruction"], device="cpu", baselines=[])
    assert not without.baselines and not [text for text in without.warnings if "better" in text]


def test_double_exposures_are_means_of_two_training_images(tiny_dataset: Path) -> None:
    dataset = Dataset(tiny_dataset)
    samples, first = (kind(dataset).sample(8, seed=3, first=2) for kind in (DoubleExposures, RealFaces))
    others = to_uint8(2 * samples - first)
    images = {batch.tobytes() for batch in read_rows(dataset, "train", np.arange(dataset.num_samples("train"))).numpy()}
    assert all(other.tobytes() in images for other in others.numpy())
    assert not torch.equal(others, to_uint8(first))


def test_reconstructions_of_other_faces_are_on_one_scale_with_samples(
    run: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_quick_spaces(monkeypatch)
    out, options = tmp_path / "out", {"device": "cpu", "eigenfaces": [768], "only": ["distances"]}
    made = eval.report(run, tiny_dataset, out, baselines=["real", "eigenfaces"], **options)
    real, complete = made.baselines
    for measure in ("frechet", "kernel"):
        # All components of the training images give them back unchanged.
        floor = real.measures[f"{measure}_efflite0_samples"].value
        assert complete.measures[f"{measure}_efflite0_other_reconstructions"].value == pytest.approx(floor, rel=1e-3)
        assert made.runs[0].measures[f"{measure}_efflite0_other_reconstructions"].value != pytest.approx(floor, rel=0.1)
    assert real.measures["frechet_efflite0_other_reconstructions"].reason.endswith("makes no reconstructions")
    seen = eval.report(
        run, tiny_dataset, tmp_path / "seen", split="train", baselines=[], device="cpu", only=["distances"]
    )
    assert "beside the evaluated one" in seen.runs[0].measures["kernel_efflite0_other_reconstructions"].reason


def test_images_of_other_programs_are_measured_as_a_models_samples(
    report: Report, tiny_dataset: Path, tmp_path: Path
) -> None:
    dataset = Dataset(tiny_dataset)
    num = dataset.num_samples("test")
    images = to_uint8(RealFaces(dataset).sample(num)).numpy()
    (tmp_path / "faces").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "faces" / f"{number:03d}.png")
    np.savez(tmp_path / "array.npz", images)
    paths = [f"images:{tmp_path / 'faces'}", f"npz:{tmp_path / 'array.npz'}"]
    made = eval.report(paths, tiny_dataset, tmp_path / "out", only=["samples", *DISTANCES], device="cpu")
    assert [found.name for found in made.runs] == ["faces", "array"]
    expected = report.baselines[0].measures
    for found in made.runs:
        for key, measure in found.measures.items():
            if key.endswith("_samples"):
                assert measure == expected[key], key
        assert found.measures["mse"].reason
        assert [picture.file for picture in found.pictures] == [f"{found.name}-samples.png"]
    assert "images of another program" in (tmp_path / "out" / "report.html").read_text()


def test_images_that_a_run_wrote_have_its_own_numbers(
    run: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_quick_spaces(monkeypatch)
    dataset, model = Dataset(tiny_dataset), facegen.load(run, device="cpu")
    faces = read_rows(dataset, "test", np.arange(dataset.num_samples("test"))).numpy()
    sample.main([str(run), "--files", str(tmp_path / "samples"), "--num", str(len(faces)), "--device", "cpu"])
    (tmp_path / "copies").mkdir()
    for number, image in enumerate(model.decode(model.encode(faces))):
        Image.fromarray(image).save(tmp_path / "copies" / f"{number:03d}.png")
    paths = [str(run), *(f"images:{tmp_path / name}" for name in ("samples", "copies"))]
    options = {"spaces": ["efflite0", "face"], "only": ["distances", "memorization"], "baselines": [], "device": "cpu"}
    own, samples, copies = (
        found.measures for found in eval.report(paths, tiny_dataset, tmp_path / "out", **options).runs
    )
    keys = {key for key, measure in samples.items() if measure.value is not None}
    assert {"kernel_efflite0_samples", "frechet_face_samples", "recall_face_samples", "memorized_face"} <= keys
    assert {key: samples[key] for key in keys} == {key: own[key] for key in keys}
    # Copies of the very faces that they are compared with differ less by chance, so only the errors are others.
    for key in (key for key in keys if key.endswith("_samples")):
        assert copies[key].value == own[key.replace("_samples", "_reconstructions")].value, key


def test_files_are_resized_only_to_the_same_shape(tiny_dataset: Path, tmp_path: Path) -> None:
    image = Dataset(tiny_dataset).image
    for size in ((32, 32), (16, 16), (32, 16)):
        Image.new("L", size, 100).save(tmp_path / f"{size[0]}x{size[1]}.png")
    files = open_image_files(f"images:{tmp_path}", image)
    with pytest.raises(UserError, match="32x16 pixels and the data set 16x16: cut"):
        files.sample(3)
    (tmp_path / "32x16.png").unlink()
    files = open_image_files(f"images:{tmp_path}", image)
    assert (to_uint8(files.sample(2)) == 100).all() and files.sample(1).shape == (1, 3, 16, 16)
    with pytest.raises(UserError, match="holds 2 images, fewer than the 5 samples .*; set --num_samples 2"):
        files.sample(4, first=1)


def test_what_is_no_set_of_images_is_refused(tiny_dataset: Path, run: Path, tmp_path: Path) -> None:
    image = Dataset(tiny_dataset).image
    np.savez(tmp_path / "floats.npz", np.zeros((3, 16, 16, 3)))
    np.savez(tmp_path / "flat.npz", np.zeros((3, 16), np.uint8))
    np.savez(tmp_path / "objects.npz", np.array([[{}]], object))
    (tmp_path / "text.npz").write_text("x")
    (tmp_path / "empty").mkdir()
    for path, message in (
        (f"npz:{tmp_path / 'floats.npz'}", "float64 3x16x16x3, and images of this data set are uint8 Nx16x16x3"),
        (f"npz:{tmp_path / 'flat.npz'}", "holds 0 arrays of images"),
        (f"npz:{tmp_path / 'objects.npz'}", "cannot be read"),
        (f"npz:{tmp_path / 'text.npz'}", "not a file of NumPy arrays"),
        (f"npz:{tmp_path / 'gone.npz'}", "No such file"),
        (f"images:{tmp_path / 'empty'}", "holds no image files"),
        (f"images:{tmp_path / 'gone'}", "does not exist; give images:DIR"),
    ):
        with pytest.raises(UserError, match=message):
            open_image_files(path, image)
    np.savez(tmp_path / "few.npz", np.zeros((3, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="few holds 3 images, fewer .* that are compared; set --num_samples 3"):
        eval.report([run, f"npz:{tmp_path / 'few.npz'}"], tiny_dataset, tmp_path / "out")


def test_a_model_is_not_ranked_by_its_own_teacher(tiny_dataset: Path, tmp_path: Path) -> None:
    runs = [untrained_run(tmp_path / name, tiny_dataset) for name in ("vae", "taught")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "teacher", property(lambda model: "efflite0" if model.name == "taught" else ""))
        report = eval.report(runs, tiny_dataset, tmp_path / "out", only=DISTANCES, device="cpu", baselines=[])
    metric = next(metric for metric in report.metrics if metric.key == "frechet_efflite0_samples")
    own, other = (run.measures[metric.key] for run in reversed(report.runs))
    assert own.note.startswith("judged by its own teacher") and not own.is_ranked and other.is_ranked
    assert best_runs(metric, report.runs) == set(), "one ranked number is not the best of anything"
    assert report.runs[1].measures["diversity_samples"].is_ranked


def test_the_mean_face_is_not_drawn_beside_every_original(
    run: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = reconstruction.face_grid
    monkeypatch.setattr(reconstruction, "face_grid", lambda rows: drawn.extend(row.label for row in rows) or draw(rows))
    eval.report(run, tiny_dataset, tmp_path / "out", only=["reconstruction"], device="cpu")
    assert drawn == ["original", "vae", "eigenfaces 6"]
