"""Command lines, YAML files of options, and spaces of sweeps: read, and trainings built, but nothing is trained."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from eval.bias import BiasConfig
from eval.reports.options import ReportConfig
from eval.studio.options import StudioConfig
from facegen.config import PRESETS, config_class, parse_args
from facegen.families import FAMILIES
from facegen.option_values import to_dict
from facegen.training.assembly import build_family
from shards.command_line.cli import parse
from shards.dataset.dataset import Dataset
from shards.index import IndexConfig
from shards.inspect import InspectConfig
from shards.label import ExportConfig, ServeConfig
from shards.pack import packing_class
from shards.sources import SOURCES
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.areas.runs import OLD
from tests.campaigns.damage import HOSTILE_VALUES, draw_bytes, make
from tuning.search.space import SPACES, read_space, space_to_dict
from tuning.sweep_config import SweepConfig

_OTHERS: dict[type, list[str]] = {
    InspectConfig: ["--root=a"],
    IndexConfig: ["--root=a"],
    ServeConfig: ["--images=a", "--folder=b"],
    ExportConfig: ["--folder=a", "--out=b"],
    SweepConfig: ["--space=kld_asha", "--data=a", "--out=b"],
    ReportConfig: ["--runs=[a]", "--data=b"],
    BiasConfig: ["--runs=[a]", "--data=b"],
    StudioConfig: ["--runs=[a]"],
    **{packing_class(SOURCES[name].config_class): ["--output=o"] for name in ("synthetic", "folder", "lfw", "hf")},
}
_TEXTS = (
    "1_000", "0x10", "1e400", "-1e400", "NaN", ".inf", "1e-320", "010", "1:30", "yes", "~", "[", "{", "}", "'", '"',
    "&a [*a]", "!!python/object/apply:os.system [id]", "*x", "- -", "{a: 1, a: 2}", "@x", "\t", "=", "\ufeff1", "١",
    "1,2", "[1,[2]]", "99999999999999999999", "-0", "+1", "1.", ".5", "1e3", "null", "None", "2147483648", "1000000",
    "[32, 64]", "true ",
)  # fmt: skip
_FILES = (
    "a: &a [*a]\n", "a: &a {b: *a}\n", "--- 1\n--- 2\n", "? [a]\n: 1\n", "\t\n", "%YAML 9.9\n---\n", "!!binary x",
    "[" * 3000, "{a: " * 2000,
    "\n".join(["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]),
    "seed: " + "9" * 5000, "<<: {seed: 1}\n", "<<: [1]\n", "seed: !!int 'x'\n", "seed: 2001-01-01\n", "optim: -1\n",
    "model: -1\n", "optim:\n", "model: []\n", "data: [a]\n", "run: {}\n", "null", "[]", "0", "''",
    "seed: 1\nseed: 2\n", "1: 2\n", "config: x.yaml\n", "seed: !!python/name:os.system\n", "seed: 2020-13-45\n",
    "seed: 1__0\n", "seed: 0b1\n", "? ", "seed: .nan\n", "~: 1\n",
)  # fmt: skip
"""YAML at its edges; some are good."""


class CommandLines(Area):
    """Options that exist with values that may not, and the other way around."""

    title = "YAML, command lines, spaces"
    uses = ("train", "train", "file", "file", "preset", "build", "space", "space", "shipped space", "other", "other")

    def __init__(self, home: Path, bait: Path) -> None:
        """Lists every option of every family, and of the other commands."""
        super().__init__(home, bait)
        self._options = {family: dict(_flat(_defaults(family))) for family in FAMILIES}
        self._presets, self._spaces = sorted(PRESETS.glob("*.yaml")), sorted(SPACES.glob("*.yaml"))
        self._dataset = Dataset(OLD / "dataset")

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """A family or a file, and one or two options or changes of its text."""
        if use == "other":
            kind = rng.choice(list(_OTHERS))
            names = [item.name for item in dataclasses.fields(kind)]
            return [Change("command", kind.__name__), *[Change("option", rng.choice(names), _text(rng))]]
        if use in ("preset", "shipped space"):
            path = rng.choice(self._presets if use == "preset" else self._spaces)
            return [Change("copy", path.name), draw_bytes(rng, "given.yaml", path.stat().st_size)]
        family = rng.choice(list(FAMILIES))
        first = Change("family", family)
        if use in ("file", "space") and rng.random() < 0.3:
            return [first, Change("text", "given.yaml", rng.choice(_FILES))]
        names = list(self._options[family]) if use != "space" else _SPACE_OPTIONS
        kinds = ("option",) if use in ("train", "build") else ("value", "value", "option")
        changes = [Change(rng.choice(kinds), _name(rng, names), None) for _ in range(rng.choice((1, 1, 2)))]
        return [first, *[c._replace(value=_value(rng) if c.kind == "value" else _text(rng)) for c in changes]]

    def use(self, folder: Path, case: Case) -> Any:
        """Reads the options, and returns them all by their dotted names."""
        named = {change.kind: change.where for change in case.changes}
        family, file = named.get("family", "vae"), folder / "given.yaml"
        arguments = [f"--{c.where}={c.value}" for c in case.changes if c.kind == "option"]
        if case.use == "other":
            kind = next((kind for kind in _OTHERS if kind.__name__ == named.get("command")), InspectConfig)
            needed = [word for word in _OTHERS[kind] if not word.startswith(tuple(_heads(arguments)))]
            return dict(_flat(to_dict(parse(kind, prog="program", description="", args=[*needed, *arguments]))))
        self._write(file, case, family)
        if "space" in case.use:
            return dict(_flat(space_to_dict(read_space(str(file)))))
        files = ["--config", str(file)] if file.exists() else []
        given = [f"--{change.where}=" for change in case.changes if change.kind in ("option", "value")]
        needed = [word for word in ("--data=d", "--run=r") if not word.startswith(("\0", *given))]
        if case.use == "preset":
            family = yaml.safe_load((PRESETS / named["copy"]).read_text())["family"] if "copy" in named else family
        config = parse_args([family, *files, *needed, *arguments])
        if case.use == "build":
            build_family(config, self._dataset)
        return dict(_flat(to_dict(config)))

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """What was given is what is set."""
        asked = {c.where: c.value for c in case.changes if c.kind in ("option", "value")}
        for name, value in asked.items():
            sections = {key: part for key, part in found.items() if key == name or key.startswith(f"{name}.")}
            if not sections or (name in sections and not _is_same(value, sections[name])):
                return False
        return True

    def _write(self, file: Path, case: Case, family: str) -> None:
        content: dict[str, Any] = {}
        if "space" in case.use:
            content = {"family": family, "search": {"seed": {"grid": [1, 2]}}, "max_images": 100}
        for change in case.changes:
            if change.kind == "copy":
                folder = PRESETS if case.use == "preset" else SPACES
                file.write_bytes((folder / change.where).read_bytes())
            elif change.kind == "text":
                file.write_text(change.value)
            elif change.kind == "value" or (change.kind == "option" and "space" in case.use):
                _set(content, change.where, change.value)
            elif change.kind not in ("family", "option"):
                make(change, file.parent)
        if content and not file.exists():
            file.write_text(yaml.safe_dump(content), errors="surrogateescape")


_SPACE_OPTIONS = [
    "family", "preset", "options", "search", "max_images", "evaluate_every_images", "objective.metric",
    "objective.rate", "objective", "scheduler", "scheduler.kind", "scheduler.grace_images",
    "scheduler.reduction_factor", "scheduler.quantile_fraction", "searcher", "num_samples", "seed", "search.seed",
    "search.seed.grid", "search.seed.choice", "search.seed.uniform", "search.seed.loguniform", "search.seed.integers",
    "search.nothing.grid", "options.seed", "options.optim", "options.optim.lr", "scheduler.perturb_every_images",
]  # fmt: skip


@functools.cache
def _defaults(family: str) -> dict[str, Any]:
    return to_dict(config_class(family)(data="d", run="r"))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _set(content: dict[str, Any], name: str, value: Any) -> None:
    """Sets a dotted name, in place of what stood there."""
    *sections, last = name.split(".")
    for section in sections:
        if not isinstance(content.get(section), dict):
            content[section] = {}
        content = content[section]
    content[last] = value


def _heads(arguments: list[str]) -> Iterator[str]:
    yield "\0"
    yield from (argument.partition("=")[0] + "=" for argument in arguments)


def _name(rng: random.Random, names: list[str]) -> str:
    name = rng.choice(names)
    how = rng.random()
    if how < 0.05:
        place = rng.randrange(len(name))
        return name[:place] + rng.choice("x._-") + name[place + 1 :]
    return name.rpartition(".")[0] or name if how < 0.12 else name


def _value(rng: random.Random) -> Any:
    return rng.choice(HOSTILE_VALUES)


def _text(rng: random.Random) -> str:
    value = rng.choice(_TEXTS) if rng.random() < 0.6 else rng.choice(HOSTILE_VALUES)
    return value if isinstance(value, str) else str(value)


def _is_same(asked: Any, found: Any) -> bool:
    """Whether a value is a plausible reading of what was given."""
    readings = [asked]
    if isinstance(asked, str):
        readings += [asked.strip(), *_numbers(asked)]
        with suppress(Exception):  # Otherwise only the text itself may be meant.
            readings.append(yaml.safe_load(asked))
    elif isinstance(asked, int | float):
        readings += _numbers(str(asked))
    plain = [*found] if isinstance(found, tuple) else found
    return any(
        reading == plain
        or str(reading) == str(plain)
        or (isinstance(reading, float) and isinstance(plain, float) and math.isnan(reading) and math.isnan(plain))
        or (isinstance(reading, dict) and reading == {} and plain is None)
        for reading in readings
    )


def _numbers(text: str) -> list[Any]:
    found: list[Any] = []
    for kind in (int, float):
        try:
            found.append(kind(text))
        except (ValueError, OverflowError):
            continue
    return found
