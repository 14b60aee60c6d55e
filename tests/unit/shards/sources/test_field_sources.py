"""Published data sets: labels from file names, bad files counted exactly, real trees if they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from bad_images import BAD_FILES
from field_trees import CASIA, FEI, SMILES, TREES, UTKFACE, write_images, write_olivetti
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.pack import main
from shards.packing.options import PackOptions
from shards.packing.pack import pack, pack_source
from shards.sources import SOURCES
from shards.sources.base import Source
from shards.sources.files.file_source import BAD_NAME

SHARED_DATA = Path(__file__).resolve().parents[5] / "shared" / "data"


def open_source(name: str, root: Path, **options: object) -> Source:
    entry = SOURCES[name]
    return entry.open(entry.config_class(input=root, **options), 32)


def items(source: Source) -> dict[str, dict]:
    return {item.key: dict(item.labels) for item in map(source.__getitem__, range(len(source)))}


def test_utkface_labels_come_from_the_names(tmp_path: Path) -> None:
    TREES["utkface"](tmp_path)
    source = open_source("utkface", tmp_path)
    assert items(source) == {
        "1_0_2_20161219140530307": {"age": 1, "gender": "male", "Male": True, "race": "Asian"},
        "26_1_0_20170104023102422": {"age": 26, "gender": "female", "Male": False, "race": "White"},
        "116_1_3_20170120134921760": {"age": 116, "gender": "female", "Male": False, "race": "Indian"},
    }
    assert source.identity_field is None


def test_utkface_joins_degrees_of_smile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path.parent)  # A file of that name may lie in the checkout.
    TREES["utkface"](tmp_path)
    (tmp_path / "degrees.csv").write_text(
        "stimulus_filename,avg_encode\n26_1_0_20170104023102422.jpg,-0.736\n"
        "1_0_2_20161219140530307.jpg.chip.jpg,1\n9_0_0_20161219140530999.jpg,0.5\n"
    )
    source = open_source("utkface", tmp_path, degrees=Path("degrees.csv"))
    assert {key: labels["smile"] for key, labels in items(source).items()} == {
        "1_0_2_20161219140530307": 1.0,
        "26_1_0_20170104023102422": -0.736,
        "116_1_3_20170120134921760": None,
    }
    assert source.provenance["notes"] == [
        "1 rows of degrees.csv match no image.",
        "2 images have a degree of smile.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stimulus_filename,avg_encode\n1_0_2_20161219140530307.jpg,1.01\n", "is 1.01, not a number from -1 to 1"),
        ("stimulus_filename,avg_encode\n1_0_2_20161219140530307.jpg,\n", "is None, not a number"),
        ("stimulus_filename,degree\n1_0_2_20161219140530307.jpg,1\n", "no column 'avg_encode'; it has degree"),
        ("file,avg_encode\n1_0_2_20161219140530307.jpg,1\n", "no column 'stimulus_filename'"),
        ("stimulus_filename,avg_encode\nx.jpg,1\n", "no row of .* names one of the images"),
        ("stimulus_filename,avg_encode\nx.jpg,1\nx.jpg.chip.jpg,0\n", "two rows for x.jpg.chip.jpg"),
    ],
)
def test_mistakes_in_degrees_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    TREES["utkface"](tmp_path)
    (tmp_path / "degrees.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        open_source("utkface", tmp_path, degrees=tmp_path / "degrees.csv")


def test_a_degree_for_two_copies_of_an_image_is_refused(tmp_path: Path) -> None:
    TREES["utkface"](tmp_path)
    write_images(tmp_path / "copies", UTKFACE)
    (tmp_path / "degrees.csv").write_text("stimulus_filename,avg_encode\n1_0_2_20161219140530307.jpg,1\n")
    with pytest.raises(UserError, match="matches 2 images"):
        open_source("utkface", tmp_path, degrees=tmp_path / "degrees.csv")
    assert len(items(open_source("utkface", tmp_path))) == 6  # keys stay apart


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_casia_webface_is_found_at_any_level(tmp_path: Path, depth: int) -> None:
    TREES["casia_webface"](tmp_path / "data")
    given = [tmp_path / "data" / "CASIA-WebFace", tmp_path / "data", tmp_path][depth]
    source = open_source("casia_webface", given)
    assert items(source) == {
        "0000045/001": {"identity": "0000045"},
        "0000045/002": {"identity": "0000045"},
        "0000099/001": {"identity": "0000099"},
    }
    assert source.identity_field == "identity" and source.fields["identity"].classes == ("0000045", "0000099")


def test_fei_persons_poses_and_pairs(tmp_path: Path) -> None:
    TREES["fei"](tmp_path)
    source = open_source("fei", tmp_path)
    assert items(source) == {
        "1-01": {"person": "1", "pose": "1", "Smiling": None},
        "1-11": {"person": "1", "pose": "11", "Smiling": False},
        "1-12": {"person": "1", "pose": "12", "Smiling": True},
        "1-14": {"person": "1", "pose": "14", "Smiling": None},
        "2a": {"person": "2", "pose": "11", "Smiling": False},
        "2b": {"person": "2", "pose": "12", "Smiling": True},
    }
    assert source.identity_field == "person" and len(source.fields["pose"].classes) == 14


def test_smiles_folders(tmp_path: Path) -> None:
    TREES["smiles"](tmp_path)
    assert items(open_source("smiles", tmp_path)) == {
        "positives/positives7/1": {"Smiling": True},
        "positives/positives7/12": {"Smiling": True},
        "negatives/n7/1": {"Smiling": False},
    }


def test_olivetti_pixels_stand_upright(tmp_path: Path) -> None:
    write_olivetti(tmp_path)
    source = open_source("olivetti", tmp_path)
    assert len(source) == 40 and len(source.fields["identity"].classes) == 4
    item = source[13]
    assert item.key == "01/03" and item.labels == {"identity": "1"}
    pixels = np.asarray(source.load(item))
    assert pixels.dtype == np.uint8 and (pixels == np.arange(64)[:, None] + 64).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((4, 64, 64))}, "holds float64 .4, 64, 64., not images"),
        ({"a": np.zeros((4, 64, 64)), "b": np.zeros(3, int)}, "not images"),
        ({"a": np.full((4, 64, 64), 9.0), "b": np.zeros(4, int)}, "neither uint8 nor floats from 0 to 1"),
        ({"a": np.zeros((4, 64, 64)), "b": np.full(4, -1)}, "not images"),
    ],
)
def test_other_arrays_are_refused_as_olivetti_faces(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "olivetti.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_source("olivetti", tmp_path)


def test_broken_files_are_refused_as_olivetti_faces(tmp_path: Path) -> None:
    (tmp_path / "olivetti.npz").touch()
    with pytest.raises(UserError, match="is not an .npz of arrays"):
        open_source("olivetti", tmp_path)
    (tmp_path / "olivetti.npz").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="is not an .npz of arrays"):
        open_source("olivetti", tmp_path)
    np.savez_compressed(tmp_path / "olivetti.npz", a=np.zeros((4, 64, 64)), b=np.arange(4))
    (tmp_path / "olivetti.npz").write_bytes(with_damage((tmp_path / "olivetti.npz").read_bytes(), 60))
    with pytest.raises(UserError, match="is not an .npz of arrays"):
        open_source("olivetti", tmp_path)
    scipy.io.savemat(tmp_path / "olivettifaces.mat", {"faces": np.zeros((4096, 4))}, do_compression=True)
    damaged = with_damage((tmp_path / "olivettifaces.mat").read_bytes(), 150)
    for content in (b"no mat", damaged):
        (tmp_path / "olivettifaces.mat").write_bytes(content)
        with pytest.raises(UserError, match="does not hold 64x64 Olivetti faces"):
            open_source("olivetti", tmp_path)


def with_damage(content: bytes, position: int) -> bytes:
    flipped = bytes(255 - value for value in content[position : position + 9])
    return content[:position] + flipped + content[position + 9 :]


RECORDED = {
    "lfw": "43ef5d0a7a8b41d2",
    "utkface": "0114c2e7d23a4003",
    "casia_webface": "f248774828142a22",
    "fei": "780a23baf1bbb668",
    "smiles": "7fdc21736ccba265",
    "olivetti": "7265f33400579f6d",
}


@pytest.mark.parametrize("name", RECORDED)
def test_packed_bytes_are_those_of_earlier_releases(tmp_path: Path, name: str) -> None:
    """Keys, order, labels and pixels; raw, since the bytes of JPEG files depend on the encoder's version."""
    TREES[name](tmp_path / "in")
    options = {"codec": "raw", "samples_per_shard": 2, "val_fraction": 0, "test_fraction": 0}
    dataset = pack(name, tmp_path / "in", tmp_path / "out", size=16, workers=1, **options)
    assert dataset.fingerprint == RECORDED[name]


