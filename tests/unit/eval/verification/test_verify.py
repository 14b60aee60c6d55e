"""Pairs of verification and the command, end to end on tiny runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import verify
from eval.verification.drawn_pairs import draw_pairs
from eval.verification.embeddings import embed
from eval.verification.folds import OWN
from eval.verification.pair_set import make_pair_set
from eval.verification.pairs_file import find_pairs, read_pairs_file
from eval.verification.roc import worst_mistakes
from facegen.model import load
from shards.base.errors import UserError
from shards.command_line.cli import run
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import SPLITS
from shards.loading.pairs import read_pairs
from shards.pack import main as pack
from tiny_runs import untrained_run

PEOPLE = ("Ann_A", "Bob_B", "Cid_C", "Dan_D")


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people with three images each in the layout of LFW, packed, all in one split."""
    root = tmp_path_factory.mktemp("lfw")
    random = np.random.default_rng(0)
    for person in PEOPLE:
        (root / "tree" / person).mkdir(parents=True)
        for number in (1, 2, 3):
            pixels = random.integers(0, 255, (250, 250, 3), np.uint8)
            Image.fromarray(pixels).save(root / "tree" / person / f"{person}_{number:04d}.jpg")
    options = ["--size", "16", "--val_fraction", "0", "--test_fraction", "0", "--workers", "1"]
    pack(["lfw", str(root / "tree"), str(root / "packed"), *options])
    return root / "packed"


def pairs_text(*lines: str, folds: int = 2, each: int = 1) -> str:
    return "\n".join([f"{folds}\t{each}", *(line.replace(" ", "\t") for line in lines)]) + "\n"


VIEW_2 = pairs_text("Ann_A 1 3", "Ann_A 2 Bob_B 1", "Cid_C 1 2", "Cid_C 3 Dan_D 2")


