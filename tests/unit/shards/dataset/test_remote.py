"""Data sets behind an address: complete, checked, bounded, and patient with failing servers."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import shutil
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from s3fs import S3FileSystem

import unreliable_server
from facegen import config as config_module
from facegen.processes.preemption import Preempted, StopFlag
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.command_line.cli import run
from shards.dataset import remote
from shards.dataset.addresses import NUM_TRIES
from shards.dataset.cache import cache_bytes, locked, make_room, shards_folder
from shards.dataset.dataset import Dataset
from shards.index import main as index
from shards.inspect import main as inspect
from shards.loading.loader import TrainLoader, evaluation_batches
from shards.loading.order import EpochOrder
from shards.loading.pairs import PairUnits
from shards.loading.reader import Reader
from shards.pack import main as pack
from unreliable_server import Fault, Handler

NUM = 240


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("remote") / "faces"
    pack(["synthetic", str(root), "--num", str(NUM), "--size", "16", "--samples_per_shard", "32", "--workers", "1"])
    return root


@pytest.fixture
def server(local: Path) -> Iterator[type[Handler]]:
    with unreliable_server.serving(local) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    unreliable_server.retry_at_once(monkeypatch)
    return tmp_path / "cache" / "shards"


def images(dataset: Dataset, split: str = "train") -> torch.Tensor:
    return torch.cat([batch.images for batch in evaluation_batches(dataset, split, 32)])


def tars(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*/*.tar")}


def test_a_remote_data_set_is_the_local_one(local: Path, server: type[Handler], cache: Path) -> None:
    here, there = Dataset(local), Dataset(f"{server.url}/")
    assert there.fingerprint == here.fingerprint
    assert there.keys("val") == here.keys("val")
    np.testing.assert_array_equal(there.labels("smile", "train"), here.labels("smile", "train"))
    assert not tars(cache)  # Nothing was read yet.
    assert torch.equal(images(there), images(here))
    assert tars(cache) == {shard.name for shard in here.shards("train")}


def test_the_order_of_training_is_the_same(local: Path, server: type[Handler]) -> None:
    loaders = [
        iter(TrainLoader(Dataset(root), "train", global_batch_size=16, seed=3)) for root in (str(local), server.url)
    ]
    for _ in range(20):
        here, there = (next(loader) for loader in loaders)
        assert torch.equal(here.rows, there.rows)
        assert torch.equal(here.images, there.images)


def test_each_shard_is_fetched_once_for_all_readers(local: Path, server: type[Handler]) -> None:
    expected = images(Dataset(local))
    results = []

    def read() -> None:
        results.append(torch.equal(images(Dataset(server.url)), expected))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert results == [True] * 4
    requested = [name for name in server.requests if name.endswith(".tar")]
    assert sorted(requested) == sorted(shard.name for shard in Dataset(local).shards("train"))


@pytest.mark.parametrize("fault", ["breaks off", "short", "corrupt", "busy", "whole"])
def test_fetches_are_retried_while_a_server_fails(local: Path, server: type[Handler], fault: str) -> None:
    server.faults += [fault] * (NUM_TRIES - 1)  # type: ignore[list-item]
    rows = np.arange(5)
    here, there = (list(Reader(Dataset(root), "val").read(rows)) for root in (str(local), server.url))
    assert there == here


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_file_that_does_not_end_is_refused(
    server: type[Handler], suffix: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_MAX_MANIFEST_BYTES", 1_000_000)
    server.failing, server.always = suffix, "endless"
    with pytest.raises(UserError, match="has more than [0-9,]+ bytes; check the address"):
        Dataset(server.url).keys("val")
    assert len(server.requests) == (1 if suffix == ".json" else 2)  # It is not tried again.
    assert not list(cache.glob("*/.*.part"))


def test_a_shard_that_does_not_end_is_refused(local: Path, server: type[Handler], cache: Path) -> None:
    [shard] = Dataset(local).shards("val")
    dataset = Dataset(server.url)
    server.always = "endless"
    with pytest.raises(
        UserError, match=f"val-000000.tar has more than {shard.num_bytes:,} bytes; its manifest says so"
    ):
        next(Reader(dataset, "val").read(np.array([0])))
    assert server.requests.count(shard.name) == 2  # A part, then the whole: some servers send no parts.
    assert not list(cache.glob("*/*.part"))


@pytest.mark.parametrize("fault", ["short", "corrupt"])
def test_a_damaged_index_is_fetched_again_and_never_kept(
    server: type[Handler], cache: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(server, "failing", ".safetensors")
    server.faults[:] = [fault]
    assert len(Dataset(server.url).labels("identity", "train"))
    assert server.requests.count("index.safetensors") == 2
    shutil.rmtree(cache)
    server.always = fault
    with pytest.raises(UserError, match=f"index.safetensors could not be read in {NUM_TRIES} tries .*"):
        Dataset(server.url).labels("identity", "train")
    server.always = None
    assert len(Dataset(server.url).labels("identity", "train"))


def test_received_chunks_are_not_fetched_again(
    local: Path, server: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CHUNK_BYTES", 8192)
    shard = Dataset(local).shards("val")[0]
    num_chunks = -(-shard.num_bytes // 8192)
    server.faults += [None, None, "busy"]  # type: ignore[list-item]
    next(Reader(Dataset(server.url), "val").read(np.array([0])))
    assert server.requests.count(shard.name) == num_chunks + 1


def test_a_server_that_sends_whole_files_only(
    local: Path, server: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CHUNK_BYTES", 8192)
    server.always = "whole"
    here, there = (list(Reader(Dataset(root), "val").read(np.arange(5))) for root in (str(local), server.url))
    assert there == here
    assert server.requests.count("val-000000.tar") == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("breaks off", "could not be read in 6 tries"),
        ("corrupt", "could not be read in 6 tries.*its sha256 differs from the manifest"),
        ("short", "could not be read in 6 tries.*received .* bytes instead of"),
        ("forbidden", "val-000000.tar"),
    ],
)
def test_a_server_that_keeps_failing_is_named(server: type[Handler], cache: Path, fault: str, message: str) -> None:
    server.always = fault  # type: ignore[assignment]
    with pytest.raises(UserError, match=message):
        next(Reader(Dataset(server.url), "val").read(np.array([0])))
    assert not tars(cache)
    assert not list(cache.glob("*/*.part"))


def test_training_ends_with_a_sentence_when_the_server_dies_and_resumes_when_it_is_back(
    local: Path, server: type[Handler], tmp_path: Path
) -> None:
    def train(root: str, run: Path, max_images: int) -> Trainer:
        options = ["--max_images", str(max_images), "--global_batch_size", "16", "--checkpoint.every_images", "16"]
        network = ["--model.network.widths", "[8]", "--model.latent_size", "4"]
        trainer = Trainer(config_module.parse_args(["ae", "--data", root, "--run", str(run), *options, *network]))
        trainer.fit()
        return trainer

    train(server.url, tmp_path / "run", 48)
    shutil.rmtree(shards_folder())  # Another machine resumes.
    server.always = "breaks off"
    with pytest.raises(UserError, match="rerun the command once it can be"):
        train(server.url, tmp_path / "run", 96)
    server.always = None
    resumed = train(server.url, tmp_path / "run", 96).family.state_dict()
    whole = train(str(local), tmp_path / "whole", 96).family.state_dict()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_program_that_ends_drops_planned_fetches(
    server: type[Handler], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, is_over = Dataset(server.url), threading.Event()
    assert dataset.remote
    make_room = remote.make_room
    monkeypatch.setattr(remote, "make_room", lambda *arguments: (is_over.wait(), make_room(*arguments)))
    dataset.remote.prefetch(dataset.shards("train"))
    run(lambda: None)
    is_over.set()
    dataset.remote._pool.shutdown(wait=True)  # As the interpreter does.
    assert not tars(cache) and not any(name.endswith(".tar") for name in server.requests)
    before = len(server.requests)
    with pytest.raises(UserError, match="could not be read in 1 tries"):
        dataset.remote.open(dataset.shards("val")[0])
    assert len(server.requests) == before


def test_a_signal_ends_a_fetch_without_a_retry(server: type[Handler], monkeypatch: pytest.MonkeyPatch) -> None:
    loader = TrainLoader(Dataset(server.url), "train", global_batch_size=16, seed=0, num_threads=0)
    monkeypatch.setattr(remote.Remote, "prefetch", lambda *_: None)  # This thread fetches and waits for no other.
    is_over = threading.Event()
    monkeypatch.setattr(remote.Remote, "_fetch_shard", lambda *_: is_over.wait(60))
    with StopFlag() as stop:
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        started = time.monotonic()
        with pytest.raises(Preempted):
            next(stop.watch(loader))
        assert time.monotonic() - started < 30
        assert stop.requested


def test_prefetching_tries_once(server: type[Handler], cache: Path) -> None:
    dataset = Dataset(server.url)
    assert dataset.remote
    server.always = "busy"
    [shard] = dataset.shards("val")
    dataset.remote.prefetch([shard])
    dataset.remote._pool.shutdown(wait=True)
    assert server.requests.count(shard.name) == 1
    with pytest.raises(UserError, match="could not be read in 6 tries"):
        dataset.remote.open(shard)


def test_prefetched_chunks_are_not_fetched_again(
    local: Path, server: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CHUNK_BYTES", 8192)
    [shard] = Dataset(local).shards("val")
    dataset = Dataset(server.url)
    assert dataset.remote
    server.faults += [None, None, "busy"]  # type: ignore[list-item]
    dataset.remote.prefetch([shard])
    dataset.remote._pool.shutdown(wait=True)
    os.close(dataset.remote.open(shard))
    assert server.requests.count(shard.name) == -(-shard.num_bytes // 8192) + 1


def test_a_server_that_accepts_no_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_TIMEOUT_SEC", "0.2")
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):  # Nobody accepts these connections, and Linux queues no more.
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        started = time.monotonic()
        with pytest.raises(UserError, match="could not be read in 6 tries"):
            Dataset(f"http://127.0.0.1:{listener.getsockname()[1]}/faces")
        assert time.monotonic() - started < 20


def test_a_silent_s3_server_gets_as_many_tries_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_TIMEOUT_SEC", "0.3")
    calls = []

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            calls.append(self.request.recv(65536))
            time.sleep(0.6)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as silent:
        threading.Thread(target=silent.serve_forever).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.server_address[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        S3FileSystem.clear_instance_cache()
        try:
            with pytest.raises(UserError, match="could not be read in 6 tries"):
                Dataset("s3://bucket/faces")
        finally:
            silent.shutdown()
            S3FileSystem.clear_instance_cache()
    assert len(calls) == NUM_TRIES


# The cache.


def test_the_cache_stays_within_its_bound(local: Path, server: type[Handler], cache: Path, monkeypatch) -> None:
    shards = Dataset(local).shards("train")
    room = 3 * max(shard.num_bytes for shard in shards)
    monkeypatch.setenv("FACEGEN_SHARD_CACHE_GB", str(room / 1e9))
    dataset = Dataset(server.url)
    reader = Reader(dataset, "train")
    for start in np.cumsum([0, *(shard.num_samples for shard in shards)])[:-1]:
        next(reader.read(np.array([start])))
        assert sum(path.stat().st_size for path in cache.glob("*/*.tar")) <= room
    assert torch.equal(images(dataset), images(Dataset(local)))


def test_the_least_recently_used_shards_make_room(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for age, name in enumerate(("newest", "middle", "oldest")):
        path = tmp_path / "set" / f"{name}.tar"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "set" / "index.safetensors").write_bytes(bytes(1000))
    make_room(tmp_path, 250, tmp_path / "set")
    assert {path.stem for path in (tmp_path / "set").iterdir()} == {"newest", "middle", "index"}
    make_room(tmp_path, 0, tmp_path / "set")
    assert {path.stem for path in (tmp_path / "set").iterdir()} == {"index"}


def test_parts_and_old_indexes_count(tmp_path: Path) -> None:
    for age, name in enumerate(
        ("new/a.tar", "new/.b.tar.part", "old/index.safetensors", "old/.c.tar.part", "old/d.tar")
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "old" / ".d.tar.lock").touch()

    def left() -> set[str]:
        return {path.name for path in tmp_path.glob("*/*") if path.suffix != ".lock"}

    with locked(tmp_path / "old" / ".c.tar.lock"):
        make_room(tmp_path, 400, tmp_path / "new")
        assert left() == {"a.tar", ".b.tar.part", "index.safetensors", ".c.tar.part"}
        make_room(tmp_path, 300, tmp_path / "new")  # What is being fetched stays, and counts.
        assert left() == {"a.tar", ".b.tar.part", ".c.tar.part"}
    make_room(tmp_path, 0, tmp_path / "new")
    assert left() == set()


def test_a_shard_that_is_deleted_while_it_is_read_is_read_to_its_end(
    local: Path, server: type[Handler], cache: Path
) -> None:
    reader = Reader(Dataset(server.url), "train")
    expected = list(Reader(Dataset(local), "train").read(np.arange(10)))
    found = []
    for data in reader.read(np.arange(10)):
        found.append(data)
        for path in cache.glob("*/*.tar"):
            path.unlink()
    assert found == expected


def test_a_cache_that_is_too_small_is_refused_before_training(server: type[Handler], monkeypatch) -> None:
    monkeypatch.setenv("FACEGEN_SHARD_CACHE_GB", "0.00001")
    with pytest.raises(UserError, match="raise the variable FACEGEN_SHARD_CACHE_GB"):
        TrainLoader(Dataset(server.url), "train", global_batch_size=8, seed=0)


def test_pairs_need_a_cache_that_holds_all_shards(
    local: Path, server: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.loading.order.TARGET_BLOCK_UNITS", 32)  # A block is then two shards of six.
    shards = Dataset(local).shards("train")
    monkeypatch.setenv("FACEGEN_SHARD_CACHE_GB", str(4.5 * max(shard.num_bytes for shard in shards) / 1e9))
    dataset = Dataset(server.url)
    TrainLoader(dataset, "train", global_batch_size=8, seed=0)
    with pytest.raises(UserError, match="raise the variable FACEGEN_SHARD_CACHE_GB"):
        TrainLoader(dataset, "train", global_batch_size=8, seed=0, units=PairUnits(dataset, "train", 0))


def num_open_shards() -> int:
    """Of this process."""
    links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum(link.is_symlink() and ".tar" in os.readlink(link) for link in links)


def test_open_files_take_less_than_the_cache(
    local: Path, server: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = Dataset(local).shards("train")
    num_bytes = max(shard.num_bytes for shard in shards)
    monkeypatch.setenv("FACEGEN_SHARD_CACHE_GB", str(9 * num_bytes / 1e9))
    reader = Reader(Dataset(server.url), "train")
    starts = np.cumsum([0, *(shard.num_samples for shard in shards)])[:-1]
    gc.collect()
    gc.disable()  # Files must close at once, not at garbage collection.
    before = num_open_shards()
    try:
        list(reader.read(starts))
        assert num_open_shards() - before == 2
        del reader
        assert num_open_shards() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_a_bound_must_be_a_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FACEGEN_SHARD_CACHE_GB", text)
    with pytest.raises(UserError, match=f"positive number of gigabytes, not '{text}'"):
        cache_bytes()


def test_a_shard_that_another_process_deletes_while_it_is_opened_is_read(
    server: type[Handler], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset(server.url)
    next(Reader(dataset, "val").read(np.array([0])))
    [path], utime = cache.glob("*/*.tar"), os.utime

    def deleted(place: int | Path) -> None:
        path.unlink(missing_ok=True)
        utime(place)

    monkeypatch.setattr(os, "utime", deleted)
    assert len(next(Reader(dataset, "val").read(np.array([0]))))


def test_a_cache_of_another_user_is_one_sentence(server: type[Handler], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, path_open = Dataset(server.url), open

    def refused(path: object, mode: str = "r", *rest: object) -> object:
        if str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return path_open(path, mode, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(UserError, match=r"cannot write to the cache .*Permission denied.*FACEGEN_CACHE"):
        next(Reader(dataset, "val").read(np.array([0])))


def test_a_full_disk_is_reported_at_once(server: type[Handler], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    dataset = Dataset(server.url)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write to the cache .*No space left.*free space"):
        next(Reader(dataset, "val").read(np.array([0])))


# Prefetching and addresses.


def test_the_next_block_is_prefetched(server: type[Handler], cache: Path) -> None:
    dataset = Dataset(server.url)
    reader = Reader(dataset, "train")
    reader.expect(np.array([2, 4]))
    assert dataset.remote is not None
    dataset.remote._pool.shutdown(wait=True)
    assert tars(cache) == {dataset.shards("train")[number].name for number in (2, 4)}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_fetches_the_shards_of_its_lanes_only(
    server: type[Handler], cache: Path, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.loading.loader._READ_IMAGES", 4)  # Each read is one batch.
    dataset = Dataset(server.url)
    options = {"global_batch_size": 8, "seed": 0, "rank": rank, "world_size": 2, "canonical_nodes": 2}
    loader = TrainLoader(dataset, "train", num_threads=0, **options)  # type: ignore[arg-type]
    batches = iter(loader)
    rows = torch.cat([next(batches).rows for _ in range(loader.steps_per_epoch - 1)])
    assert dataset.remote is not None
    dataset.remote._pool.shutdown(wait=True)
    sizes = dataset.shard_sizes("train")
    order = EpochOrder(sizes, 0, num_lanes=2)  # Of one block a lane.
    own, next_own = (set(order.layout(epoch).shards(rank).tolist()) for epoch in (0, 1))
    assert set(np.searchsorted(np.cumsum(sizes), rows, side="right").tolist()) == own
    assert len(own) <= len(sizes) // 2 + 1
    assert tars(cache) == {dataset.shards("train")[number].name for number in own | next_own}


def test_the_room_is_that_of_the_lanes_of_a_machine(
    local: Path, server: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.loading.order.TARGET_BLOCK_UNITS", 32)  # A block is then a shard or less.
    num_bytes = max(shard.num_bytes for shard in Dataset(local).shards("train"))
    options = {"global_batch_size": 8, "seed": 0, "world_size": 4, "canonical_nodes": 2}
    monkeypatch.setenv("FACEGEN_SHARD_CACHE_GB", str(2.5 * num_bytes / 1e9))
    for rank in range(4):
        TrainLoader(Dataset(server.url), "train", rank=rank, local_world_size=2, **options)
        for together in (3, 4, None):
            with pytest.raises(UserError, match=r"FACEGEN_SHARD_CACHE_GB, or lower canonical_nodes \(2\)"):
                TrainLoader(Dataset(server.url), "train", rank=rank, local_world_size=together, **options)


def test_blocks_say_what_is_needed_now_and_next() -> None:
    order = EpochOrder([10] * 6, seed=0, block_shards=2)
    positions = (0, 19, 20, 59)
    blocks = order.layout(0).blocks_at(np.array(positions)).tolist()
    assert blocks == [0, 0, 1, 2]
    for position, block in zip(positions, blocks, strict=True):
        shards = order.shards_from(0, [block])
        rows = np.concatenate([order.rows(0, position, 60), order.rows(1, 0, 20)])
        within = rows[: (position // 20 + 1) * 20 - position + 20]
        assert set(within // 10) <= set(shards.tolist())
        assert len(shards) == 4


def test_another_content_has_another_folder(local: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(local, copy)
    with unreliable_server.serving(copy) as running:
        first = Dataset(running.url)
        shutil.rmtree(copy)
        pack(["synthetic", str(copy), "--num", "120", "--size", "16", "--seed", "5", "--workers", "1"])
        second = Dataset(running.url)
        assert first.root != second.root
        assert torch.equal(images(second), images(Dataset(copy)))


def test_it_can_be_pickled(local: Path, server: type[Handler]) -> None:
    dataset = pickle.loads(pickle.dumps(Dataset(server.url)))
    assert torch.equal(images(dataset, "val"), images(Dataset(local), "val"))


def test_addresses_that_cannot_be_read(server: type[Handler]) -> None:
    with pytest.raises(UserError, match="there is no .*/nowhere/dataset.json; copy the whole data set"):
        Dataset(f"{server.url}/nowhere")
    with pytest.raises(UserError, match="not an address that fsspec can read"):
        Dataset("gopher://faces")


def test_a_remote_data_set_is_inspected_like_a_local_one(
    local: Path, server: type[Handler], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = {}
    for name, address in (("local", str(local)), ("remote", server.url)):
        inspect([address, "--out", str(tmp_path / f"{name}.png"), "--card", str(tmp_path / name)])
        printed[name] = capsys.readouterr().out.replace(address, "ADDRESS").replace(f"/{name}", "/NAME")
    assert printed["remote"] == printed["local"]
    assert (tmp_path / "remote.png").read_bytes() == (tmp_path / "local.png").read_bytes()


def test_addresses_are_not_taken_for_folders_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        index(["s3://bucket/faces"])
    assert ended.value.code == 2
    assert "s3:/bucket/faces is an address, not a folder;" in capsys.readouterr().err
    with pytest.raises(UserError, match="http://localhost/faces cannot be written to; give a folder, or an address"):
        pack(["synthetic", "http://localhost/faces", "--num", "10", "--size", "16"])
    assert not list(tmp_path.iterdir())
