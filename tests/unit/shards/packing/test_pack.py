"""Packing: reproducible, resumable, tolerant of bad inputs, readable by webdataset."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import webdataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bad_images import BAD_FILES, add_bad_images
from shards.base import retrying
from shards.base.errors import UserError
from shards.base.names import Names
from shards.command_line.cli import run
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from shards.dataset.stores import FolderStore
from shards.dataset.tar import ShardWriter, member_key, read_samples
from shards.execution.dispatch import run_tasks
from shards.execution.executor import InProcess
from shards.images.codecs import decode
from shards.images.reading import Crop, Preparation
from shards.loading.reader import Reader
from shards.pack import main
from shards.packing.options import PackOptions
from shards.packing.pack import pack, pack_source
from shards.packing.plan import Encoding, Splitting, make_plan
from shards.packing.shard import ListedTask, ShardJob, listed, write_shard
from shards.packing.splits import Fractions
from shards.packing.workspace import ShardWork, Workspace
from shards.sources.base import Item, emptied
from shards.sources.folder import FolderConfig, FolderSource

REPO = Path(__file__).resolve().parents[4]


def colors(num: int) -> Iterator[tuple[int, int, int]]:
    return ((number * 37 % 256, number * 91 % 256, number * 53 % 256) for number in range(num))


def make_images(root: Path, num: int = 30) -> Path:
    """Folders of persons with plain images: the color tells which image was packed."""
    for number, color in enumerate(colors(num)):
        path = root / f"person{number % 10}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), color).save(path)
    return root


def options(output: Path, **changes: Any) -> PackOptions:
    return PackOptions(**{"output": output, "size": 16, "samples_per_shard": 8, "workers": 1, **changes})


def folder(root: Path) -> FolderSource:
    return FolderSource(FolderConfig(root, subfolders="identity"))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def packed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed") / "out"
    pack_source(folder(images), options(root))
    return root


def test_bytes_do_not_depend_on_workers_or_machine(images: Path, packed: Path, tmp_path: Path) -> None:
    pack_source(folder(images), options(tmp_path / "two", workers=2))
    assert contents(tmp_path / "two") == contents(packed)
    assert {path.name for path in packed.iterdir() if not path.name.endswith(".tar")} == {
        "dataset.json",
        "index.safetensors",
    }
    text = (packed / "dataset.json").read_text()
    assert str(images) not in text and str(packed) not in text


def test_index_finds_every_image_and_label(packed: Path) -> None:
    dataset = Dataset(packed)
    expected = {f"person{number % 10}/{number:03d}": color for number, color in enumerate(colors(30))}
    found = {}
    for split in dataset.splits:
        keys = dataset.keys(split)
        persons = dataset.labels("identity", split)
        for key, data, person in zip(keys, Reader(dataset, split).read(np.arange(len(keys))), persons, strict=True):
            found[key] = decode(data, dataset.image)[8, 8]
            assert dataset.fields["identity"].classes[person] == key.split("/")[0]
    assert set(found) == set(expected)
    assert all(np.abs(found[key].astype(int) - color).max() <= 3 for key, color in expected.items())


def test_no_person_is_in_two_splits_and_order_is_shuffled(packed: Path) -> None:
    dataset = Dataset(packed)
    persons = [set(dataset.labels("identity", split)) for split in dataset.splits]
    assert len(dataset.splits) == 3 and sum(map(len, persons)) == len(set.union(*persons)) == 10
    assert dataset.manifest.split == {"by": "identity", "fractions": {"val": 0.1, "test": 0.1}, "seed": 0}
    keys = dataset.keys("train")
    assert keys != sorted(keys)


def test_webdataset_opens_the_shards(packed: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    dataset = Dataset(packed)
    urls = [str(packed / shard.name) for shard in dataset.shards("train")]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == dataset.keys("train")
    for sample, data in zip(samples, Reader(dataset, "train").read(np.arange(len(samples))), strict=True):
        # webdataset decodes with Pillow, the reader with simplejpeg: rounding may differ by one.
        assert np.abs(sample["jpg"].astype(int) - decode(data, dataset.image)).max() <= 1
        assert sample["json"]["identity"] == sample["__key__"].split("/")[0]


@pytest.mark.parametrize(("codec", "channels"), [("png", 3), ("raw", 3), ("raw", 1), ("webp", 3), ("jpg", 1)])
def test_codecs_and_channels(images: Path, tmp_path: Path, codec: str, channels: int) -> None:
    dataset = pack_source(folder(images), options(tmp_path / "out", codec=codec, channels=channels))
    assert (dataset.image.extension, dataset.image.channels) == (codec, channels)
    position = dataset.keys("train").index("person1/001") if "person1/001" in dataset.keys("train") else 0
    data = next(Reader(dataset, "train").read(np.array([position])))
    pixels = decode(data, dataset.image)
    assert pixels.shape == (16, 16, channels)
    if channels == 3 and codec != "webp":
        number = int(dataset.keys("train")[position].split("/")[1])
        assert pixels[8, 8].tolist() == list(list(colors(30))[number])


@pytest.mark.parametrize("codec", ["jpg", "raw"])
def test_every_flipped_bit_of_an_image_is_noticed(images: Path, tmp_path: Path, codec: str) -> None:
    dataset = pack_source(folder(images), options(tmp_path / "out", codec=codec))
    shard, offset = dataset.shards("train")[0], int(dataset.column("offset", "train")[0])
    size = int(dataset.column("size", "train")[0])
    whole = (dataset.root / shard.name).read_bytes()
    checksums = dataset.places("train", np.array([0])).crc32
    assert checksums is not None and checksums[0] == zlib.crc32(whole[offset : offset + size])
    num_decodable = 0
    for bit in range(0, 8 * size, 41):
        damaged = bytearray(whole)
        damaged[offset + bit // 8] ^= 1 << bit % 8
        (dataset.root / shard.name).write_bytes(damaged)
        reader = Reader(dataset, "train")
        with pytest.raises(UserError, match=r"sample .* of shard .*: its bytes are not those .* --verify"):
            next(reader.read(np.array([0])))
        with suppress(ValueError):
            decode(bytes(damaged[offset : offset + size]), dataset.image)
            num_decodable += 1
    assert num_decodable  # Decoding alone would not have noticed.


def test_bad_images_are_named_counted_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_images(tmp_path / "images")
    add_bad_images(images)
    Image.new("CMYK", (20, 20)).save(images / "fine_cmyk.jpg")
    Image.new("RGBA", (20, 20)).save(images / "fine_rgba.png")
    dataset = pack_source(folder(images), options(tmp_path / "out", max_skipped_fraction=0.3))
    assert sum(map(dataset.num_samples, dataset.splits)) == 32
    skipped = dataset.manifest.provenance["skipped"]
    named = {key for found in skipped["reasons"].values() for key in found["first"]}
    assert skipped["num"] == 12 == sum(found["num"] for found in skipped["reasons"].values())
    assert named == {*BAD_FILES, "dangling.jpg"}
    assert skipped["reasons"]["missing file"]["first"] == ["dangling.jpg"]
    assert skipped["reasons"]["empty file"]["first"] == ["empty.jpg"]
    assert "bomb.png" in skipped["reasons"]["more than 80 million pixels"]["first"]
    assert "truncated.jpg" in skipped["reasons"]["truncated image"]["first"]
    printed = capsys.readouterr().out
    assert all(f"Skipped, {reason}: {found['num']}" in printed for reason, found in skipped["reasons"].items())


class ShakySource(FolderSource):
    """On a disk that fails at some images, a number of times."""

    num_failures = 0

    def load(self, item: Item) -> Image.Image:
        if item.key.endswith("3") and self.num_failures:
            self.num_failures -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().load(item)


def test_no_image_is_lost_to_a_disk_that_fails_for_a_moment(
    images: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "_PAUSES_SEC", (0.0, 0.0))
    source = ShakySource(FolderConfig(images, subfolders="identity"))
    source.num_failures = 2
    pack_source(source, options(tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(packed)
    source.num_failures = 3
    with pytest.raises(UserError, match=r"person3/.*3.png could not be read in 3 tries \(Stale file handle\)"):
        pack_source(source, options(tmp_path / "again", max_skipped_fraction=1))
    pack_source(source, options(tmp_path / "again", max_skipped_fraction=1))
    assert contents(tmp_path / "again") == contents(packed)


def test_too_many_bad_images_fail_and_a_higher_limit_resumes(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images")
    add_bad_images(images)
    output = tmp_path / "out"
    with pytest.raises(UserError, match=r"of 42 images are bad, more than --max_skipped_fraction 0.05 allows"):
        pack_source(folder(images), options(output))
    assert not (output / "dataset.json").exists()
    with pytest.raises(UserError, match="finish it by rerunning"):
        Dataset(output)
    pack_source(folder(images), options(output, max_skipped_fraction=0.5))
    pack_source(folder(images), options(tmp_path / "at_once", max_skipped_fraction=0.5))
    assert contents(output) == contents(tmp_path / "at_once")


def test_only_bad_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    add_bad_images(tmp_path / "images")
    with pytest.raises(UserError, match="no image could be packed"):
        pack_source(folder(tmp_path / "images"), options(tmp_path / "out", max_skipped_fraction=1))
    assert not (tmp_path / "out" / "dataset.json").exists()


class StoppingSource(FolderSource):
    """Stops the packing at the n-th image, as a crash would."""

    def __init__(self, root: Path, num_loads: int) -> None:
        super().__init__(FolderConfig(root, subfolders="identity"))
        self.num_loads = num_loads

    def load(self, item: Item) -> Image.Image:
        self.num_loads -= 1
        if self.num_loads < 0:
            raise KeyboardInterrupt
        return super().load(item)


def test_interrupted_packing_resumes_and_keeps_finished_shards(images: Path, packed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        pack_source(StoppingSource(images, 20), options(output))
    finished = {path.name: path.stat().st_ino for path in output.glob("*.tar")}
    assert 0 < len(finished) < len(list(packed.glob("*.tar")))
    assert not (output / "dataset.json").exists()

    # A finished shard of the wrong size is written again; the others stay.
    victim = output / sorted(finished)[0]
    victim.write_bytes(victim.read_bytes()[:-512])
    pack_source(folder(images), options(output))
    assert contents(output) == contents(packed)
    kept = {name for name, inode in finished.items() if (output / name).stat().st_ino == inode}
    assert kept == set(finished) - {victim.name}


def test_kill_9_in_a_parallel_packing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, output = make_images(tmp_path / "images", 160), tmp_path / "out"
    command = [sys.executable, "-m", "shards.pack", "folder", str(images), str(output), "--subfolders", "identity"]
    command += ["--size", "96", "--workers", "2", "--codec", "png", "--samples_per_shard", "4"]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((output / ".packing").glob("*.tar.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "dataset.json").exists()
    done = [path.name.removesuffix(".json") for path in (output / ".packing").glob("*.tar.json")]
    inodes = {name: (output / name).stat().st_ino for name in done}

    again: dict[str, Any] = {"size": 96, "codec": "png", "samples_per_shard": 4}
    pack_source(folder(images), options(output, **again))
    assert "Resuming: " in capsys.readouterr().out
    assert done and {name: (output / name).stat().st_ino for name in done} == inodes
    pack_source(folder(images), options(tmp_path / "straight", **again))
    assert contents(output) == contents(tmp_path / "straight")


def test_a_worker_that_is_killed_ends_the_packing_with_a_sentence(tmp_path: Path) -> None:
    images, output = make_images(tmp_path / "images", 160), tmp_path / "out"
    command = [sys.executable, "-m", "shards.pack", "folder", str(images), str(output), "--subfolders", "identity"]
    command += ["--size", "96", "--workers", "2", "--codec", "png", "--samples_per_shard", "4"]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((output / ".packing").glob("*.tar.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.splitlines()[-1] == (
        "error: a worker process died (out of memory?); rerun the command, perhaps with fewer --workers."
    )
    assert not (output / "dataset.json").exists()
    assert subprocess.run(command, cwd=REPO, capture_output=True, timeout=120).returncode == 0
    pack_source(folder(images), options(tmp_path / "straight", size=96, codec="png", samples_per_shard=4))
    assert contents(output) == contents(tmp_path / "straight")


def test_same_command_again_does_nothing(images: Path, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(packed)
    pack_source(folder(images), options(packed, workers=2, max_skipped_fraction=0.5))
    assert "already packed" in capsys.readouterr().out
    assert contents(packed) == before


def test_other_plans_are_refused(images: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="already holds a data set with size 16 instead of 32"):
        pack_source(folder(images), options(packed, size=32))
    with pytest.raises(UserError, match="already holds a data set with other images or labels"):
        pack_source(folder(make_images(tmp_path / "more", 31)), options(packed))
    with pytest.raises(KeyboardInterrupt):
        pack_source(StoppingSource(images, 20), options(tmp_path / "out"))
    with pytest.raises(UserError, match="unfinished packing with seed 0 instead of 1; finish it"):
        pack_source(folder(images), options(tmp_path / "out", seed=1))


def test_other_wording_of_the_notes_is_not_another_input(images: Path, tmp_path: Path) -> None:
    (images / "notes.txt").write_text("x")
    pack_source(folder(images), options(tmp_path / "out"))
    (images / "notes.txt").unlink()
    path = tmp_path / "out" / "dataset.json"
    written = json.loads(path.read_text())
    assert "notes.txt" in written["provenance"]["input"]["notes"][0]
    assert pack_source(folder(images), options(tmp_path / "out")).fingerprint == written["fingerprint"]


def test_a_plan_of_an_older_release_resumes_and_a_newer_one_is_refused(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        pack_source(StoppingSource(images, 20), options(output))
    plan = output / ".packing" / "plan.json"
    content = json.loads(plan.read_text())
    assert content.pop("format_version") == 1
    plan.write_text(json.dumps({"format_version": 2, **content}))
    with pytest.raises(UserError, match="format version 2 of a packing plan.*install a newer facegen"):
        pack_source(folder(images), options(output))
    plan.write_text(json.dumps(content))  # As written before there were versions.
    assert pack_source(folder(images), options(output)).num_samples("train")


def test_packing_from_python_is_the_command(images: Path, packed: Path, tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"size": 16, "samples_per_shard": 8, "workers": 1, "subfolders": "identity"}
    dataset = pack("folder", str(images), str(tmp_path / "out"), **keywords)
    assert isinstance(dataset, Dataset) and contents(tmp_path / "out") == contents(packed)
    assert pack("folder", input=images, output=tmp_path / "out", **keywords).fingerprint == dataset.fingerprint
    rendered = pack("synthetic", tmp_path / "rendered", num=20, size=16, workers=1, split_by="sample")
    assert sum(map(rendered.num_samples, rendered.splits)) == 20
    own = pack(LabeledSource(["train", "val"]), tmp_path / "own", size=16, workers=1)
    assert own.manifest.name == "labeled"


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("foldr", "IN", "OUT"), {}, "there is no source 'foldr'; did you mean 'folder'"),
        (("folder", "IN", "OUT"), {"sise": 64}, "there is no option 'sise'; did you mean 'size'"),
        (("folder", "IN"), {}, "source 'folder' takes input and output, each once; 1 paths were given"),
        (("synthetic", "IN", "OUT"), {}, "source 'synthetic' takes output, each once; 2 paths were given"),
        (("folder", "IN", "OUT"), {"output": "OUT"}, "takes input and output, each once"),
        (("folder", "IN", "OUT"), {"channels": 2}, "channels must be one of 1, 3, not 2"),
        (("folder", "IN", "OUT"), {"subfolders": "x"}, "subfolders must be one of 'class', 'identity', 'ignore'"),
        (("folder", "IN", "OUT"), {"size": 0}, "size must be 1 or more"),
        (("folder", "IN", "IN/out"), {}, "lies inside the input"),
        (("synthetic", "OUT"), {"num": 0}, "num must be at least 1"),
    ],
)
def test_mistakes_from_python(
    images: Path, tmp_path: Path, arguments: tuple[str, ...], keywords: dict[str, Any], message: str
) -> None:
    paths = {"IN": images, "OUT": tmp_path / "out", "IN/out": images / "out"}
    with pytest.raises(UserError, match=message):
        pack(*(paths.get(argument, argument) for argument in arguments), **keywords)
    assert not (tmp_path / "out").exists()


def test_an_executor_from_outside_writes_the_same_bytes(images: Path, packed: Path, tmp_path: Path) -> None:
    class Backwards:
        def run(self, work: ShardWork, tasks: Iterable[ListedTask], on_items: Any) -> Iterator[Any]:
            for task in reversed(list(tasks)):
                yield pickle.loads(pickle.dumps(work))(task, lambda: on_items(1))

    pack_source(folder(images), options(tmp_path / "out"), Backwards())  # type: ignore[arg-type]
    assert contents(tmp_path / "out") == contents(packed)


def test_workers_get_no_listing(images: Path, tmp_path: Path) -> None:
    sizes = []
    for source in (folder(images), folder(make_images(tmp_path / "few", 3))):
        job = ShardJob(source, Preparation(16, 3, None, "area"), Encoding("raw", {}))
        copied = pickle.loads(pickle.dumps(job)).source
        assert len(copied) == 0 < len(source)
        assert copied.load(source[2]).tobytes() == source.load(source[2]).tobytes()
        # The folder and the names of its people are all that remains.
        sizes.append(len(pickle.dumps(replace(job, source=emptied(source, fields={}, provenance={})))))
    assert abs(sizes[0] - sizes[1]) < 40


def test_shards_of_other_package_versions_are_refused(images: Path, packed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        pack_source(StoppingSource(images, 20), options(output))
    path = next((output / ".packing").glob("*.tar.json"))
    result = json.loads(path.read_text())
    right = dict(result["versions"])
    result["versions"]["pillow"] = "1.0"
    path.write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"was written with pillow 1.0, and here is .*Install pillow 1.0 wherever"):
        pack_source(folder(images), options(output))
    path.write_text(json.dumps(result | {"versions": right}))
    pack_source(folder(images), options(output))
    assert contents(output) == contents(packed)


def test_writing_a_shard_depends_on_job_and_task_only(images: Path, tmp_path: Path) -> None:
    source = folder(images)
    plan = make_plan(
        source, Preparation(16, 3, None, "area"), Encoding("raw", {}), Splitting("auto", Fractions(0.1, 0.1), 0), 8
    )
    job, counted = ShardJob(source, plan.preparation, plan.encoding), []
    paths = [tmp_path / "a", tmp_path / "b"]
    task = next(listed(source, plan.tasks))
    first, second = (write_shard(job, task, path, lambda: counted.append(1)) for path in paths)
    assert first == second and paths[0].read_bytes() == paths[1].read_bytes()
    assert len(counted) == 2 * len(plan.tasks[0].positions)
    assert sorted(tmp_path.iterdir()) == paths


def test_a_shard_counts_only_once_it_is_durable(
    images: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("shards.dataset.stores.publish", broken)
        with pytest.raises(UserError, match="Input/output error.*rerun the command"):
            pack_source(folder(images), options(output))
    assert not list((output / ".packing").glob("*.tar.json")) and not list(output.glob("*.tar"))
    pack_source(folder(images), options(output))
    assert contents(output) == contents(packed)


def test_two_packings_at_once_are_refused(images: Path, tmp_path: Path) -> None:
    workspace = Workspace(FolderStore(tmp_path / "out"))
    with pytest.raises(UserError, match="another packing is writing"):
        pack_source(folder(images), options(tmp_path / "out"))
    del workspace


def test_working_files_of_a_packing_that_is_ending_stay(images: Path, packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "out")
    (tmp_path / "out" / ".packing").mkdir()
    with open(tmp_path / "out" / ".packing" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Such as one that draws its sheet of images without a face.
        pack_source(folder(images), options(tmp_path / "out"))
        assert (tmp_path / "out" / ".packing" / "lock").exists()
    pack_source(folder(images), options(tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(packed)


def test_a_packing_that_ends_while_another_starts(
    images: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(packed, tmp_path / "out")
    (tmp_path / "out" / ".packing").mkdir()
    monkeypatch.setattr("shards.packing.pack.existing_dataset", lambda root, spec: None)  # It was not there yet.
    with pytest.raises(UserError, match="another packing has just finished"):
        pack_source(folder(images), options(tmp_path / "out"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": 1}', "\xff"])
def test_damaged_working_files(images: Path, packed: Path, tmp_path: Path, text: str) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        pack_source(StoppingSource(images, 20), options(output))
    next((output / ".packing").glob("*.tar.json")).write_text(text, encoding="latin-1")
    plan = (output / ".packing" / "plan.json").read_text()
    (output / ".packing" / "plan.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="plan.json|unfinished packing"):
        pack_source(folder(images), options(output))
    (output / ".packing" / "plan.json").write_text(plan)
    pack_source(folder(images), options(output))  # The shard of the damaged result is written again.
    assert contents(output) == contents(packed)


def test_occupied_and_unwritable_outputs(images: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="is not empty"):
        pack_source(folder(images), options(tmp_path))
    with pytest.raises(UserError, match="is a file"):
        pack_source(folder(images), options(tmp_path / "holiday.jpg"))
    with pytest.raises(UserError, match="cannot write to"):
        pack_source(folder(images), options(Path("/proc/nothing/here")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "0"], "size must be 1 or more"),
        (["--quality", "0"], "quality must be"),
        (["--codec", "png", "--quality", "90"], "png has no option 'quality'"),
        (["--crop", "left"], "not 'left'"),
        (["--val_fraction", "0.9", "--test_fraction", "0.2"], "add up to less than 1"),
        (["--split_by", "partition"], "has no partition of its own"),
        (["--split_by", "identity"], "names no identities"),
        (["--sise", "64"], "there is no option 'sise'; did you mean 'size'?"),
    ],
)
def test_command_line_mistakes(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["folder", str(images), str(tmp_path / "out"), *arguments]))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_output_inside_the_input_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path)
    with pytest.raises(UserError, match="lies inside the input"):
        main(["folder", str(tmp_path), str(tmp_path / "out")])


class LabeledSource:
    """Gray squares with every kind of label, keys that are unsafe in a tar, and a partition."""

    name = "labeled"
    identity_field: str | None = None
    crop: Crop | None = None
    provenance: dict[str, Any] = {}

    def __init__(self, partitions: list[str | None]) -> None:
        self.fields = {
            "degree": LabelField("float"),
            "glad": LabelField("bool"),
            "hair": LabelField("class", ("a", "none")),
        }
        self.partitions = partitions

    def __len__(self) -> int:
        return len(self.partitions)

    def __getitem__(self, position: int) -> Item:
        labels = {"degree": position / 4 if position else float("nan"), "glad": position % 2 == 0, "hair": "none"}
        return Item(f"{'long/' * 60}é.b {position}", labels, partition=self.partitions[position])

    def load(self, item: Item) -> np.ndarray:
        return np.full((16, 16, 3), 90, np.uint8)


def test_own_partition_labels_and_odd_keys(tmp_path: Path) -> None:
    dataset = pack_source(LabeledSource(["train", "val", "val", "test", None]), options(tmp_path / "out"))
    assert [dataset.num_samples(split) for split in ("train", "val", "test")] == [2, 2, 1]
    assert dataset.manifest.split["by"] == "partition"
    degrees = np.concatenate([dataset.labels("degree", split) for split in dataset.splits])
    assert np.isnan(degrees).sum() == 1 and sorted(degrees[~np.isnan(degrees)]) == [0.25, 0.5, 0.75, 1.0]
    for shard in dataset.manifest.shards:
        keys = [sample.key for sample in read_samples(dataset.root / shard.name)]
        assert len(keys) == shard.num_samples and all(len(key) <= 80 for key in keys)
    keys = [key for split in dataset.splits for key in dataset.keys(split)]
    assert len(set(keys)) == 5


def test_partition_of_one_part_falls_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = pack_source(LabeledSource(["train"] * 20), options(tmp_path / "out"))
    assert "puts all images into train: splitting by sample instead" in capsys.readouterr().out
    assert [dataset.num_samples(split) for split in ("train", "val", "test")] == [16, 2, 2]


def test_empty_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no images"):
        pack_source(LabeledSource([]), options(tmp_path / "out"))


def test_small_images_are_enlarged_and_counted(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = pack_source(folder(images), options(tmp_path / "out", size=24))
    assert dataset.manifest.provenance["num_enlarged"] == 30
    assert "30 images were smaller than 24 pixels" in capsys.readouterr().out


def test_plan_is_balanced_complete_and_independent_of_listing_order(images: Path) -> None:
    def plan(source: FolderSource) -> list[tuple[str, list[str]]]:
        made = make_plan(
            source, Preparation(16, 3, None, "area"), Encoding("raw", {}), Splitting("auto", Fractions(0.1, 0.1), 0), 8
        )
        return [(task.name, [source[position].key for position in task.positions]) for task in made.tasks]

    source, reversed_source = folder(images), folder(images)
    reversed_source._files = Names(reversed(reversed_source._files))
    reversed_source._keys = Names(reversed(reversed_source._keys))
    for column in reversed_source._columns.values():
        column.reverse()
    tasks = plan(source)
    assert tasks == plan(reversed_source)
    sizes = [len(keys) for name, keys in tasks if name.startswith("train")]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= 8
    assert sorted(key for _, keys in tasks for key in keys) == sorted(source[i].key for i in range(30))


def test_full_disk_is_one_sentence(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shards.packing.workspace.write_shard", no_space)
    source = folder(images)
    plan = make_plan(
        source, Preparation(16, 3, None, "area"), Encoding("raw", {}), Splitting("auto", Fractions(0.1, 0.1), 0), 8
    )
    work = ShardWork(ShardJob(source, plan.preparation, plan.encoding), FolderStore(tmp_path))
    (tmp_path / ".packing").mkdir()
    with pytest.raises(UserError, match="No space left on device.*fix this, then rerun the command"):
        list(run_tasks(InProcess(), work, listed(source, plan.tasks), lambda count: None, tmp_path))


def test_member_keys() -> None:
    assert member_key("Ann_Lee/Ann-Lee_0001") == "Ann_Lee/Ann-Lee_0001"
    odd = [member_key(key) for key in ("a.b", "a_b", "a b", "x" * 200, "x" * 201, "/abs", "ü")]
    assert len(set(odd)) == 7
    assert all(len(key) <= 80 and "." not in key and key.isascii() and key[0] != "/" for key in odd)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=120).filter(lambda key: "\0" not in key))
@example("名前").via("two odd characters become WebDataset's reserved prefix")
@example("__a").via("the prefix itself")
@example("__a__/b").via("a reserved folder")
@example("a/__b").via("harmless below a folder")
@example(" (1)").via("starts with a blank")
@example("a//b").via("an empty part")
def test_any_key_comes_back_from_a_tar(key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.tar"
        with ShardWriter(path) as writer:
            starts = [writer.add(member_key(key), "jpg", b"image"), writer.add(member_key(key), "json", b"{}")]
        (sample,) = read_samples(path)
        assert sample.key == member_key(key)
        assert [member.offset for member in sample.members] == starts
        assert [member.extension for member in sample.members] == ["jpg", "json"]
        (theirs,) = webdataset.WebDataset(str(path), shardshuffle=False)
        assert theirs["__key__"] == sample.key


def test_json_members_hold_the_labels_that_are_there(tmp_path: Path) -> None:
    dataset = pack_source(LabeledSource(["train", "val"]), options(tmp_path / "out"))
    labels = {}
    for shard in dataset.manifest.shards:
        data = (dataset.root / shard.name).read_bytes()
        for sample in read_samples(dataset.root / shard.name):
            member = sample.find(("json",))
            assert member is not None
            labels[shard.split] = json.loads(data[member.offset : member.offset + member.size])
    assert labels == {"train": {"glad": True, "hair": "none"}, "val": {"degree": 0.25, "glad": False, "hair": "none"}}
