"""Several data sets as one: images, labels by name, and a loader over all of them, local or behind an address."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unreliable_server
from shards.base.errors import UserError
from shards.command_line.arguments import join_parts
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import Mixture, absolute, open_dataset
from shards.loading.loader import TrainLoader, evaluation_batches
from shards.loading.pairs import PairUnits
from shards.pack import main as pack


def packed(root: Path, num: int, *options: str) -> Path:
    pack(
        [
            "synthetic",
            str(root),
            "--num",
            str(num),
            "--size",
            "16",
            "--samples_per_shard",
            "16",
            "--split_by",
            "sample",
            *options,
        ]
    )
    return root


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two data sets of different size."""
    root = tmp_path_factory.mktemp("mixture")
    return packed(root / "a", 120, "--workers", "1"), packed(root / "b", 80, "--workers", "1", "--seed", "1")


def mixed(places: tuple[Path, Path], *weights: float) -> Mixture:
    texts = [f"{place}:{weight}" for place, weight in zip(places, weights, strict=True)] if weights else places
    dataset = open_dataset(" + ".join(map(str, texts)))
    assert isinstance(dataset, Mixture)
    return dataset


def test_a_mix_holds_the_images_and_labels_of_its_parts(places: tuple[Path, Path]) -> None:
    parts, whole = [Dataset(place) for place in places], mixed(places)
    for split in ("train", "val", "test"):
        assert whole.num_samples(split) == sum(part.num_samples(split) for part in parts)
        assert whole.keys(split) == [key for part in parts for key in part.keys(split)]
        row = parts[0].num_samples(split) + 1
        assert whole.key(split, row) == parts[1].key(split, 1)
        images = torch.cat([batch.images for batch in evaluation_batches(whole, split, 16)])
        own = [torch.cat([batch.images for batch in evaluation_batches(part, split, 16)]) for part in parts]
        assert torch.equal(images, torch.cat(own))
        for name in whole.fields:
            np.testing.assert_array_equal(
                whole.labels(name, split), np.concatenate([part.labels(name, split) for part in parts])
            )
    assert (whole.parts[0].fingerprint, whole.parts[1].fingerprint) == tuple(part.fingerprint for part in parts)
    assert len({whole.fingerprint, mixed(places, 2, 1).fingerprint, mixed(places, 1, 1).fingerprint}) == 3
    assert mixed(places, 0.5, 0.25).fingerprint == mixed(places, 2, 1).fingerprint