@pytest.mark.parametrize("name", sorted(TREES.keys() - {"webdataset"}))  # Takes any shards.
def test_a_missing_tree_says_what_was_looked_for(tmp_path: Path, name: str) -> None:
    write_images(tmp_path, ["holiday/beach.jpg"])
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="looked"):
            open_source(name, root)


UTKFACE_BAD_NAMES = (
    "61_1_20170109142408075.jpg.chip.jpg",
    "117_0_0_20170101000000000.jpg",
    "26_2_0_20170101000000000.jpg",
    "26_1_5_20170101000000000.jpg",
    "cover.png",
)
CASIA_BAD_NAMES = ("0000045/face.jpg", "0000045/more/001.jpg", "all.jpg")
FEI_BAD_NAMES = ("201-01.jpg", "0-01.jpg", "3-15.jpg", "3c.jpg")
GOOD_AND_BAD = {
    "utkface": (UTKFACE, "UTKFace/{}_0_0_20170101000000000.jpg", UTKFACE_BAD_NAMES),
    "casia_webface": (CASIA, "CASIA-WebFace/0000045/9{}.jpg", [f"CASIA-WebFace/{name}" for name in CASIA_BAD_NAMES]),
    "fei": (FEI, "part1/1{}-01.jpg", FEI_BAD_NAMES),
    "smiles": (SMILES, "SMILEs/negatives/n7/bad{}.jpg", ()),
}