def test_the_pairs_file_names_the_images_of_packed_lfw(lfw: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(VIEW_2)
    dataset = Dataset(lfw)
    kept = find_pairs(read_pairs_file(tmp_path / "pairs.txt"), dataset, dataset.splits)
    pairs = kept.pairs
    assert [pairs.keys(dataset, pair) for pair in range(4)] == [
        ["Ann_A_0001", "Ann_A_0003"],
        ["Ann_A_0002", "Bob_B_0001"],
        ["Cid_C_0001", "Cid_C_0002"],
        ["Cid_C_0003", "Dan_D_0002"],
    ]
    assert pairs.same.tolist() == [1, 0, 1, 0] and pairs.fold.tolist() == [0, 0, 1, 1]
    assert str(kept) == "4 of 4 listed pairs are used."
    rows = pairs.image_rows[pairs.pairs]
    expected = read_pairs(dataset, "train", rows)
    for side in (0, 1):
        np.testing.assert_array_equal(pairs.images(dataset, pairs.pairs[:, side]), expected[side].numpy())


def test_pairs_of_a_file_that_are_left_out_are_counted(lfw: Path, tmp_path: Path) -> None:
    lines = ["Ann_A 1 3", "Ann_A 1 2", "Ann_A 2 Bob_B 1", "Ann_A 2 Eve_E 1"]
    lines += ["Cid_C 1 2", "Cid_C 1 3", "Cid_C 3 Dan_D 2", "Cid_C 3 Dan_D 1"]
    (tmp_path / "pairs.txt").write_text(pairs_text(*lines, each=2))
    listed = read_pairs_file(tmp_path / "pairs.txt")
    kept = find_pairs(listed, Dataset(lfw), ("train",))
    assert (kept.num_missing, kept.num_elsewhere, kept.num_surplus) == (1, 0, 1)
    assert len(kept.pairs.same) == 6 and kept.pairs.same.mean() == 0.5
    with pytest.raises(UserError, match="--all_splits"):
        find_pairs(listed, Dataset(lfw), ("test",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>", "format of LFW"),
        ("", "format of LFW"),
        ("0 0\n", "format of LFW"),
        ("-1 -1\nAnn_A 1 2\nAnn_A 1 Bob_B 2\n", "format of LFW"),
        ("2 1\nAnn_A 1 2\n", "lists 1 pairs"),
        ("1 1\nAnn_A one 2\nBob_B 1 Ann_A 2\n", "format of LFW"),
        (pairs_text("Zoe 1 3", "Zoe 2 Yan 1", "Xia 1 2", "Xia 3 Dan 2"), "keys look like '"),
    ],
)
def test_a_pairs_file_that_cannot_be_used(content: str, message: str, lfw: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        find_pairs(read_pairs_file(tmp_path / "pairs.txt"), Dataset(lfw), ("train",))


# Drawn pairs


def test_drawn_pairs_are_different_balanced_and_share_no_person_between_folds(tiny_dataset: Path) -> None:
    dataset = Dataset(tiny_dataset)
    pairs = draw_pairs(dataset, ("train",), 120, 0, "identity")
    people = pairs.image_labels(dataset, "identity")[pairs.pairs]
    assert ((people[:, 0] == people[:, 1]) == (pairs.same == 1)).all()
    assert (pairs.pairs[:, 0] != pairs.pairs[:, 1]).all()
    assert len(np.unique(np.sort(pairs.pairs, axis=1), axis=0)) == len(pairs.pairs) <= 120
    _, counts = np.unique(dataset.labels("identity", "train"), return_counts=True)
    assert pairs.num_folds == min(10, (counts > 1).sum() // 2) > 5
    for fold in range(pairs.num_folds):
        assert pairs.same[pairs.fold == fold].mean() == 0.5
        assert not np.intersect1d(people[pairs.fold == fold], people[pairs.fold != fold]).size
    again = draw_pairs(dataset, ("train",), 120, 0, "identity")
    np.testing.assert_array_equal(again.pairs, pairs.pairs)
    assert not np.array_equal(draw_pairs(dataset, ("train",), 120, 1, "identity").image_rows, pairs.image_rows)


def test_pairs_that_cannot_be_drawn(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="--identity"):
        draw_pairs(Dataset(tiny_dataset), ("test",), 10, 0, "Male")


def test_each_fold_gets_as_many_of_either_kind() -> None:
    refs = np.arange(28).reshape(7, 2, 2) % np.array([1, 28])
    pairs = make_pair_set(refs, np.array([1, 1, 1, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 2, 2, 5]))
    assert pairs.same.tolist() == [1, 0, 0, 1] and pairs.fold.tolist() == [0, 0, 1, 1]


def test_an_image_is_encoded_once(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset(tiny_dataset)
    model = load(untrained_run(tmp_path / "vae", tiny_dataset))
    pairs = draw_pairs(dataset, ("train", "test"), 60, 0, "identity")
    seen = []
    encode = model.encode
    model.encode = lambda images, labels: (seen.append(len(images)), encode(images, labels))[1]  # type: ignore[method-assign,assignment]
    latents = embed(model, dataset, pairs, batch_size=7)
    assert sum(seen) == pairs.num_images < len(pairs.pairs) * 2
    split = SPLITS[pairs.image_splits[0]]
    image = read_pairs(dataset, split, np.array([[pairs.image_rows[0]] * 2]))[0].numpy()
    np.testing.assert_allclose(latents[:1], encode(image), atol=1e-5)


def test_the_worst_mistakes_come_first() -> None:
    margins = np.array([3.0, -2.0, 0.5, -0.1, 5.0, -4.0])
    accepted, rejected = worst_mistakes(margins, np.array([0, 1, 0, 1, 1, 0]), 5)
    assert accepted.tolist() == [0, 2] and rejected.tolist() == [1, 3]


# The command


def test_the_command_writes_table_curves_and_mistakes(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(untrained_run(tmp_path / name, tiny_dataset, name)) for name in ("cvae", "face_cnn")]
    options = ["--split", "train", "--num_pairs", "200", "--classifiers", "LDA", "--device", "cpu"]
    verify.main([*runs, "--data", str(tiny_dataset), "--out", str(tmp_path / "out"), *options])
    result = json.loads((tmp_path / "out" / "verify.json").read_text())
    lines = {(line["run"], line["method"]): line for line in result["lines"]}
    assert ("face_cnn", OWN) in lines and ("cvae", OWN) not in lines
    assert {method for run_name, method in lines if run_name == "cvae"} == {"cosine", "squared L2", "LDA"}
    for line in lines.values():
        if line["run"].startswith("control"):
            assert abs(line["accuracy"] - 0.5) < 0.03
    assert "WITH training images" in result["title"]
    assert "TRAINED on people of" in result["protocol"]["training of cvae"]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"verify.json", "verify.md", *result["pictures"]}
    assert "control: random latents" in capsys.readouterr().out
    assert result["mistakes"][0]["keys"][0].startswith("identity_")
    assert (tmp_path / "out" / "roc.svg").read_text().startswith("<svg")


def test_people_of_another_data_set_are_compared_by_name(
    tiny_dataset: Path, other_dataset: Path, tmp_path: Path
) -> None:
    name = str(untrained_run(tmp_path / "vae", other_dataset))
    options = ["--num_pairs", "40", "--classifiers", "[]", "--device", "cpu"]
    verify.main([name, "--data", str(tiny_dataset), "--split", "val", "test", "--out", str(tmp_path / "o"), *options])
    result = json.loads((tmp_path / "o" / "verify.json").read_text())
    assert "held out" in result["title"]
    assert "another data set" in result["protocol"]["training of vae"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classifiers", "forest"], "there is no classifier 'forest'"),
        (["--num_pairs", "2"], "num_pairs must be at least 4"),
        (["--split", "dev"], "no split 'dev'"),
        (["--pairs", "nowhere.txt"], "cannot be read"),
    ],
)
def test_bad_options_are_one_sentence(
    options: list[str], message: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(untrained_run(tmp_path / "vae", tiny_dataset))
    with pytest.raises(SystemExit) as caught:
        run(lambda: verify.main([name, "--data", str(tiny_dataset), "--out", str(tmp_path / "o"), *options]))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_model_that_cannot_encode_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    name = str(untrained_run(tmp_path / "dcgan", tiny_dataset, "dcgan"))
    with pytest.raises(UserError, match="cannot encode; leave it out"):
        verify.main([name, "--data", str(tiny_dataset), "--out", str(tmp_path / "o")])
