"""File names of any bytes on outputs that take only some."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from PIL import Image

from shards.base.errors import Note
from shards.base.printing import lasting_output, printable


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ann_Lee/01.jpg", "Ann_Lee/01.jpg"),
        ("Zoë 李\u200c", "Zoë 李\u200c"),
        (os.fsdecode(b"\xff\xe4.jpg"), r"\xff\xe4.jpg"),
        ("two\nlines\x1b[2J", r"two\nlines\x1b[2J"),
        ("\ud800\u2028", r"\ud800\u2028"),
    ],
)
def test_names_become_valid_text_in_one_line(name: str, text: str) -> None:
    assert printable(name) == text
    text.encode()


def test_prints_succeed_without_a_reader_and_without_an_output(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as dead:
        for stream in (dead, None):
            monkeypatch.setattr(sys, "stdout", stream)
            with lasting_output():
                print("x" * 100_000)
                print("y", flush=True)
                print("z")
            assert sys.stdout is stream


def complaints(printed: str) -> list[str]:
    """What a command printed on its error output, without the progress that it prints on a busy machine."""
    return [line for line in printed.splitlines() if not line.startswith(("packing: ", "reading: "))]


def test_a_command_whose_reader_is_gone_does_its_work(tiny_dataset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_dataset, tmp_path / "copy")
    (copy / "dataset.json").unlink()
    command = [sys.executable, "-m", "shards.index", str(copy), "--split", "train"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert not complaints(process.stderr.read().decode()) and process.wait() == 0
    assert (copy / "dataset.json").is_file()


def test_a_thread_reports_a_full_disk_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "events")

    with lasting_output():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert capsys.readouterr().err == "error: events (No space left on device)\n"


def test_a_note_is_one_line_and_other_warnings_are_as_always(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with lasting_output():
            warnings.warn("the prior\nis wide.", Note, stacklevel=1)
            assert capsys.readouterr().err == "note: the prior\\nis wide.\n"
            with pytest.warns(UserWarning, match="another"):
                warnings.warn("another", stacklevel=1)


def test_packing_files_with_any_names(tmp_path: Path) -> None:
    folder = tmp_path / "images" / os.fsdecode(b"J\xf6rg")
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / os.fsdecode(b"bad\xff\n.jpg")).write_text("x")
    (folder / os.fsdecode(b"notes\xff.txt")).write_text("x")
    command = [sys.executable, "-m", "shards.pack", "folder", tmp_path / "images", tmp_path / "out"]
    command += ["--size", "8", "--workers", "1"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii:strict"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and not complaints(done.stderr)
    assert r"Skipped, not an image: 1 (J\xf6rg/bad\xff\n.jpg)" in done.stdout
    assert r"left out: J\xf6rg/notes\xff.txt" in done.stdout