@pytest.mark.parametrize("name", GOOD_AND_BAD)
def test_bad_entries_are_counted_by_their_kind(tmp_path: Path, name: str) -> None:
    good, pattern, bad_names = GOOD_AND_BAD[name]
    root = tmp_path / "tree"
    write_images(root, good)
    for number, data in enumerate(BAD_FILES.values()):
        (root / pattern.format(number)).write_bytes(data)
    write_images(root, bad_names)
    (root / pattern.format(len(BAD_FILES))).symlink_to("gone.jpg")
    options = PackOptions(output=tmp_path / "out", size=16, workers=1, max_skipped_fraction=1, split_by="sample")
    dataset = pack_source(open_source(name, root), options)
    assert sum(map(dataset.num_samples, dataset.splits)) == len(good)
    reasons = {reason: found["num"] for reason, found in dataset.manifest.provenance["skipped"]["reasons"].items()}
    # Text, zeros, half a PNG header, HTML and the broken WebP, TIFF and BMP files; Pillow's words differ by file.
    num_damaged = sum(reasons.pop(reason, 0) for reason in ("not an image", "damaged image", "truncated image"))
    expected = {"empty file": 1, "missing file": 1, "more than 80 million pixels": 1, "more than 100 scans": 1}
    assert reasons == expected | ({BAD_NAME: len(bad_names)} if bad_names else {})
    assert num_damaged == len(BAD_FILES) - 3 == 8


def test_the_command_line_packs_pairs_of_smiles(tmp_path: Path) -> None:
    people = range(1, 13)
    write_images(tmp_path / "fei", [f"{person}{letter}.jpg" for person in people for letter in "ab"], size=(260, 360))
    main(["fei", str(tmp_path / "fei"), str(tmp_path / "out"), "--size", "32", "--workers", "1"])
    dataset = Dataset(tmp_path / "out")
    assert dataset.manifest.split["by"] == "identity"
    for split in dataset.splits:
        person, smiling = dataset.labels("person", split), dataset.labels("Smiling", split)
        assert all(sorted(smiling[person == one]) == [0, 1] for one in set(person))


needs_shared = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the real data in ../shared")


@needs_shared
def test_real_olivetti_faces() -> None:
    source = open_source("olivetti", SHARED_DATA / "olivetti_faces.npz")
    people = [item.labels["identity"] for item in map(source.__getitem__, range(len(source)))]
    assert len(people) == 400 and len(set(people)) == 40 and all(people.count(one) == 10 for one in set(people))
    assert 100 < np.mean([np.asarray(source.load(source[position])).mean() for position in range(0, 400, 20)]) < 180
