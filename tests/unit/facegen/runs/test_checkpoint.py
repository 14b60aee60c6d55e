"""A directory is complete or absent; damaged ones are skipped with a warning and kept."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import nn

from facegen.runs.checkpoint import (
    MARKER,
    directory_name,
    load_module,
    load_state,
    newest_complete,
    prune,
    save_module,
    save_state,
    set_aside_damaged,
    write_complete,
)
from shards.base.errors import UserError


def write(root: Path, images_seen: int, content: str = "weights") -> Path:
    directory = root / directory_name(images_seen)
    write_complete(directory, lambda temporary: _fill(temporary, content))
    return directory


def _fill(directory: Path, content: str) -> None:
    (directory / "a.bin").write_text(content * 100)
    (directory / "b.json").write_text("{}")


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_names_sort_by_age() -> None:
    counts = [0, 9, 10, 999, 1_000_000, 10**11]
    assert sorted(map(directory_name, counts)) == [directory_name(count) for count in counts]


def test_the_newest_is_found(tmp_path: Path) -> None:
    assert newest_complete(tmp_path) is None
    assert newest_complete(tmp_path / "not_there") is None
    for images_seen in (300, 100, 20_000):
        write(tmp_path, images_seen)
    assert newest_complete(tmp_path) == tmp_path / directory_name(20_000)


def test_a_writer_that_fails_leaves_the_older_ones(tmp_path: Path) -> None:
    older = write(tmp_path, 100)

    def fail(directory: Path) -> None:
        (directory / "a.bin").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_complete(tmp_path / directory_name(200), fail)
    assert names(tmp_path) == [older.name]  # What was written makes no full disk any fuller.
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # What was never finished is not even damaged.
        assert newest_complete(tmp_path) == older
    # The next try is not disturbed by what the failed one left.
    newer = write(tmp_path, 200)
    assert newest_complete(tmp_path) == newer
    assert sorted(path.name for path in newer.iterdir()) == sorted([MARKER, "a.bin", "b.json"])


def test_nothing_appears_under_the_final_name_before_all_is_written(tmp_path: Path) -> None:
    final = tmp_path / directory_name(100)

    def look(directory: Path) -> None:
        _fill(directory, "x")
        assert not final.exists()
        assert newest_complete(tmp_path) is None

    write_complete(final, look)
    assert newest_complete(tmp_path) == final
    assert names(tmp_path) == [final.name]


def test_one_that_is_replaced_is_there_whenever_the_writer_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 100, "old")
    rename = os.replace
    for killed_at in (1, 2):
        renames = itertools.count(1)

        def killed(source: Path, target: Path, renames=renames, killed_at=killed_at) -> None:
            if next(renames) == killed_at:
                raise KeyboardInterrupt
            rename(source, target)

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, 100, "new")
        monkeypatch.undo()
        set_aside_damaged(tmp_path)
        found = newest_complete(tmp_path)
        assert found and (found / "a.bin").read_text().startswith("old")
    write(tmp_path, 100, "new")
    assert names(tmp_path) == [directory_name(100)]
    assert (tmp_path / directory_name(100) / "a.bin").read_text().startswith("new")


def _truncate(directory: Path) -> None:
    data = (directory / "a.bin").read_bytes()
    (directory / "a.bin").write_bytes(data[:-1])


def _flip(directory: Path) -> None:
    data = bytearray((directory / "a.bin").read_bytes())
    data[17] ^= 1
    (directory / "a.bin").write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated file": (_truncate, "a.bin is damaged"),
    "flipped bit": (_flip, "a.bin is damaged"),
    "missing file": (lambda directory: (directory / "b.json").unlink(), "b.json is missing"),
    "missing marker": (lambda directory: (directory / MARKER).unlink(), "not finished"),
    "empty marker": (lambda directory: (directory / MARKER).write_text(""), "COMPLETE file is damaged"),
    "marker of zeros": (lambda directory: (directory / MARKER).write_bytes(bytes(80)), "COMPLETE file is damaged"),
    "marker that is no list": (lambda directory: (directory / MARKER).write_text("null"), "COMPLETE file is damaged"),
    "marker that names no file": (lambda directory: (directory / MARKER).write_text("{}"), "COMPLETE file is damaged"),
    "marker in no encoding": (lambda directory: (directory / MARKER).write_bytes(b"\xff"), "COMPLETE file is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_skipped_with_a_warning(tmp_path: Path, damage: str) -> None:
    older, newer = write(tmp_path, 100), write(tmp_path, 200)
    harm, message = DAMAGES[damage]
    harm(newer)
    with pytest.warns(UserWarning, match=f"{directory_name(200)} is skipped: .*{message}"):
        assert newest_complete(tmp_path) == older


def test_a_file_that_the_disk_cannot_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = write(tmp_path, 100), write(tmp_path, 200)
    right = hashlib.file_digest

    def read(file: BinaryIO, name: str) -> Any:
        if Path(file.name).parent == newer:
            raise OSError(errno.EIO, "Input/output error")
        return right(file, name)

    monkeypatch.setattr(hashlib, "file_digest", read)
    with pytest.warns(UserWarning, match=f"{directory_name(200)} is skipped: it cannot be read .*Input/output error"):
        assert newest_complete(tmp_path) == older


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE])
def test_a_file_that_may_not_be_read_is_not_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 100)

    def refused(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    for attribute in ("hashlib.file_digest", "pathlib.Path.read_bytes", "os.listdir"):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=f"{os.strerror(number)}.*fix this"):
            patch.setattr(attribute, refused)
            set_aside_damaged(tmp_path)
    assert names(tmp_path) == [directory_name(100)]


def test_only_damaged_ones_give_none(tmp_path: Path) -> None:
    _flip(write(tmp_path, 100))
    with pytest.warns(UserWarning, match="is skipped"):
        assert newest_complete(tmp_path) is None


def test_a_damaged_one_can_be_written_again(tmp_path: Path) -> None:
    directory = write(tmp_path, 100)
    _flip(directory)
    write(tmp_path, 100, "other")
    assert newest_complete(tmp_path) == directory
    assert (directory / "a.bin").read_text() == "other" * 100


def test_prune_keeps_the_newest_complete_ones(tmp_path: Path) -> None:
    for images_seen in (100, 200, 300, 400):
        write(tmp_path, images_seen)
    (tmp_path / directory_name(400) / MARKER).unlink()
    prune(tmp_path, 2)
    # The unfinished newest one does not count as one of the two.
    assert {directory_name(200), directory_name(300)} <= set(names(tmp_path))
    assert directory_name(100) not in names(tmp_path)


def test_a_kill_in_the_middle_of_pruning_leaves_nothing_that_looks_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for images_seen in (100, 200, 300):
        write(tmp_path, images_seen)

    def killed(directory: Path, ignore_errors: bool) -> None:
        (directory / MARKER).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("facegen.runs.checkpoint.shutil.rmtree", killed)
        prune(tmp_path, 2)
    kept = [directory_name(200), directory_name(300)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_aside_damaged(tmp_path)
    assert [name for name in names(tmp_path) if not name.startswith(".")] == kept
    prune(tmp_path, 2)
    assert names(tmp_path) == kept


def test_a_folder_that_cannot_be_deleted_now_is_deleted_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for images_seen in (100, 200):
        write(tmp_path, images_seen)

    def in_use(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")  # NFS says so while somebody reads a file in it.

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", in_use)
        prune(tmp_path, 1)
    assert [path.name for path in tmp_path.glob("images_*")] == [directory_name(200)]
    prune(tmp_path, 1)
    assert names(tmp_path) == [directory_name(200)]


def test_prune_of_fewer_than_are_kept_deletes_none(tmp_path: Path) -> None:
    write(tmp_path, 100)
    prune(tmp_path, 2)
    assert names(tmp_path) == [directory_name(100)]


def test_leftovers_of_killed_processes_are_ignored_and_deleted(tmp_path: Path) -> None:
    write(tmp_path, 100)
    leftover = tmp_path / f".{directory_name(90)}.tmp"
    leftover.mkdir()
    _fill(leftover, "half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert newest_complete(tmp_path) == tmp_path / directory_name(100)
    prune(tmp_path, 2)
    assert names(tmp_path) == [directory_name(100)]


def test_modules_round_trip_with_buffers_and_memory_formats(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module(torch.randn(2, 3, 8, 8))
    save_module(module, tmp_path / "m.safetensors")
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_module(other, tmp_path / "m.safetensors")
    for name, tensor in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_state_round_trip_and_no_code_is_unpickled(tmp_path: Path) -> None:
    state = {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.99)}]}}
    save_state(tmp_path / "s.pt", state)
    assert load_state(tmp_path / "s.pt") == state
    torch.save({"path": Path("x")}, tmp_path / "bad.pt")
    with pytest.raises(UserError, match=r"bad.pt cannot be read \(UnpicklingError"):
        load_state(tmp_path / "bad.pt")
