"""The commands of the latent tools, end to end on a tiny data set, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from eval import attributes, morph, neighbors, sample, smile, traverse, tsne
from eval.drawing.animation import save_animation, there_and_back
from eval.features import image_features as image_features_module
from eval.features.spaces import FeatureSpace
from eval.latent.attribute_vectors import edited_latents, load_attributes
from eval.latent.encode import decode_images
from eval.latent.faces import even_rows, read_faces
from eval.latent.tools import neighbors as neighbors_module
from facegen.model import load
from facegen.pixels import to_uint8
from shards.base.errors import UserError
from shards.command_line.cli import run
from shards.dataset.dataset import Dataset
from tiny_runs import untrained_run

TILE = 96 + 4
"""Pixels of a face of 16 pixels in a grid, with its gap."""
LABELS = 22 + 12
"""Pixels of a row of labels."""


@pytest.fixture(scope="module")
def runs(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("runs")
    return {family: str(untrained_run(root / family, tiny_dataset, family)) for family in ("vae", "ae", "cvae")}


@pytest.fixture(scope="module")
def data(tiny_dataset: Path) -> str:
    return str(tiny_dataset)


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Two photos of different sizes."""
    noise = np.random.default_rng(0)
    paths = [tmp_path / "first.jpg", tmp_path / "second one.png"]
    for path, size in zip(paths, [(40, 30), (24, 50)], strict=True):
        Image.fromarray(noise.integers(0, 255, (*size, 3), np.uint8)).resize((90, 80)).save(path)
    return [str(path) for path in paths]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path_factory.getbasetemp() / "latent_cache"))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must exit with code 2 and one sentence; returns the sentence."""

    def check(main: Callable[[list[str]], None], *args: object) -> str:
        with pytest.raises(SystemExit) as caught:
            run(lambda: main([str(argument) for argument in args]))
        assert caught.value.code == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("error: ") and "\n" not in message
        return message

    return check


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def num_frames(path: Path) -> int:
    with Image.open(path) as image:
        return image.n_frames  # type: ignore[attr-defined]


def grid_size(columns: int, rows: int, has_labels: bool = True) -> tuple[int, int]:
    return columns * TILE - 4, rows * TILE - 4 + (LABELS if has_labels else 0)


# Animations


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_a_frame_for_each_picture(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGBA", (20, 10), (value, 0, 255 - value, 255)) for value in (0, 80, 160, 240)]
    frames[2].paste((0, 0, 0, 0), (0, 0, 20, 5))
    path = tmp_path / "new" / f"animation{suffix}"
    save_animation(path, frames)
    with Image.open(path) as animation:
        assert animation.n_frames == 4  # type: ignore[attr-defined]
        assert animation.info["loop"] == 0
        animation.seek(2)
        upper, lower = (animation.convert("RGB").getpixel((10, y)) for y in (1, 8))
    assert min(upper) > 245  # type: ignore[arg-type]
    assert np.abs(np.array(lower) - (160, 0, 95)).max() < 12


def test_there_and_back_shows_the_first_and_last_frame_once() -> None:
    frames = [Image.new("RGB", (2, 2), (value, 0, 0)) for value in range(4)]
    assert [frame.getpixel((0, 0))[0] for frame in there_and_back(frames)] == [0, 1, 2, 3, 2, 1]  # type: ignore[index]
    assert len(there_and_back(frames[:1])) == 1
    assert len(there_and_back(frames[:2])) == 2


def test_an_animation_of_another_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must end in .webp or .gif"):
        save_animation(tmp_path / "a.mp4", [Image.new("RGB", (2, 2))])


# Attributes


@pytest.fixture
def fitted(runs: dict[str, str], data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = str(tmp_path / "vectors" / "attributes.safetensors")
    attributes.main(["fit", runs["vae"], "--data", data, "--out", path])
    return path


def test_attributes_are_fitted_and_applied(
    runs: dict[str, str], data: str, photos: list[str], fitted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = capsys.readouterr().out
    labels = Dataset(data).labels("Smiling", "train")
    (line,) = [line for line in printed.splitlines() if line.startswith("Smiling ")]
    assert line.split()[1:3] == [str((labels == 1).sum()), str((labels == 0).sum())]

    grid, animation = tmp_path / "grid.png", tmp_path / "edit.webp"
    common = ["apply", fitted, "--run", runs["vae"], "--attribute", "Smiling"]
    attributes.main([*common, "--images", *photos, "--out", str(grid), "--animation", str(animation)])
    assert size_of(grid) == grid_size(12, 2)  # Original, reconstruction, ten strengths.
    assert num_frames(animation) == 40
    options = ["--data", data, "--num", "3", "--strengths", "-2", "1", "--without", "Male", "Young"]
    attributes.main([*common, *options, "--out", str(grid)])
    assert size_of(grid) == grid_size(4, 3)


def test_the_strength_0_is_the_reconstruction(runs: dict[str, str], data: str, fitted: str, tmp_path: Path) -> None:
    common = ["--run", runs["vae"], "--data", data, "--rows", "4", "--out", str(tmp_path / "grid.png")]
    attributes.main(["apply", fitted, "--attribute", "Male", *common, "--strengths", "1"])
    grid = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))[LABELS:]
    model = load(runs["vae"])
    images = np.stack([grid[:96:6, column * TILE : column * TILE + 96 : 6] for column in range(3)])
    expected = model.reconstruct(images[:1])
    np.testing.assert_allclose(images[1].astype(int), expected[0].astype(int), atol=1)
    assert np.abs(images[2].astype(int) - images[1]).max() > 1


class Brightness(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3)) / 255


def test_a_judge_measures_an_attribute(
    runs: dict[str, str], data: str, fitted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Callable
) -> None:
    judge, out = tmp_path / "judge.pt", tmp_path / "effects" / "male.json"
    torch.jit.script(Brightness()).save(str(judge))
    common = ["measure", fitted, "--run", runs["vae"], "--attribute", "Male", "--data", data, "--out", str(out)]
    attributes.main([*common, "--judge", str(judge), "--num", "5", "--strengths", "[1,0,-1]"])
    content = json.loads(out.read_text())
    assert (content["num_faces"], content["strengths"]) == (5, [-1, 0, 1])
    model, dataset = load(runs["vae"]), Dataset(data)
    faces = read_faces(model, dataset, "test", even_rows(dataset.num_samples("test"), 5))
    vector = load_attributes(fitted)[0].vector("Male")
    edited = decode_images(model, edited_latents(faces.encode(model), vector, [-1, 0, 1]), faces.degrees[:, None])
    seen = edited.mean((2, 3, 4)) / 255
    np.testing.assert_allclose(content["mean"], seen.mean(0), rtol=1e-5)
    assert content["rises"] == (seen[:, 2] > seen[:, 0]).mean()
    assert f"of 5 faces the judgment never falls for {content['monotone']:.1%}" in capsys.readouterr().out
    assert "two or more" in fails(attributes.main, *common, "--judge", judge, "--strengths", "[1]")
    assert "cannot be loaded" in fails(attributes.main, *common, "--judge", tmp_path / "none.pt")


def test_attributes_as_hdf5(runs: dict[str, str], data: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py, an optional package, is not installed")
    out, h5 = tmp_path / "a.safetensors", tmp_path / "a.h5"
    attributes.main(["fit", runs["vae"], "--data", data, "--out", str(out), "--h5", str(h5)])
    with h5py.File(h5) as file, safe_open(out, framework="np") as expected:
        for name in ("vectors", "unit_vectors", "num_present", "num_absent"):
            np.testing.assert_array_equal(file[name][()], expected.get_tensor(name))
        assert file["names"].asstr()[0] in Dataset(data).fields
        assert file.attrs["fingerprint"] == Dataset(data).fingerprint


def test_missing_h5py_is_reported_before_any_work(
    runs: dict[str, str], data: str, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    options = ["fit", runs["vae"], "--data", data, "--out", tmp_path / "a.safetensors", "--h5", tmp_path / "a.h5"]
    assert "facegen[hdf5]" in fails(attributes.main, *options)
    assert not list(tmp_path.iterdir())


def test_mistakes_with_attributes(
    runs: dict[str, str], data: str, fitted: str, tmp_path: Path, fails: Callable[..., str]
) -> None:
    tail = ["--data", data, "--out", tmp_path / "grid.png"]
    common = ["apply", fitted, "--run", runs["vae"]]
    assert "there are skin" in fails(attributes.main, *common, "--attribute", "Hat", *tail)
    wrong = ["apply", fitted, "--run", runs["ae"], "--attribute", "Male"]
    assert "fitted on other weights (run vae" in fails(attributes.main, *wrong, *tail)
    assert "fit, apply, measure" in fails(attributes.main, "change", fitted)
    assert "must end in .png" in fails(
        attributes.main, *common, "--attribute", "Male", "--data", data, "--out", "x.jpg"
    )
    no_faces = [*common, "--attribute", "Male", "--out", tmp_path / "grid.png"]
    assert "--images" in fails(attributes.main, *no_faces)
    assert "at least one" not in fails(attributes.main, *no_faces, "--strengths", "[]", "--data", data)


# Morphs


def test_morphs_between_photos_and_faces_of_the_data(
    runs: dict[str, str], data: str, photos: list[str], tmp_path: Path
) -> None:
    grid, animation = tmp_path / "grid.png", tmp_path / "morph.gif"
    faces = ["--images", *photos, "--data", data, "--sample_keys", Dataset(data).key("test", 3)]
    morph.main([runs["vae"], *faces, "--out", str(grid), "--animation", str(animation)])
    width, height = size_of(grid)
    assert height == grid_size(14, 4)[1]  # Two ways for each of two parts.
    assert width > grid_size(14, 4)[0]
    assert num_frames(animation) == 2 * (12 + 11) - 2
    morph.main([runs["vae"], "--data", data, "--path", "linear", "--steps", "3", "--out", str(grid)])
    assert size_of(grid)[1] == grid_size(5, 1)[1]


def test_mistakes_with_morphs(
    runs: dict[str, str], data: str, photos: list[str], tmp_path: Path, fails: Callable[..., str]
) -> None:
    out = ["--out", tmp_path / "grid.png"]
    assert "at least 2 faces" in fails(morph.main, runs["vae"], "--images", photos[0], *out)
    assert "not an image" in fails(morph.main, runs["vae"], "--images", photos[0], Path(data) / "dataset.json", *out)
    assert "rows 0 to 29, not 99" in fails(morph.main, runs["vae"], "--data", data, "--rows", 1, 99, *out)
    message = fails(morph.main, runs["vae"], "--data", data, "--sample_keys", "me", "you", *out)
    assert "no sample 'me'; a key looks like 'identity_" in message
    assert "need --data" in fails(morph.main, runs["vae"], "--rows", 1, 2, *out)
    assert "at least 2" in fails(morph.main, runs["vae"], "--data", data, "--steps", 1, *out)
    assert "crop must be auto" in fails(morph.main, runs["vae"], "--images", *photos, "--crop", "left", *out)
    movie = ["--animation", tmp_path / "x.mp4"]
    assert ".webp or .gif" in fails(morph.main, runs["vae"], "--images", *photos, *out, *movie)


# Sweeps


@pytest.mark.parametrize("family", ["vae", "ae"])
def test_sweeps_of_dims(runs: dict[str, str], data: str, tmp_path: Path, family: str) -> None:
    grid, animation = tmp_path / "grid.png", tmp_path / "sweep.gif"
    options = ["--num_axes", "3", "--steps", "5", "--out", str(grid), "--animation", str(animation)]
    traverse.main([runs[family], "--data", data, *options])
    assert size_of(grid)[1] == grid_size(5, 4)[1]  # Three dims, and the least active one.
    assert num_frames(animation) == 8
    traverse.main([runs[family], "--data", data, "--rows", "1", "2", "--axes", "5", "0", "--out", str(grid)])
    assert size_of(grid)[1] == grid_size(13, 4)[1]


def test_sweeps_of_components_and_their_file(
    runs: dict[str, str], data: str, photos: list[str], tmp_path: Path, fails: Callable[..., str]
) -> None:
    grid, again, components = tmp_path / "grid.png", tmp_path / "again.png", tmp_path / "pca.safetensors"
    photo = ["--images", photos[0]]
    traverse.main([runs["vae"], *photo, "--data", data, "--pca", "--out", str(grid)])
    assert size_of(grid)[1] == grid_size(13, 6)[1]
    assert not components.exists()
    traverse.main([runs["vae"], *photo, "--data", data, "--pca_file", str(components), "--out", str(again)])
    assert again.read_bytes() == grid.read_bytes()
    again.unlink()
    read = [runs["vae"], *photo, "--pca_file", str(components), "--out", str(again)]
    traverse.main(read)  # Needs no data.
    assert again.read_bytes() == grid.read_bytes()
    traverse.main([*read, "--axes", "1", "2", "3", "4", "5", "6"])  # As the labels count them.
    assert again.read_bytes() == grid.read_bytes()
    message = fails(traverse.main, runs["ae"], *photo, "--pca_file", components, "--out", again)
    assert "fitted on other weights" in message


def test_mistakes_with_sweeps(
    runs: dict[str, str], data: str, photos: list[str], tmp_path: Path, fails: Callable[..., str]
) -> None:
    out = ["--out", tmp_path / "grid.png"]
    assert "--data DIR is needed" in fails(traverse.main, runs["vae"], "--images", photos[0], *out)
    assert "dims 0 to 5, not 6" in fails(traverse.main, runs["vae"], "--data", data, "--axes", 6, *out)
    components = [traverse.main, runs["vae"], "--data", data, "--pca", *out, "--axes"]
    assert "components 1 to 6, not 0" in fails(*components, 0)
    assert "components 1 to 6, not 7" in fails(*components, 7)
    assert "no split 'all'" in fails(traverse.main, runs["vae"], "--data", data, "--fit_split", "all", *out)
    assert "above 0" in fails(traverse.main, runs["vae"], "--data", data, "--span", "-1", *out)


# Degrees


def test_degree_sweeps_of_faces_and_of_samples(runs: dict[str, str], data: str, tmp_path: Path) -> None:
    grid, animation = tmp_path / "grid.png", tmp_path / "smile.gif"
    options = ["--num", "2", "--out", str(grid)]
    smile.main([runs["cvae"], "--data", data, *options, "--animation", str(animation)])
    assert size_of(grid) == grid_size(22, 2)
    assert num_frames(animation) == 40
    smile.main([runs["cvae"], "--extended", *options])
    assert size_of(grid) == grid_size(25, 2)


def test_forced_smiles(runs: dict[str, str], data: str, photos: list[str], tmp_path: Path) -> None:
    grid, animation = tmp_path / "grid.png", tmp_path / "smile.gif"
    smile.main([runs["cvae"], "--forced", "--data", data, "--out", str(grid), "--animation", str(animation)])
    assert size_of(grid)[1] == grid_size(6, 8)[1]
    assert num_frames(animation) == 8
    smile.main([runs["cvae"], "--forced", "--images", *photos, "--degree", "-0.5", "--out", str(grid)])
    assert size_of(grid)[1] == grid_size(6, 2)[1]


def test_mistakes_with_degrees(
    runs: dict[str, str], data: str, photos: list[str], tmp_path: Path, fails: Callable[..., str]
) -> None:
    out = ["--out", tmp_path / "grid.png"]
    assert "has no condition" in fails(smile.main, runs["vae"], "--data", data, *out)
    assert "degree of 'smile' of face first is unknown" in fails(
        smile.main, runs["cvae"], "--forced", "--images", *photos, *out
    )
    assert "no faces are given" in fails(smile.main, runs["cvae"], "--forced", *out)
    assert "give one of them" in fails(smile.main, runs["cvae"], "--forced", "--extended", *out)


# Samples


def test_samples_as_a_grid_and_as_files(runs: dict[str, str], tmp_path: Path) -> None:
    grid, folder = tmp_path / "grid.png", tmp_path / "faces"
    sample.main([runs["vae"], "--num", "70", "--seed", "3", "--out", str(grid), "--files", str(folder)])
    assert size_of(grid) == grid_size(12, 6, has_labels=False)
    assert len(list(folder.iterdir())) == 70
    expected = to_uint8(load(runs["vae"]).sample(2, seed=3, first=66)).numpy()
    for position in range(2):
        image = np.asarray(Image.open(folder / f"sample_{66 + position:08d}.png"))
        np.testing.assert_allclose(image.astype(int), expected[position], atol=1)
    sample.main([runs["vae"], "--num", "5", "--first", "65", "--seed", "3", "--files", str(tmp_path / "later")])
    later = np.asarray(Image.open(tmp_path / "later" / "sample_00000066.png")).astype(int)
    np.testing.assert_allclose(later, expected[0], atol=1)


def test_samples_by_standard_deviation_and_by_degree(runs: dict[str, str], tmp_path: Path) -> None:
    grid, other = tmp_path / "grid.png", tmp_path / "other.png"
    sample.main([runs["vae"], "--std_rows", "--num", "4", "--out", str(grid)])
    assert size_of(grid)[1] == grid_size(4, 8, has_labels=False)[1]
    for path, degree in ((grid, "-1"), (other, "1")):
        sample.main([runs["cvae"], "--num", "4", "--degree", degree, "--out", str(path)])
    assert grid.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("option", ["--out", "--files"])
def test_a_place_where_nothing_can_be_written(
    runs: dict[str, str], tmp_path: Path, fails: Callable[..., str], option: str
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "below" / "samples.png"
    message = fails(sample.main, runs["vae"], option, str(place), "--num", "2")
    assert f"cannot write {tmp_path / 'file' / 'below'}" in message and "choose another place" in message


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (sample.main, ["nowhere"]),
        (tsne.main, ["nowhere", "--data", "nowhere"]),
        (neighbors.main, ["nowhere", "--data", "nowhere"]),
        (morph.main, ["nowhere"]),
        (attributes.main, ["apply", "nowhere", "--run", "nowhere", "--attribute", "Smiling"]),
        (attributes.main, ["fit", "nowhere", "--data", "nowhere"]),
    ],
)
def test_a_place_where_nothing_can_be_written_is_found_before_the_work(
    tmp_path: Path, fails: Callable[..., str], command: Callable[..., None], arguments: list[str]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out.png"
    assert f"cannot write {out}" in fails(command, *arguments, "--out", str(out))


def test_mistakes_with_samples(runs: dict[str, str], tmp_path: Path, fails: Callable[..., str]) -> None:
    out = ["--out", tmp_path / "grid.png"]
    assert "cannot sample" in fails(sample.main, runs["ae"], *out)
    assert "nothing to write" in fails(sample.main, runs["vae"])
    assert "has no condition" in fails(sample.main, runs["vae"], "--degree", 1, *out)
    assert "up to 2,000" in fails(sample.main, runs["vae"], "--num", 3000, *out)
    assert "std must be" in fails(sample.main, runs["vae"], "--std", "-1", *out)
    assert "at least 1" in fails(sample.main, runs["vae"], "--num", 0, *out)


# Maps


def test_a_map_has_a_panel_for_the_density_and_for_each_label(
    runs: dict[str, str], data: str, tmp_path: Path, fails: Callable[..., str]
) -> None:
    out = tmp_path / "map.png"
    colors = ["--color", "Male", "smile", "hair_color"]
    tsne.main([runs["vae"], "--data", data, "--perplexity", "5", *colors, "--out", str(out)])
    width, height = size_of(out)
    assert width == 4 * 720
    assert height > 720
    panels = np.split(np.asarray(Image.open(out)), 4, axis=1)
    assert all((panel != 255).mean() > 0.005 for panel in panels)
    assert "too few for a perplexity" in fails(tsne.main, runs["vae"], "--data", data, "--out", out)
    assert "has no label 'Hat'" in fails(tsne.main, runs["vae"], "--data", data, "--color", "Hat", "--out", out)
    assert "between 3 and 20,000" in fails(tsne.main, runs["vae"], "--data", data, "--num", 30_000, "--out", out)


# Neighbors


@pytest.mark.parametrize("space", ["pixels", "efflite0"])
def test_neighbors_of_samples(
    runs: dict[str, str],
    data: str,
    tmp_path: Path,
    space: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    num_extracted = []

    def few_pixels(images: torch.Tensor) -> torch.Tensor:
        """Stands in for the network, which would take most of a minute."""
        num_extracted.append(len(images))
        return images[:, ::4, ::4].flatten(1).float()

    def load_space(device: torch.device) -> FeatureSpace:
        return FeatureSpace("few", 48, "0" * 64, "none", device, few_pixels)

    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_features_module, "BLOCK", 64)
    monkeypatch.setattr(neighbors_module, "load_efflite0", load_space)
    out = tmp_path / "grid.png"
    options = ["--space", space, "--num_samples", "12", "--num", "4", "--out", str(out)]
    neighbors.main([runs["vae"], "--data", data, *options])
    assert size_of(out)[1] == grid_size(6, 4)[1]
    lines = capsys.readouterr().out.splitlines()
    assert f"({space})" in lines[0]
    samples, held_out = ([float(number) for number in line.split()[-2:]] for line in lines[1:3])
    assert 0 < samples[0] <= samples[1]
    assert 0 < held_out[0] <= held_out[1]
    assert held_out[1] < samples[1]  # An untrained model's samples are not faces.
    if space == "pixels":
        return
    queries, before, first = 24, sum(num_extracted), out.read_bytes()
    assert before == Dataset(data).num_samples("train") + queries
    # Only a damaged block is extracted again.
    damaged, *_ = sorted((tmp_path / "cache" / "feature_blocks").iterdir(), key=lambda path: -path.stat().st_size)
    damaged.write_bytes(b"damaged")
    neighbors.main([runs["vae"], "--data", data, *options])
    assert sum(num_extracted) == before + queries + 64
    assert capsys.readouterr().out.splitlines()[:3] == lines[:3] and out.read_bytes() == first


def test_mistakes_with_neighbors(runs: dict[str, str], data: str, tmp_path: Path, fails: Callable[..., str]) -> None:
    out = ["--out", tmp_path / "grid.png"]
    assert "cannot sample" in fails(neighbors.main, runs["ae"], "--data", data, *out)
    assert "two different splits" in fails(neighbors.main, runs["vae"], "--data", data, "--held_out", "train", *out)
    assert "does not exist" in fails(neighbors.main, "nowhere", "--data", data, *out)
