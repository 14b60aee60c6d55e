"""Disks that refuse, and names, links and dates that nobody expects: packing, sampler fits, exports and indexes.

A fault is one error of one call that creates, opens for writing, renames, deletes or makes a file durable, or a disk
that is full after so many bytes. The command must say so in one sentence, and once the fault is gone the same command
must give the same files.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from PIL import Image

from facegen import fit_sampler
from shards import index, inspect, label
from shards.command_line import cli
from shards.pack import main as pack
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.areas.labels import write_labeling
from tests.campaigns.areas.runs import OLD
from tests.campaigns.watching import WRITE_EVENTS, is_write

_ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES", "EDQUOT")
_NAMES = (
    "\udcff.png", "a\nb.png", "a\tb.png", " .png", "a .png", "ä.png", "a\u0301.png", "-rf.png", "--help.png",
    "$(id).png", "a'b\".png", "a;b.png", "%s.png", "x" * 250 + ".png", "con.png", ".png", "..png", "a.b.c.png",
    "__a__.png", "a.PNG", "A.png", "\u202egnp.png", "\u2028.png", "#.png", "\x01.png", "\x7f.png", "~.png", "*.png",
    "[a].png", "a\\b.png", "\U0001f600.png", "a,b.png",
)  # fmt: skip
_PLACES = (
    "link to folder above",
    "link to secret",
    "dangling link",
    "link to itself",
    "pipe.png",
    "socket.png",
    "empty folder.png",
)
_TIMES = (0, -1, 2**31, 2**33, 4_102_444_800)


class Disks(Area):
    """Commands that write, over a folder of 16 images, a small data set, an old run and a labeling."""

    title = "full, read-only and forbidden disks, links, clocks, names"
    uses = ("pack", "pack", "pack", "index", "inspect", "export", "fit")

    def __init__(self, home: Path, bait: Path) -> None:
        """Makes the inputs, and counts what each command writes."""
        super().__init__(home, bait)
        (home / "images").mkdir()
        rng = np.random.default_rng(0)
        for number in range(16):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(home / "images" / f"face{number:02d}.png")
        write_labeling(home / "labeling", [f"face{number:02d}.png" for number in range(12)])
        sys.addaudithook(_fail)

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """A fault, or odd names, places and dates of files."""
        if use == "pack" and rng.random() < 0.5:
            return [self._draw_file(rng) for _ in range(rng.choice((1, 2, 4)))]
        if rng.random() < 0.25:
            return [Change("full", "bytes", rng.choice((0, 1, 100, 512, 1000, 3000, 10_000, 20_000)))]
        return [Change("fault", rng.choice(_ERRORS), rng.randrange(40))]

    def _draw_file(self, rng: random.Random) -> Change:
        how = rng.random()
        if how < 0.6:
            return Change("name", rng.choice(("", "sub/", "\udc80dir/", "a\nb/")), rng.choice(_NAMES))
        return (
            Change("place", "", rng.choice(_PLACES)) if how < 0.85 else Change("date", "face00.png", rng.choice(_TIMES))
        )

    def use(self, folder: Path, case: Case) -> Any:
        """Runs the command with the fault, which must be refused, then without it."""
        images = Path(shutil.copytree(self.home / "images", folder / "images"))
        if case.use in ("index", "inspect"):
            shutil.copytree(OLD / "dataset", folder / "data")
        if case.use == "fit":
            shutil.copytree(OLD / "run", folder / "run")
        for change in case.changes:
            _change_folder(images, self.bait, change)
        for change in case.changes:
            if change.kind in ("fault", "full"):
                with _faulty(change):
                    refusal = _refusal(lambda: _COMMANDS[case.use](folder, self.home))
                if refusal not in (0, 2):
                    raise AssertionError(f"exit code {refusal}")
        _COMMANDS[case.use](folder, self.home)
        return _digests(folder)

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """The same files after a fault; files with odd names are all packed, under some key."""
        added = {str(c) for c in case.changes if c.kind == "name"}
        if not added:
            return found == good
        return f"{16 + len(added)} images" in said or "skipped" in said.lower() or "left out" in said


def _pack(folder: Path, home: Path) -> None:
    options = ["--size", "8", "--samples_per_shard", "8", "--workers", "1", "--seed", "1", "--codec", "raw"]
    pack(["folder", str(folder / "images"), str(folder / "data"), *options])


def _fit(folder: Path, home: Path) -> None:
    arguments = ["fit_sampler", "gaussian", str(folder / "run"), "--data", str(OLD / "dataset"), "--name", "mine"]
    with mock.patch.object(sys, "argv", arguments):
        fit_sampler.main()


_COMMANDS = {
    "pack": _pack,
    "fit": _fit,
    "index": lambda folder, home: index.main([str(folder / "data"), "--replace"]),
    "inspect": lambda folder, home: inspect.main(
        [str(folder / "data"), "--card", str(folder / "card"), "--max_images", "8"]
    ),
    "export": lambda folder, home: label.main(["export", str(home / "labeling"), str(folder / "degrees.csv")]),
}


def _refusal(command: Any) -> object:
    """Exit code of a command whose errors are judged here: 0 where the fault did not reach it."""
    try:
        cli.run(command)
    except SystemExit as end:
        return end.code
    return 0


class _Fault:
    """The next fault; None while there is none."""

    number: int | None = None
    error = 0
    count = 0
    undeleted: ClassVar[set[str]] = set()
    """Files that the disk has refused to delete, so that they stay."""

    @classmethod
    def strike(cls, deleting: str | None = None) -> None:
        """Fails if it is this call's turn, as the disk would."""
        if cls.number is None:
            return
        cls.count += 1
        if cls.count > cls.number:
            cls.number = None
            if deleting is not None:
                cls.undeleted.add(deleting)
            raise OSError(cls.error, os.strerror(cls.error))


def _fail(event: str, arguments: tuple[Any, ...]) -> None:
    if _Fault.number is not None and (event in WRITE_EVENTS or (event == "open" and is_write(arguments))):
        path = os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else "/dev/"
        if not path.startswith(("/dev/", "/proc/")):
            _Fault.strike(path if event == "os.remove" else None)


@contextmanager
def _faulty(change: Change) -> Iterator[None]:
    """A disk that fails once, or one that is full from then on."""
    if change.kind == "full":
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (change.value, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        return
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        _Fault.strike()
        fsync(descriptor)

    _Fault.number, _Fault.error, _Fault.count = change.value, getattr(errno, change.where), 0
    try:
        with mock.patch.object(os, "fsync", failing):
            yield
    finally:
        _Fault.number = None


def _change_folder(images: Path, bait: Path, change: Change) -> None:
    if change.kind == "name":
        path = images / change.where / change.value
        path.parent.mkdir(exist_ok=True)
        shutil.copy(images / "face01.png", path)
    elif change.kind == "date":
        os.utime(images / change.where, (change.value, change.value))
    elif change.kind == "place":
        path = images / (change.value if "." in change.value or "above" in change.value else f"{change.value}.png")
        if path.exists() or path.is_symlink():
            return
        if "link" in change.value:
            targets = {"link to folder above": images, "link to secret": bait / "secret", "link to itself": path}
            path.symlink_to(targets.get(change.value, "gone"))
        elif "pipe" in change.value:
            os.mkfifo(path)
        elif "socket" in change.value:
            os.mknod(path, 0o140600)
        else:
            path.mkdir()


def _digests(folder: Path) -> dict[str, str]:
    """Every file that a command has written, but locks and what the disk would not delete."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.is_relative_to(folder / "images")
        and not path.name.endswith(".lock")
        and str(path) not in _Fault.undeleted
    }
