"""Shards of other programs, with everything that they may hold: indexed, read and trained on."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from facegen.options import TrainConfig
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.tar import ShardWriter, read_samples
from shards.images.codecs import decode
from shards.index import index, verify
from shards.loading.reader import Reader

SIZE = 16
NUM = 40
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
ODD_KEYS = ("with space", "Zoë/déjà", "deep/er/than/usual", "a+b=c@d", "-dash", "x" * 120)


def picture(number: int, extension: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (number * 6, 100, 50)).save(buffer, FORMATS[extension], quality=95)
    return buffer.getvalue()


def check_and_train(root: Path, num: int, make_config: Callable[..., TrainConfig]) -> Dataset:
    """Reads every image through the index, compares with plain webdataset, and trains two epochs."""
    dataset = Dataset(root)
    assert verify(dataset) == [] and dataset.num_samples("train") == num
    urls = [str(root / shard.name) for shard in dataset.shards("train")]
    extension = dataset.image.extension
    others = [sample for sample in webdataset.WebDataset(urls, shardshuffle=False) if extension in sample]
    assert [sample["__key__"].removeprefix("./") for sample in others] == dataset.keys("train")
    for sample, data in zip(others, Reader(dataset, "train").read(np.arange(num)), strict=True):
        assert sample[extension] == data
    trainer = Trainer(make_config(data=str(root), max_steps=2 * num // 8, global_batch_size=8))
    rows: list[int] = []
    trainer.fit(lambda trainer, batch, terms: rows.extend(batch.rows.tolist()))
    per_epoch = num // 8 * 8
    assert trainer.images_seen == 2 * num // 8 * 8 and len(set(rows[:per_epoch])) == per_epoch
    return dataset


@pytest.mark.parametrize("extension", FORMATS)
def test_shards_of_shardwriter(extension: str, tmp_path: Path, tiny_config: Callable[..., TrainConfig]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with webdataset.ShardWriter(str(data / "faces-train-%04d.tar"), maxcount=17, verbose=0) as writer:
        for number in range(NUM):
            key = ODD_KEYS[number] if number < len(ODD_KEYS) else f"{number:05d}"
            sample = {"__key__": key, extension: picture(number, extension), "cls": number % 3, "txt": f"word{number}"}
            if number != 7:  # A missing member.
                sample["json"] = {"age": number / 2, "smile": number % 2 == 0}
            writer.write(sample)
    index(data)
    dataset = check_and_train(data, NUM, tiny_config)
    assert len(dataset.shards("train")) == 3 and set(ODD_KEYS) < set(dataset.keys("train"))
    kinds = {name: label.kind for name, label in dataset.fields.items()}
    assert kinds == {"cls": "class", "txt": "class", "age": "float", "smile": "bool"}
    age, smile = dataset.labels("age", "train"), dataset.labels("smile", "train")
    assert np.isnan(age[7]) and smile[7] == -1 and np.delete(age, 7).tolist() == [n / 2 for n in range(NUM) if n != 7]
    pixels = [decode(data, dataset.image)[8, 8, 0] for data in Reader(dataset, "train").read(np.arange(NUM))]
    assert np.abs(np.array(pixels, int) - 6 * np.arange(NUM)).max() <= 4


@pytest.mark.parametrize("layout", ["gnu", "pax", "ustar"])
def test_shards_of_tar(
    layout: str, tmp_path: Path, tiny_config: Callable[..., TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("tar is not installed")
    tree, data = tmp_path / "tree", tmp_path / "data"
    data.mkdir()
    for number in range(NUM):
        key = ODD_KEYS[number] if number < len(ODD_KEYS) - 1 else f"{number:05d}"
        path = tree / f"part{number % 2}" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{path}.JPG").write_bytes(picture(number, "jpg"))
        Path(f"{path}.json").write_text(json.dumps({"number": number + 0.5, "boxes": [1]}))
        Path(f"{path}.mask.bin").write_bytes(b"other")
    (tree / "part0" / "00008.JPG").unlink()  # The member that matters most.
    (tree / "part0" / "._00010.JPG").write_bytes(b"resource fork")
    (tree / "README").write_text("no sample")
    command = [tar, f"--format={layout}", "--sort=name", "-C", str(tree), "-cf", str(data / "train.tar"), "."]
    subprocess.run(command, check=True)
    index(data)
    assert "1 samples hold no image and are left out: part0/00008" in capsys.readouterr().out
    dataset = check_and_train(data, NUM - 1, tiny_config)
    numbers = sorted(dataset.labels("number", "train").tolist())
    assert numbers == [number + 0.5 for number in range(NUM) if number != 8]
    # The lost index of foreign shards comes back as it was.
    before = (data / "index.safetensors").read_bytes()
    (data / "index.safetensors").unlink()
    index(data)
    assert (data / "index.safetensors").read_bytes() == before


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("tar is not installed")
    (tmp_path / "tree").mkdir()
    with open(bytes(tmp_path / "tree") + b"/Zo\xe9.png", "wb") as file:
        file.write(picture(1, "png"))
    subprocess.run([tar, "-C", str(tmp_path / "tree"), "-cf", str(tmp_path / "train.tar"), "."], check=True)
    assert index(tmp_path).keys("train") == ["Zo\ufffd"]


def test_members_of_a_sample_must_be_consecutive(tmp_path: Path) -> None:
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("tar is not installed")
    for name, content in (("a.png", picture(1, "png")), ("b.png", picture(2, "png")), ("a.json", b"{}")):
        (tmp_path / name).write_bytes(content)
    subprocess.run(
        [tar, "-C", str(tmp_path), "-cf", str(tmp_path / "train.tar"), "a.png", "b.png", "a.json"], check=True
    )
    with pytest.raises(UserError, match="the files of sample 'a' are not consecutive.*tar --sort=name"):
        index(tmp_path)


@pytest.mark.parametrize("num", [0, 1, 30])
def test_shards_have_the_bytes_that_webdataset_would_write(tmp_path: Path, num: int) -> None:
    members = [
        (f"faces/{number:060d}", {extension: content})
        for number in range(num)
        for extension, content in (("png", picture(number, "png")), ("json", b'{"age": 3}'))
    ]
    with ShardWriter(tmp_path / "ours.tar") as ours:
        offsets = [ours.add(key, *next(iter(member.items()))) for key, member in members]
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), user="", group="", mode=0o644, mtime=0) as theirs:
        for key, member in members:
            theirs.write({"__key__": key, **member})
    content = (tmp_path / "ours.tar").read_bytes()
    assert content == (tmp_path / "theirs.tar").read_bytes()
    for offset, (_, member) in zip(offsets, members, strict=True):
        assert content[offset:].startswith(*member.values())


def test_of_two_files_with_one_name_the_first_counts(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shard.tar") as writer:
        for extension, content in (("png", b"first"), ("PNG", b"second"), ("json", b"{}")):
            writer.add("a", extension, content)
        writer.add("__meta__/b", "png", b"reserved")
        writer.add("c", "png", b"third")
    samples = list(read_samples(tmp_path / "shard.tar"))
    assert [(sample.key, [(member.extension, member.size) for member in sample.members]) for sample in samples] == [
        ("a", [("png", 5), ("json", 2)]),
        ("c", [("png", 5)]),
    ]
