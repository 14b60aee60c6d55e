"""What came of kills, kept on disk so that a rerun continues behind them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.base.errors import UserError
from shards.base.files import write_bytes


class NotSurvivedError(AssertionError):
    """A kill cost more than the work since the last save."""


@dataclass(frozen=True)
class Kill:
    """One life, and its end. The fields from ``started_at`` on are of trainings."""

    kill: str
    moment: str
    end_sec: float
    """Seconds from the kill to the end of all processes."""
    started_at: int | None = None
    """Images at which it resumed; None if it was killed before that."""
    newest_before: int = 0
    """Images of the newest checkpoint at the moment of the kill; 0 without one."""
    newest_after: int = 0
    """The same after all processes had ended."""
    has_saved: bool = False
    """Whether it saved before it ended."""
    left_unfinished: bool = False
    """Whether something unfinished was left, which the next life removes."""


@dataclass(frozen=True)
class Survival:
    """The outcome for one victim."""

    victim: str
    seed: int
    images: int
    """Images of the last checkpoint of a training; 0 for others."""
    kills: list[Kill]
    differing: list[str]
    """Tensors, files or trials that differ from an undisturbed run's."""


class Progress:
    """The kills of one victim so far."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Reads those of an earlier command.

        Raises:
            UserError: It had another seed.
        """
        self._file = folder / "kills.json"
        self._seed = seed
        content = json.loads(self._file.read_text()) if self._file.exists() else {"seed": seed, "kills": []}
        if content["seed"] != seed:
            raise UserError(f"{folder} holds kills of seed {content['seed']}; give it, or another --work.")
        self.kills = [Kill(**values) for values in content["kills"]]

    def add(self, kill: Kill) -> None:
        """Remembers a kill."""
        self.kills.append(kill)
        content = {"seed": self._seed, "kills": [asdict(kill) for kill in self.kills]}
        write_bytes(self._file, json.dumps(content).encode(), durable=False)


def table(survivals: Sequence[Survival]) -> str:
    """The results as Markdown: a line for each kind of kill, and one for all."""
    lines = ["| victim | seed | killed | kills | saved first | cut off in writing | longest end | images | differs |"]
    lines += ["|---|---:|---|---:|---:|---:|---:|---:|---:|"]
    for survival in survivals:
        for kill in (*sorted({end.kill for end in survival.kills}), ""):
            kills = [end for end in survival.kills if kill in ("", end.kill)]
            if not kills:
                continue
            saved = sum(end.has_saved for end in kills)
            cut_off = sum(end.left_unfinished and end.moment == "writing" for end in kills)
            row = f"| {survival.victim} | {survival.seed} | {kill or '**all**'} | {len(kills)} | {saved} | {cut_off} "
            row += f"| {max(end.end_sec for end in kills):.1f} s |"
            lines.append(row + (" | |" if kill else f" {survival.images:,} | {len(survival.differing)} |"))
    return "\n".join(lines)
