"""Kills programs again and again, and checks that nothing is lost and the result is that of an undisturbed run.

    python -m tests.benchmarks.kills [--victims '[training_1,packing]'] [--num_kills 25] [--work DIR]

``victims`` says what is killed and what must hold. Every kill follows from the seed and its number. With ``--work``, a
rerun of the same command continues behind the kills that are done.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from shards.base.errors import UserError
from shards.command_line.cli import parse, run
from shards.pack import main as pack
from tests.benchmarks.victims import programs, spot, training, uploads
from tests.benchmarks.victims.outcome import NotSurvivedError, Survival, table

ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests" / "fixtures" / "release_0_1"
VICTIMS = ("training_1", "training_2", "training_hosts", *programs.PROGRAMS, "spot", "uploads")


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    victims: list[str] = field(default_factory=lambda: ["training_1", "training_2"])
    """training_1, training_2 (processes), training_hosts (two network namespaces; needs root), packing, report, sweep,
    spot (a packing on a Ray cluster that loses nodes), uploads (of a run to an object store)."""
    num_kills: int = 25
    """Kills of each victim."""
    seed: int = 0
    """Seed of what is killed, how and when."""
    work: Path | None = None
    """Folder to work in, kept; a rerun continues there. A temporary one when null."""
    out: Path = Path(__file__).parent / "results" / "kills.json"
    """File of the results."""


def survive(victim: str, data: Path, folder: Path, config: Config, tell: Callable[[str], None]) -> Survival:
    """Kills one victim as often as the settings say.

    Raises:
        NotSurvivedError: A kill cost more than it may.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if victim.startswith("training_"):
        return training.survive(victim.removeprefix("training_"), data, folder, config.num_kills, config.seed, tell)
    if victim == "spot":
        return spot.survive(folder, config.num_kills, config.seed, tell)
    if victim == "uploads":
        return uploads.survive(folder, config.num_kills, config.seed, tell)
    run_dir = folder / "run"
    if not run_dir.exists():
        shutil.copytree(OLD / "run", run_dir)
    old_data = OLD / "dataset" if victim == "report" else data
    program = programs.PROGRAMS[victim](old_data, run_dir)
    return programs.survive(program, folder, config.num_kills, config.seed, tell)


def main() -> None:
    """Kills, prints a table and writes the results."""
    # Without arguments the parser would print its help.
    arguments = sys.argv[1:] or [f"--num_kills={Config.num_kills}"]
    config = parse(Config, prog="python -m tests.benchmarks.kills", description=__doc__ or "", args=arguments)
    unknown = sorted(set(config.victims) - set(VICTIMS))
    if unknown:
        raise UserError(f"there is no victim {unknown[0]}; give some of {', '.join(VICTIMS)}.")
    started_sec, survivals = time.monotonic(), []
    with tempfile.TemporaryDirectory() if config.work is None else nullcontext(config.work) as scratch:
        data = Path(scratch) / "data"
        if not data.exists():
            pack(["synthetic", str(data), "--num", "256", "--size", "16", "--workers", "1"])
        for victim in config.victims:
            tell = lambda line: print(line, flush=True)  # noqa: E731
            survivals.append(survive(victim, data, Path(scratch) / victim, config, tell))
    print(table(survivals))
    content = {
        "command": " ".join(["python -m tests.benchmarks.kills", *sys.argv[1:]]),
        "minutes": round((time.monotonic() - started_sec) / 60, 1),
        "versions": {name: version(name) for name in ("torch", "accelerate")},
        "victims": [asdict(survival) for survival in survivals],
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(content, indent=1) + "\n")
    if any(survival.differing for survival in survivals):
        raise NotSurvivedError("the result is not that of the undisturbed run")


if __name__ == "__main__":
    run(main)
