"""The base of every room: atomic files, format versions, public names that load on first use."""

from __future__ import annotations

import errno
import importlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from failing_disk import failing_disk
from shards.base.errors import UserError
from shards.base.files import (
    check_writable,
    locked,
    output_folder,
    publish,
    replacing,
    save_tensors,
    write_bytes,
    write_json,
    writing_to,
)
from shards.base.formats import Format
from shards.base.interface import publish as publish_names
from shards.command_line.cli import run


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_atomically(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        write_bytes(path, content, durable)
        assert path.read_bytes() == content
    assert names_in(tmp_path) == {"file"}


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    with pytest.raises(ValueError):
        write_json(path, {"value": float("nan")})
    assert names_in(tmp_path) == {"file"}
    assert path.read_text() == "old"


def test_content_is_durable_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    files = importlib.import_module("shards.base.files")
    monkeypatch.setattr(files, "fsync", lambda path: calls.append(f"fsync {path.name}"))
    monkeypatch.setattr(files.os, "replace", lambda old, new: calls.append("replace"))
    publish(tmp_path / "temporary", tmp_path / "final")
    assert calls == ["fsync temporary", "replace", f"fsync {tmp_path.name}"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(letter: str) -> None:
        for _ in range(50):
            write_bytes(path, letter.encode() * 10_000, durable=False)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    content = path.read_bytes()
    assert content in (b"a" * 10_000, b"b" * 10_000)
    assert names_in(tmp_path) == {"file"}


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with locked(tmp_path / "lock"):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_an_error_of_the_disk_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*/file \(.+\); free space, or choose another place\."):
        save_tensors(tmp_path / "file" / "tensors", {})
    with pytest.raises(UserError, match="; rerun"), writing_to("x", "rerun"):
        raise OSError(28, "No space left on device")


def test_places_are_tried_out_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "picture.png")
    (tmp_path / "new" / "old.png").write_text("kept")
    check_writable(tmp_path / "new" / "old.png")
    assert output_folder(tmp_path / "results") == tmp_path / "results"
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "old.png", "results"}
    assert (tmp_path / "new" / "old.png").read_text() == "kept"
    for path in (tmp_path / "new", tmp_path / "new" / "old.png" / "picture.png"):
        with pytest.raises(UserError, match="cannot write .*; name another"):
            check_writable(path, "name another")
    with failing_disk(tmp_path, 2, errno.EROFS), pytest.raises(UserError, match="cannot write to .*Read-only"):
        output_folder(tmp_path / "results")


def test_an_error_of_the_disk_that_nobody_expected_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/some/file")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: /some/file cannot be used (Permission denied); fix this, then rerun the command.\n"
    )


FORMAT = Format(
    "kettle",
    3,
    {1: lambda content: {"litres": content["volume"]}, 2: lambda content: {**content, "color": "red"}},
    first=1,
)


def test_older_formats_are_upgraded_step_by_step(tmp_path: Path) -> None:
    assert FORMAT.stamp({"litres": 2, "color": "blue"}) == {"format_version": 3, "litres": 2, "color": "blue"}
    assert FORMAT.read(tmp_path, FORMAT.stamp({"litres": 2, "color": "blue"})) == {"litres": 2, "color": "blue"}
    assert FORMAT.read(tmp_path, {"format_version": 2, "litres": 2}) == {"litres": 2, "color": "red"}
    for content in ({"format_version": 1, "volume": 2}, {"volume": 2}):
        assert FORMAT.read(tmp_path, content) == {"litres": 2, "color": "red"}


@pytest.mark.parametrize("content", [{"format_version": 1}, {"format_version": 1, "litres": 2}])
def test_older_files_that_lack_a_part_are_refused(content: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"x does not hold a kettle of format version 1 \(KeyError\('volume'\)\)"):
        FORMAT.read(Path("x"), content)


@pytest.mark.parametrize("content", [{"format_version": 4}, {"format_version": 10**30}])
def test_newer_formats_are_refused(content: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"x has format version \d+ of a kettle, .* reads up to 3; install a newer"):
        FORMAT.read(Path("x"), content)


@pytest.mark.parametrize("version", [0, -1, "3", 3.0, None, True, [3]])
def test_unknown_versions_are_refused(version: object) -> None:
    with pytest.raises(UserError, match="names no known format version of a kettle"):
        FORMAT.read(Path("x"), {"format_version": version})


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_other_content_is_refused(content: object) -> None:
    with pytest.raises(UserError, match="does not hold a kettle"):
        FORMAT.read(Path("x"), content)


def test_every_older_version_needs_an_upgrade() -> None:
    with pytest.raises(AssertionError):
        Format("kettle", 3, {1: dict}, first=1)


def test_public_names_load_when_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    room = ModuleType("room")
    monkeypatch.setitem(sys.modules, "room", room)
    publish_names("room", {"dumps": "json:dumps", "loads": "json:loads"})
    assert "dumps" not in vars(room)
    assert room.dumps is json.dumps
    assert {"dumps", "loads"} <= set(dir(room))
    room.loads = ModuleType("room.loads")  # As the import system does when a command of this name is imported.
    assert room.loads is json.loads
    room.other = 3
    assert room.other == 3
    with pytest.raises(AttributeError, match="module 'room' has no attribute 'absent'"):
        room.absent  # noqa: B018


def test_errors_and_places_import_nothing_heavy() -> None:
    modules = ", ".join(f"shards.base.{name}" for name in ("errors", "places", "files", "formats", "interface"))
    command = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "torch", "jsonargparse", "PIL"} & set(loaded)
