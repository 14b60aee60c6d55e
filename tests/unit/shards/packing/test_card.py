"""The data card: it finds the planted duplicates and outliers and nothing else, and its tables count right."""

from __future__ import annotations

import base64
import io
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from shards.base.errors import UserError
from shards.card import duplicates
from shards.card.duplicates import find_duplicates
from shards.card.outliers import find_outliers, robust_scores
from shards.card.pixel_measures import Measures, measure, measure_block, perceptual_hash
from shards.card.tables import cross_table, histogram
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from shards.inspect import main
from shards.packing.options import PackOptions
from shards.packing.pack import pack_source
from shards.sources.folder import FolderConfig, FolderSource
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource

NUM = 120
COPIES = {"copy": "face003", "lighter": "face010", "smaller": "face020", "recoded": "face030"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Synthetic faces: four have a copy, one is dark, one bright and one blurred."""
    images = tmp_path_factory.mktemp("images")
    source = SyntheticSource(SyntheticConfig(num=NUM, num_identities=NUM), 64)
    faces = {f"face{number:03d}": source.load(source[number]) for number in range(NUM)}
    rows = ["file,Male,Smiling,smile,age"]
    for name, pixels in faces.items():
        number = int(name[4:])
        face = Image.fromarray(pixels)
        if number == 50:
            face = face.point(lambda value: value // 16)
        elif number == 51:
            face = face.point(lambda value: 240 + value // 16)
        elif number == 52:
            face = face.filter(ImageFilter.GaussianBlur(6))
        face.save(images / f"{name}.png")
        male = "" if number % 10 == 0 else number % 2
        rows.append(f"{name}.png,{male},{number % 3 == 0:d},{number / NUM - 0.5},{number}")
    (images / "labels.csv").write_text("\n".join(rows))
    Image.fromarray(faces["face003"]).save(images / "copy.png")
    Image.fromarray(faces["face010"]).point(lambda value: min(255, int(value * 1.15) + 8)).save(images / "lighter.png")
    Image.fromarray(faces["face020"]).resize((40, 40), Image.Resampling.LANCZOS).save(images / "smaller.png")
    Image.fromarray(faces["face030"]).save(images / "recoded.jpg", quality=30)
    options = PackOptions(output=images.parent / f"{images.name}_packed", size=64, workers=1, codec="png")
    return pack_source(FolderSource(FolderConfig(images, labels=Path("labels.csv"))), options)


def names(dataset: Dataset, measures, positions: np.ndarray) -> list[str]:
    return [dataset.key(dataset.splits[measures.split[p]], int(measures.row[p])) for p in positions]


def test_copies_are_found_and_nothing_else(dataset: Dataset) -> None:
    measures = measure(dataset, 10_000)
    assert len(measures) == NUM + len(COPIES)
    pairs = find_duplicates(measures, 10)
    found = [
        frozenset(pair)
        for kind in (pairs.within, pairs.across)
        for pair in zip(names(dataset, measures, kind.first), names(dataset, measures, kind.second), strict=True)
    ]
    assert len(found) == len(COPIES) and set(found) == {frozenset(pair) for pair in COPIES.items()}
    correlation = np.concatenate([pairs.within.correlation, pairs.across.correlation])
    assert correlation.max() == pytest.approx(1) and correlation.min() > 0.975
    split_of = {key: split for split in dataset.splits for key in dataset.keys(split)}
    expected = [copy for copy, original in COPIES.items() if split_of[copy] != split_of[original]]
    assert pairs.across.num == len(expected)
    assert 0 < len(expected) < len(COPIES)  # both kinds are in this data set


def test_a_set_without_copies_has_no_pairs() -> None:
    source = SyntheticSource(SyntheticConfig(num=150, num_identities=150), 64)
    images = np.stack([source.load(source[number]) for number in range(150)])
    brightness, sharpness, hashes, thumbnails = measure_block(images)
    assert len(set(hashes.tolist())) == 150
    luma = (images @ np.array([0.299, 0.587, 0.114])).mean(axis=(1, 2))
    assert brightness == pytest.approx(luma, abs=0.01)
    assert thumbnails.mean(axis=(1, 2)) == pytest.approx(luma, abs=1) and sharpness.min() > 0
    measures = Measures(np.zeros(150, np.int8), np.arange(150), brightness, sharpness, hashes, thumbnails)
    pairs = find_duplicates(measures, 10)
    assert pairs.within.num == pairs.across.num == 0


def test_many_equal_images_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_COLUMNS", 1_000)
    num, odd = 3_000, [70, 2_500]
    rng = np.random.default_rng(0)
    thumbnails = np.broadcast_to(rng.integers(0, 200, (16, 16), np.uint8), (num, 16, 16)).copy()
    thumbnails[odd] += rng.integers(0, 20, (2, 16, 16), np.uint8)  # The least alike, not those that come last.
    splits = (np.arange(num) % 3 == 0).astype(np.int8)
    nothing = np.zeros(num, np.float32)
    measures = Measures(splits, np.arange(num), nothing, nothing, np.zeros(num, np.uint64), thumbnails)
    tracemalloc.start()
    pairs = find_duplicates(measures, 24)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs.across.num == 1_000 * 2_000 and pairs.within.num + pairs.across.num == num * (num - 1) // 2
    assert len(pairs.within.first) == 24 and (np.diff(pairs.within.correlation) <= 0).all()
    assert not {*odd} & {*pairs.within.first.tolist(), *pairs.within.second.tolist()}
    assert peak < 30e6  # A list of the pairs takes 90 MB.


def test_outliers(dataset: Dataset) -> None:
    measures = measure(dataset, 10_000)
    for kind, name in zip(find_outliers(measures), ("face050", "face051", "face052"), strict=True):
        assert names(dataset, measures, kind.positions[:1]) == [name] and kind.num >= 1
        assert len(kind.positions) == len(measures)
    assert robust_scores(np.array([1.0, 2, 3, 4, 100]))[-1] > 3.5
    assert robust_scores(np.array([5.0, 5, 5, 9]))[-1] == np.inf
    assert robust_scores(np.array([5.0, 5, 5])).tolist() == [0, 0, 0]


def test_brightness_and_sharpness_by_hand() -> None:
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    pixels[1, ::2] = 200
    brightness, sharpness, _, _ = measure_block(pixels)
    assert brightness.tolist() == [0, 100] and sharpness[0] == 0
    # Each inner pixel is 200 with 0 above and below or the reverse: the Laplacian is -400 or 400, half of each.
    assert sharpness[1] == pytest.approx(400**2)


def test_the_hash_ignores_brightness_and_sees_another_picture() -> None:
    rng = np.random.default_rng(0)
    luma = rng.uniform(0, 100, (2, 32, 32)).astype(np.float32)
    first, second = perceptual_hash(luma)
    assert perceptual_hash(luma * 1.5 + 20).tolist() == [first, second]
    assert np.bitwise_count(first ^ second) > 16


def test_a_share_of_the_images_is_spread_over_the_splits(dataset: Dataset) -> None:
    measures = measure(dataset, 40)
    assert 35 <= len(measures) <= 42 and set(measures.split) == {0, 1, 2}
    assert measures.row[measures.split == 0].max() == dataset.num_samples("train") - 1


def test_gender_and_smile_are_counted(dataset: Dataset) -> None:
    table = cross_table(dataset, "Male", "Smiling")
    numbers = [number for number in range(NUM) if number % 10]
    expected = [
        [sum(n % 2 == male and (n % 3 == 0) == smiling for n in numbers) for smiling in (0, 1)] for male in (0, 1)
    ]
    assert table.counts.tolist() == expected and (table.rows, table.columns) == (
        ("not Male", "Male"),
        ("not Smiling", "Smiling"),
    )
    assert table.num_missing == NUM // 10 + len(COPIES)
    degrees = cross_table(dataset, "Smiling", "smile")
    assert degrees.columns == ("smile up to 0", "smile above 0") and degrees.counts.sum() == NUM
    assert cross_table(dataset, "Smiling", "age").columns == ("age up to 59.5", "age above 59.5")
    with pytest.raises(UserError, match="no label 'beard'"):
        cross_table(dataset, "Male", "beard")


def test_histograms() -> None:
    degrees = histogram("smile", LabelField("float"), np.array([-1, 0, 1, 1, np.nan], np.float32))
    assert degrees.counts.sum() == 4 and degrees.counts[-1] == 2 and degrees.note == "1 missing" and degrees.is_scale
    assert histogram("x", LabelField("float"), np.array([np.nan], np.float32)).counts.tolist() == [0]
    assert histogram("Male", LabelField("bool"), np.array([1, 0, 1, -1], np.int8)).counts.tolist() == [1, 2]
    many = LabelField("class", tuple(map(str, range(30))))
    bars = histogram("class", many, np.repeat(np.arange(30, dtype=np.int32), np.arange(30) + 1))
    assert bars.names[0] == "29" and bars.names[-1] == "6 others" and bars.counts[-1] == 1 + 2 + 3 + 4 + 5 + 6
    people = LabelField("class", tuple(map(str, range(300))))
    column = np.concatenate([np.arange(300), [7, 7, 7, 9]]).astype(np.int32)
    per_person = histogram("identity", people, column)
    assert dict(zip(per_person.names, per_person.counts.tolist(), strict=True))["1"] == 298
    assert per_person.counts.tolist()[:5] == [298, 1, 0, 1, 0] and per_person.note == "300 classes"


def test_command_line(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(dataset.root), "--card", str(tmp_path / "card")])
    printed = capsys.readouterr().out
    assert "Outliers, darkest: " in printed and "Male x Smiling:" in printed
    page = (tmp_path / "card" / "card.html").read_text()
    embedded = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", page)]
    files = ("sheet.png", "labels.png", "duplicates.png", "outliers.png")
    assert embedded == [(tmp_path / "card" / file).read_bytes() for file in files]
    assert all(np.asarray(Image.open(io.BytesIO(data))).std() > 10 for data in embedded)
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == [] and str(dataset.root) not in page
    assert "face050" not in page  # names are in the pictures only


def test_mistakes_on_the_command_line(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no label 'joy'"):
        main([str(dataset.root), "--card", str(tmp_path / "card"), "--smile", "joy"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write to .*give another folder"):
        main([str(dataset.root), "--card", str(tmp_path / "file")])
    with pytest.raises(SystemExit) as stop:
        main([str(dataset.root), "--max_images", "0"])
    assert stop.value.code == 2
