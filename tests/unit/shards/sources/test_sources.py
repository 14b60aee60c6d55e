"""Sources: what they find, which labels they join, and what they say about what does not match."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from field_trees import TREES
from shards.base.errors import UserError
from shards.dataset.label_types import convert, doubts, infer_field, sorted_names
from shards.packing.pack import pack
from shards.sources import SOURCES
from shards.sources.base import Source
from shards.sources.celeba import CelebaConfig, CelebaSource
from shards.sources.folder import FolderConfig, FolderSource
from shards.sources.lfw import LFWCROP_BOX, LfwConfig, open_lfw

SHARED_DATA = Path(__file__).resolve().parents[5] / "shared" / "data"


def image_file(path: Path, size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path)


def items(source: Source) -> dict[str, dict]:
    return {source[position].key: dict(source[position].labels) for position in range(len(source))}


def lfw_tree(root: Path) -> Path:
    tree = root / "lfw-deepfunneled"
    for name in ("Ann_Lee/Ann_Lee_0001", "Ann_Lee/Ann_Lee_0002", "Bo/Bo_0001"):
        image_file(tree / f"{name}.jpg", (250, 250))
    (tree / "Bo" / "Thumbs.db").write_text("x")
    return tree


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_lfw_is_found_at_any_level(tmp_path: Path, depth: int) -> None:
    lfw_tree(tmp_path / "data")
    given = [tmp_path / "data" / "lfw-deepfunneled", tmp_path / "data", tmp_path][depth]
    source = open_lfw(LfwConfig(given))
    assert items(source) == {
        "Ann_Lee_0001": {"identity": "Ann_Lee"},
        "Ann_Lee_0002": {"identity": "Ann_Lee"},
        "Bo_0001": {"identity": "Bo"},
    }
    assert source.fields["identity"].classes == ("Ann_Lee", "Bo")
    assert source.load(source[0]).size == (250, 250)
    left, upper, right, lower = LFWCROP_BOX
    # LFWcrop names its corner pixels, both included; the crop's right and lower edge lie one beyond.
    assert (left, upper, right - 1, lower - 1) == (83, 92, 166, 175)


def test_missing_lfw_says_what_was_looked_for(tmp_path: Path) -> None:
    image_file(tmp_path / "holiday" / "beach.jpg")
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no LFW tree at .*Aaron_Eckhart_0001.jpg"):
            open_lfw(LfwConfig(root))


def celeba_files(root: Path, csv: bool = False) -> None:
    for number in (1, 2, 3, 10):
        image_file(root / "img_align_celeba" / f"{number:06d}.jpg", (178, 218))
    if csv:
        (root / "list_attr_celeba.csv").write_text(
            "image_id,Smiling,Male\n000001.jpg,1,-1\n000002.jpg,-1,1\n000099.jpg,1,1\n"
        )
        (root / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,0\n000002.jpg,1\n000003.jpg,2\n")
        return
    (root / "list_attr_celeba.txt").write_text("3\nSmiling Male \n000001.jpg  1 -1\n000002.jpg -1  1\n000099.jpg 1 1\n")
    (root / "identity_CelebA.txt").write_text("000001.jpg 7\n000002.jpg 7\n000003.jpg 12\n")
    (root / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")


@pytest.mark.parametrize("nested", [False, True])
def test_celeba_text_files(tmp_path: Path, nested: bool) -> None:
    celeba_files(tmp_path / "celeba")
    source = CelebaSource(CelebaConfig(tmp_path if nested else tmp_path / "celeba"))
    assert items(source) == {
        "000001": {"Smiling": True, "Male": False, "identity": "7"},
        "000002": {"Smiling": False, "Male": True, "identity": "7"},
        "000003": {"Smiling": None, "Male": None, "identity": "12"},
        "000010": {"Smiling": None, "Male": None, "identity": None},
    }
    assert [source[position].partition for position in range(4)] == ["train", "val", "test", None]
    assert source.fields["identity"].classes == ("7", "12") and source.identity_field == "identity"
    assert source.provenance["notes"] == [
        "2 images have no row in list_attr_celeba.txt, so they lack attributes.",
        "1 rows of list_attr_celeba.txt name images that are not there.",
        "1 images have no row in identity_CelebA.txt, so they lack an identity.",
        "1 images have no row in list_eval_partition.txt, so they lack a partition.",
    ]


def test_celeba_csv_files_and_missing_identities(tmp_path: Path) -> None:
    celeba_files(tmp_path, csv=True)
    source = CelebaSource(CelebaConfig(tmp_path))
    assert source[0].labels == {"Smiling": True, "Male": False}
    assert source[1].partition == "val"
    assert source.identity_field is None
    assert "No identity_CelebA.txt or .csv was found." in source.provenance["notes"]


def test_celeba_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no CelebA images at .*000001.jpg"):
        CelebaSource(CelebaConfig(tmp_path))
    celeba_files(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text("2\nSmiling Male\n000001.jpg 1 yes\n")
    with pytest.raises(UserError, match="not in CelebA's format"):
        CelebaSource(CelebaConfig(tmp_path))
    (tmp_path / "list_attr_celeba.txt").write_text("2\nSmiling Male\n000001.jpg 1 1 1\n")
    with pytest.raises(UserError, match="names 2 columns and has 3"):
        CelebaSource(CelebaConfig(tmp_path))
    (tmp_path / "list_attr_celeba.txt").write_text("1\n000001.jpg 1 -1\n")
    with pytest.raises(UserError, match="list_attr_celeba.txt does not name its attributes"):
        CelebaSource(CelebaConfig(tmp_path))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("list_eval_partition.txt", b"000001.jpg 0\n000002.jpg 3\n", "gives 000002 a value other than 0, 1, 2"),
        ("list_attr_celeba.txt", b"1\nSmiling Male\n000001.jpg 1 7\n", "gives 000001 a value other than -1, 0, 1"),
        ("identity_CelebA.txt", b"000001.jpg " + b"9" * 400, "not in CelebA's format"),
        ("identity_CelebA.txt", b"000001.jpg \xff", "not in CelebA's format"),
        ("list_eval_partition.csv", b"image_id,partition\n000001.jpg,0\n000002.jpg,\n", "not in CelebA's format"),
    ],
)
def test_celeba_values_that_cannot_be(tmp_path: Path, file: str, text: bytes, message: str) -> None:
    celeba_files(tmp_path)
    (tmp_path / file).with_suffix(".txt").unlink()
    (tmp_path / file).write_bytes(text)
    with pytest.raises(UserError, match=message):
        CelebaSource(CelebaConfig(tmp_path))


def test_one_picture_under_two_extensions(tmp_path: Path) -> None:
    celeba_files(tmp_path / "celeba")
    image_file(tmp_path / "celeba" / "img_align_celeba" / "000003.png")
    with pytest.raises(UserError, match="holds 000003.jpg beside the same name with another extension"):
        CelebaSource(CelebaConfig(tmp_path / "celeba"))
    image_file(lfw_tree(tmp_path / "lfw") / "Bo" / "Bo_0001.png")
    with pytest.raises(UserError, match="source 'lfw' has more than one image called 'Bo_0001'"):
        pack("lfw", tmp_path / "lfw", tmp_path / "out", workers=1)


def test_a_celeba_table_of_other_images_is_refused(tmp_path: Path) -> None:
    celeba_files(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text("1\nSmiling Male\n000077.jpg 1 -1\n")
    with pytest.raises(UserError, match="no row of list_attr_celeba.txt names one of the .* images"):
        CelebaSource(CelebaConfig(tmp_path))


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the real label files in ../shared")
def test_celeba_real_label_format(tmp_path: Path) -> None:
    names = [f"celeba/img_align_celeba/{number:06d}.jpg" for number in (1, 2, 3)]
    with tarfile.open(SHARED_DATA / "celeba10k.tar") as tar:
        tar.extractall(
            tmp_path, [tar.getmember(name) for name in (*names, "celeba/list_attr_celeba.txt")], filter="data"
        )
    source = CelebaSource(CelebaConfig(tmp_path))
    assert len(source.fields) == 40
    assert source[0].labels["Smiling"] is True and source[0].labels["Male"] is False


def folder_with_labels(root: Path) -> None:
    for name in ("a/1.jpg", "a/2.png", "b/3.JPG", "b/deep/4.webp", "5.jpg"):
        image_file(root / name)
    (root / "notes.txt").write_text("x")
    (root / "a" / "._1.jpg").write_bytes(b"resource fork")


def test_folder_of_classes(tmp_path: Path) -> None:
    folder_with_labels(tmp_path)
    source = FolderSource(FolderConfig(tmp_path))
    assert items(source) == {
        "5": {"class": None},
        "a/1": {"class": "a"},
        "a/2": {"class": "a"},
        "b/3": {"class": "b"},
        "b/deep/4": {"class": "b"},
    }
    assert source.identity_field is None
    left_out, hint = source.provenance["notes"]
    assert left_out.startswith("2 files do not have the name of an image") and left_out.endswith("a/._1.jpg, notes.txt")
    assert "--subfolders identity" in hint


def test_folder_of_persons_and_ignored_folders(tmp_path: Path) -> None:
    folder_with_labels(tmp_path)
    source = FolderSource(FolderConfig(tmp_path, subfolders="identity"))
    assert source.identity_field == "identity" and source.fields["identity"].classes == ("a", "b")
    assert FolderSource(FolderConfig(tmp_path, subfolders="ignore")).fields == {}


CSV = "file,smile,degree,mood,identity\na/1.jpg,1,0.5,glad,7\n2,-1,,sad,8\n3.JPG,1,-0.25,na,7\nlost.jpg,1,1,sad,9\n"
JSONL = "\n".join(
    json.dumps(row)
    for row in (
        {"file": "a/1.jpg", "smile": True, "degree": 0.5, "mood": "glad", "identity": 7},
        {"file": "2", "smile": False, "degree": None, "mood": "sad", "identity": 8},
        {"file": "3.JPG", "smile": True, "degree": -0.25, "identity": 7},
        {"file": "lost.jpg", "smile": True, "degree": 1, "mood": "sad", "identity": 9},
    )
)


@pytest.mark.parametrize(
    ("name", "text"), [("labels.csv", CSV), ("labels.jsonl", JSONL), ("l.tsv", CSV.replace(",", "\t"))]
)
def test_folder_labels_are_joined_and_typed(tmp_path: Path, name: str, text: str) -> None:
    folder_with_labels(tmp_path)
    (tmp_path / name).write_text(text)
    source = FolderSource(FolderConfig(tmp_path, labels=Path(name), subfolders="ignore"))
    assert {field: label.kind for field, label in source.fields.items()} == {
        "smile": "bool",
        "degree": "float",
        "mood": "class",
        "identity": "class",
    }
    found = items(source)
    assert found["a/1"] == {"smile": True, "degree": 0.5, "mood": "glad", "identity": "7"}
    assert found["a/2"] == {"smile": False, "degree": None, "mood": "sad", "identity": "8"}
    assert found["b/3"] == {"smile": True, "degree": -0.25, "mood": None, "identity": "7"}
    assert set(found["5"].values()) == {None}
    assert source.identity_field == "identity"
    assert f"1 rows of {name} match no image: lost.jpg" in source.provenance["notes"]
    assert f"2 images have no row in {name}: 5.jpg, b/deep/4.webp" in source.provenance["notes"]
    assert not any(name in note and "the name of an image" in note for note in source.provenance["notes"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x\nnobody.jpg,1\n", "no row of labels.csv names an image"),
        ("file,x\na/1.jpg,1,2\n", "row 2 has 3 cells, the header 2"),
        ("file,x\na/1.jpg,1\n1.jpg,0\n", "two rows for a/1.jpg"),
        ("file,file\na/1.jpg,1\n", "name every column"),
        ("", "holds no rows"),
        ('file,x\na/1.jpg,"1\na/2.jpg,0\n', "what follows row 1 is not CSV .*quotation mark"),
        ("file,x\na/1.jpg," + "1" * 200_000, "what follows row 1 is not CSV .*field larger"),
    ],
)
def test_folder_label_mistakes(tmp_path: Path, text: str, message: str) -> None:
    folder_with_labels(tmp_path)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        FolderSource(FolderConfig(tmp_path, labels=Path("labels.csv")))


@pytest.mark.parametrize("line", ['{"file": ' + "[" * 100_000, r'{"file": "\ud800"}', "[1]", "1" * 5000])
def test_lines_that_are_no_json_objects(tmp_path: Path, line: str) -> None:
    folder_with_labels(tmp_path)
    (tmp_path / "labels.jsonl").write_text(line)
    with pytest.raises(UserError, match="line 1 is not a JSON object"):
        FolderSource(FolderConfig(tmp_path, labels=Path("labels.jsonl")))


@pytest.mark.parametrize("space", ["\u2028", "\u0085", "\f", "\v", "\x1c"])
@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_only_line_breaks_separate_rows(tmp_path: Path, name: str, space: str) -> None:
    folder_with_labels(tmp_path)
    moods = {"a/1": f"very{space}glad", "a/2": f"rather{space}sad", "b/3": f"very{space}glad"}
    if name.endswith("csv"):
        text = "file,mood\n" + "".join(f"{file},{mood}\n" for file, mood in moods.items())
    else:
        text = "".join(
            json.dumps({"file": file, "mood": mood}, ensure_ascii=False) + "\n" for file, mood in moods.items()
        )
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = items(FolderSource(FolderConfig(tmp_path, labels=Path(name), subfolders="ignore")))
    assert found["a/1"] == {"mood": f"very{space}glad"} and found["b/3"] == found["a/1"]


def test_folder_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image files below"):
        FolderSource(FolderConfig(tmp_path))
    with pytest.raises(UserError, match="is not a folder"):
        FolderSource(FolderConfig(tmp_path / "nowhere"))
    folder_with_labels(tmp_path)
    image_file(tmp_path / "b" / "1.jpg")
    with pytest.raises(UserError, match="there is no label file none.csv"):
        FolderSource(FolderConfig(tmp_path, labels=Path("none.csv")))
    (tmp_path / "labels.csv").write_text("file,x\n1.jpg,1\n")
    with pytest.raises(UserError, match="'1.jpg' in labels.csv matches 2 images, such as a/1.jpg and b/1.jpg"):
        FolderSource(FolderConfig(tmp_path, labels=Path("labels.csv")))
    with pytest.raises(UserError, match="no column 'name'.*it has file, x"):
        FolderSource(FolderConfig(tmp_path, labels=Path("labels.csv"), label_key="name"))


def test_folder_keys_stay_unique_beside_equal_stems(tmp_path: Path) -> None:
    image_file(tmp_path / "a.jpg")
    image_file(tmp_path / "a.png")
    assert list(items(FolderSource(FolderConfig(tmp_path)))) == ["a.jpg", "a.png"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_file(tmp_path / "ann" / "1.jpg")
    image_file(tmp_path / "bo" / "private" / "2.jpg")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if Path(path).name == "private":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"bo/private cannot be listed \(Permission denied\)"):
        FolderSource(FolderConfig(tmp_path))


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_linked_folder_counts_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_reversed: bool
) -> None:
    root = tmp_path / "root"
    image_file(root / "cy" / "1.jpg")
    image_file(tmp_path / "elsewhere" / "2.jpg")
    for link, target in (("ann", root / "cy"), ("di", root / "cy"), ("bo", tmp_path / "elsewhere")):
        (root / link).symlink_to(target)
    (root / "cy" / "friend").symlink_to(tmp_path / "elsewhere")
    scandir = os.scandir

    class Shuffled:
        """As the disk may list a folder."""

        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self._entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=is_reversed))

        def __enter__(self) -> Shuffled:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def __iter__(self) -> Shuffled:
            return self

        def __next__(self) -> os.DirEntry:
            return next(self._entries)

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert items(FolderSource(FolderConfig(root, subfolders="identity"))) == {
        "bo/2": {"identity": "bo"},
        "cy/1": {"identity": "cy"},
    }


def test_folder_follows_links_once(tmp_path: Path) -> None:
    image_file(tmp_path / "elsewhere" / "1.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "linked" / "loop").symlink_to(root)
    assert list(items(FolderSource(FolderConfig(root)))) == ["linked/1"]


@pytest.mark.parametrize(
    ("values", "kind", "converted"),
    [
        (["1", "0", None], "bool", [True, False, None]),
        (["-1", "1", "1"], "bool", [False, True, True]),
        (["TRUE", "false", "True"], "bool", [True, False, True]),
        ([True, False, None], "bool", [True, False, None]),
        (["0.5", "1", "-3e2"], "float", [0.5, 1.0, -300.0]),
        ([1.0, 0.0, float("nan")], "float", [1.0, 0.0, None]),
        (["2", "1", "0"], "float", [2.0, 1.0, 0.0]),
        (["a", "1", None], "class", ["a", "1", None]),
        ([None, None, None], "class", [None, None, None]),
        (["1.5", "inf", "1e400", "-1e39", "9" * 400], "float", [1.5, None, None, None, None]),
        ([1, 10**400, float("-inf")], "float", [1.0, None, None]),
        (["1_2", "3"], "class", ["1_2", "3"]),
    ],
)
def test_label_inference(values: list, kind: str, converted: list) -> None:
    field = infer_field("x", values)
    assert field is not None and field.kind == kind
    assert convert(values, field.kind) == converted


@pytest.mark.parametrize(
    ("values", "doubt"),
    [
        (["1", "2", "inf", "1e39"], "Label 'x': 2 of 4 numbers are infinite or too large for 32 bits (first: inf)"),
        (["1.5", "2", None, "3o"], "Label 'x' became classes, since 1 of 3 values are not numbers (first: 3o)"),
        ([True, False, 3], "Label 'x' became numbers, although 2 of 3 values are true or false."),
        (["1", "2", "١٢"], "Label 'x' became classes, since 1 of 3 values are not numbers (first: ١٢)"),
        (["yes", "no", "No", "n o"], "Label 'x' became classes, since 1 of 4 values are no yes or no (first: n o)"),
        (["1", "2", "3"], ""),
        (["a", "b", "1"], ""),
        (["yes", "no"], ""),
    ],
)
def test_likely_mistakes_in_numbers_are_named(values: list, doubt: str) -> None:
    field = infer_field("x", values)
    assert field is not None
    found = doubts("x", values, field.kind)
    assert len(found) == bool(doubt) and all(text.startswith(doubt) for text in found)
    assert not doubts("person", values, "class")


def test_numbers_of_any_length_are_sorted() -> None:
    assert sorted_names({"1" + "0" * 5000, "9" * 5000, "07", "7", "10"}) == (
        "07",
        "7",
        "10",
        "9" * 5000,
        "1" + "0" * 5000,
    )


def test_free_text_is_not_a_class_but_persons_are() -> None:
    texts = [f"caption {number}" for number in range(100)]
    assert infer_field("caption", texts) is None
    field = infer_field("person", [str(number) for number in range(100)])
    assert field is not None and field.kind == "class" and field.classes[:3] == ("0", "1", "2")
    assert sorted_names({"10", "9", "b"}) == ("10", "9", "b")


def test_every_registered_source_fits_the_protocol(tmp_path: Path) -> None:
    celeba_files(tmp_path / "celeba")
    folder_with_labels(tmp_path / "folder")
    for name, make in TREES.items():
        make(tmp_path / name)
    for name, entry in SOURCES.items():
        if name == "hf":  # Has its own test in test_hf_source.py.
            continue
        assert not entry.takes_input or (tmp_path / name).is_dir(), f"add a small tree of {name} to field_trees.TREES"
        inputs = (
            {"input": tmp_path / name} if "input" in {f.name for f in dataclasses.fields(entry.config_class)} else {}
        )
        source = pickle.loads(pickle.dumps(entry.open(entry.config_class(**inputs), 32)))
        assert source.name == name and len(source) > 0
        item = source[0]
        assert set(item.labels) == set(source.fields)
        assert np.asarray(source.load(item)).shape[2:] in ((3,), ())
        assert str(tmp_path) not in json.dumps(source.provenance)
