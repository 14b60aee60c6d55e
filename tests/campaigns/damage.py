"""Changes that fit many files: bytes, JSON values, text, and what lies in a file's place."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns.area import Change

HOSTILE_VALUES: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, -(2**63), 10**30, "",
    " ", "0", "x", "../bait/secret", "..", ".", "/etc/passwd", "a/b", "a\0b", "a\nb", "\ud800", "ä" * 300, "x" * 5000,
    "%s%n", "{0}", "$(id)", "<script>", "__class__", "1" * 400, [], [[]], {}, [1, 2], ["x"], {"x": 1}, {"": None},
)  # fmt: skip
"""Values that some reader of JSON or YAML did not expect."""

IN_PLACE_OF_FILES = ("missing", "folder", "pipe", "link to secret", "link to itself", "zeros", "unending", "socket")


def draw_bytes(rng: random.Random, file: str, num_bytes: int) -> Change:
    """A change of a file's bytes: flipped, cut, inserted, doubled or overwritten."""
    kind = rng.choice(("flip", "flip", "flip", "cut", "insert", "overwrite", "append"))
    place = rng.randrange(max(num_bytes, 1))
    if kind == "flip":
        return Change(kind, file, [place, 1 << rng.randrange(8)])
    if kind == "cut":
        return Change(kind, file, rng.choice((0, 1, place, max(num_bytes - 1, 0))))
    return Change(kind, file, [place, rng.randbytes(rng.choice((1, 2, 8, 64, 600))).hex()])


def draw_json(rng: random.Random, file: str, content: Any) -> Change:
    """A change of one value, key or element of a JSON file."""
    path = rng.choice(list(_paths(content)))
    kind = rng.choice(("set", "set", "set", "set", "remove", "add", "nudge"))
    if kind == "nudge":
        return Change(kind, file, [path, rng.choice((-1, 1, 2, 1000))])
    if kind == "add":
        return Change(kind, file, [path, rng.choice(("x", "", "format_version", "__class__")), _hostile(rng)])
    return Change(kind, file, [path, _hostile(rng)] if kind == "set" else [path])


def draw_place(rng: random.Random, file: str) -> Change:
    """Something else in a file's place."""
    return Change("replace", file, rng.choice(IN_PLACE_OF_FILES))


def make(change: Change, root: Path) -> None:
    """Makes a change that one of the functions above has drawn; ``where`` is a path below ``root``."""
    path, value = root / change.where, change.value
    if change.kind == "replace":
        _replace(path, value, root)
    elif not path.is_file() or path.is_symlink():
        return  # An earlier change of this case took it away.
    elif change.kind in ("set", "remove", "add", "nudge"):
        try:
            content = json.loads(path.read_text())
            path.write_text(json.dumps(changed(content, change.kind, value)))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return  # Not JSON any more, or the place is gone.
    else:
        path.write_bytes(damaged(path.read_bytes(), change.kind, value))


def damaged(data: bytes, kind: str, value: Any) -> bytes:
    """Bytes with a change of ``draw_bytes``."""
    if kind == "cut":
        return data[:value]
    if kind == "flip":
        place, mask = value
        return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :] if place < len(data) else data
    place, new = value[0], bytes.fromhex(value[1])
    if kind == "append":
        return data + new
    return data[:place] + new + data[place + (len(new) if kind == "overwrite" else 0) :]


def changed(content: Any, kind: str, value: Any) -> Any:
    """A JSON value with a change of ``draw_json``, in place where that can be.

    Raises:
        KeyError, IndexError, TypeError, AttributeError: An earlier change took the place away.
    """
    path = value[0]
    if not path:
        return value[1] if kind == "set" else content
    parent = content
    for part in path[:-1]:
        parent = parent[part]
    if kind == "set":
        parent[path[-1]] = value[1]
    elif kind == "remove":
        del parent[path[-1]]
    elif kind == "nudge":
        parent[path[-1]] += value[1]
    elif isinstance(parent[path[-1]], dict):
        parent[path[-1]][value[1]] = value[2]
    else:
        parent[path[-1]].append(value[2])
    return content


def _replace(path: Path, value: str, root: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if value == "folder":
        path.mkdir()
    elif value == "pipe":
        os.mkfifo(path)
    elif value == "link to secret":
        path.symlink_to(root.parent / "bait" / "secret")
    elif value == "link to itself":
        path.symlink_to(path)
    elif value == "zeros":
        path.write_bytes(bytes(10_000))
    elif value == "unending":
        path.symlink_to("/dev/zero")
    elif value == "socket":
        os.mknod(path, 0o140600)


def _paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[list[Any]]:
    yield list(path)
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield from _paths(value, (*path, name))


def _hostile(rng: random.Random) -> Any:
    return rng.choice(HOSTILE_VALUES)