def test_labels_are_matched_by_name_and_classes_by_theirs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, rows in {
        "a": ["{0}.png,x,0.5", "{1}.png,y,"],
        "b": ["{0}.png,z,true", "{1}.png,x,false"],
    }.items():
        folder = tmp_path / f"{name}_images"
        folder.mkdir()
        names = [f"{name}{number}" for number in range(2)]
        for image in names:
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{image}.png")
        header = "file,mood,degree" if name == "a" else "file,mood,glasses"
        lines = [header, *(row.format(*names) for row in rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        options = ["--size", "16", "--labels", str(tmp_path / f"{name}.csv"), "--val_fraction", "0"]
        pack(["folder", str(folder), str(tmp_path / name), *options, "--test_fraction", "0", "--workers", "1"])
    whole = mixed((tmp_path / "a", tmp_path / "b"))
    moods = whole.fields["mood"].classes
    assert moods == ("x", "y", "z")
    by_key = dict(zip(whole.keys("train"), whole.labels("mood", "train").tolist(), strict=True))
    assert [moods[by_key[key]] for key in sorted(by_key)] == ["x", "y", "z", "x"]
    degrees, glasses = whole.labels("degree", "train"), whole.labels("glasses", "train")
    assert np.isnan(degrees[2:]).all() and not np.isnan(degrees[:2]).all()
    assert glasses[:2].tolist() == [-1, -1] and set(glasses[2:].tolist()) == {0, 1}


def test_by_size_an_epoch_is_every_image_of_all_parts_once(places: tuple[Path, Path]) -> None:
    whole = mixed(places)
    loader = TrainLoader(whole, "train", global_batch_size=4, seed=0, canonical_nodes=2)
    batches = iter(loader)
    rows = torch.cat([next(batches).rows for _ in range(loader.steps_per_epoch)])
    assert len(set(rows.tolist())) == len(rows) == whole.num_samples("train") // 4 * 4


@pytest.mark.parametrize("canonical_nodes", [1, 2])
def test_by_weight_batches_keep_to_the_weights_on_any_ranks(places: tuple[Path, Path], canonical_nodes: int) -> None:
    whole = mixed(places, 0.25, 0.75)
    first = whole.parts[0].num_samples("train")

    def rows(rank: int, world_size: int, done: int) -> torch.Tensor:
        options = {"rank": rank, "world_size": world_size, "canonical_nodes": canonical_nodes}
        loader = TrainLoader(whole, "train", global_batch_size=16, seed=0, **options)  # type: ignore[arg-type]
        loader.samples_seen = 16 * done
        batches = iter(loader)
        return torch.stack([next(batches).rows for _ in range(8)])

    alone = rows(0, 1, 3)
    assert ((alone < first).sum(1) - 4).abs().max() <= 1
    assert (alone < first).sum() == 8 * 4
    assert torch.equal(torch.cat([rows(0, 2, 3), rows(1, 2, 3)], dim=1), alone)


def test_a_part_may_be_behind_an_address(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    with unreliable_server.serving(places[1]) as server:
        here, there = mixed(places, 1, 1), open_dataset(f"{places[0]}:1 + {server.url}/:1")
        assert there.fingerprint == here.fingerprint
        options = {"global_batch_size": 8, "seed": 0}
        batches = [iter(TrainLoader(dataset, "train", **options)) for dataset in (here, there)]
        for _ in range(20):
            local, remote = (next(stream) for stream in batches)
            assert torch.equal(local.images, remote.images)
    assert list((tmp_path / "cache" / "shards").glob("*/*.tar"))


def test_damage_names_the_part(places: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = packed(tmp_path / "damaged", 40, "--workers", "1", "--seed", "2")
    whole = open_dataset(f"{places[0]} + {damaged}")
    with open(damaged / "val-000000.tar", "r+b") as file:
        file.seek(int(whole.parts[1].column("offset", "val")[0]))
        file.write(bytes(8))
    with pytest.raises(UserError, match=rf"{damaged}/val-000000.tar: .*shards.index {damaged} --verify"):
        list(evaluation_batches(whole, "val", 4))
    (damaged / "train-000000.tar").unlink()
    with pytest.raises(UserError, match=rf"{damaged}/train-000000.tar cannot be read"):
        TrainLoader(whole, "train", global_batch_size=4, seed=0)


def test_what_does_not_go_together_is_one_sentence(places: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = places
    small = packed(tmp_path / "png", 20, "--workers", "1", "--codec", "png")
    for text, sentence in {
        f"{first}:0.5 + {second}": "every part a weight, or none",
        f"{first}:0 + {second}:1": "must be positive",
        f"{first}:0.123456 + {second}:1": "too many digits",
        f"{first} + {first}": "the same images twice",
        f"{first} + {small}": "16x16x3 png and .* of 16x16x3 jpg; pack one of them again",
        f"{first} + {tmp_path / 'nowhere'}": "nowhere holds no complete data set",
        f"{first} + {'x' * 300}": "x cannot be read|x/dataset.json cannot be read",
    }.items():
        with pytest.raises(UserError, match=sentence):
            open_dataset(text)
    whole = mixed(places, 1, 1)
    with pytest.raises(UserError, match="weights of a mix are for single samples"):
        TrainLoader(whole, "train", global_batch_size=4, seed=0, units=PairUnits(whole, "train", 0))


def test_texts_of_mixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a + b:1").mkdir()
    assert absolute("a + b:1") == str(tmp_path / "a + b:1")
    assert absolute("a:0.7 + s3://faces/b:0.3") == f"{tmp_path / 'a'}:0.7 + s3://faces/b:0.3"
    assert join_parts(["vae", "--data", "A:1", "--run", "R", "--data=B:2"]) == [
        "vae",
        "--run",
        "R",
        "--data",
        "A:1 + B:2",
    ]
    assert join_parts(["--run", "R", "--data", "A"]) == ["--run", "R", "--data", "A"]
