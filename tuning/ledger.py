"""The table of a sweep's trials, ``trials.json`` in the sweep's directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from shards.base.errors import UserError

LEDGER = "trials.json"

Status = Literal["waiting", "running", "finished", "stopped early", "failed"]


@dataclass
class TrialRecord:
    """What is known of one trial."""

    name: str
    """Its number and options; also the name of its run directory below ``trials/``."""
    params: dict[str, Any]
    """Its values of the options that are searched; the last ones, where they changed in training."""
    status: Status
    images_seen: int = 0
    """At its last evaluation."""
    values: dict[str, float] = field(default_factory=dict)
    """Held-out metrics of its last evaluation, the objective's value ``score`` among them."""
    num_failures: int = 0
    """How often it broke off and was tried again, or given up."""
    error: str = ""
    """Why it was given up."""
    took_over_from: list[str] = field(default_factory=list)
    """Trials from whose state it went on, in order."""

    @property
    def score(self) -> float | None:
        """The objective's value; None where nothing was measured."""
        return self.values.get("score")


def write_ledger(out: Path, records: list[TrialRecord]) -> None:
    """Replaces the table."""
    temporary = out / f".{LEDGER}.tmp"
    temporary.write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n")
    temporary.replace(out / LEDGER)


def read_ledger(out: Path) -> list[TrialRecord]:
    """Reads the table.

    Raises:
        UserError: It is not there, or is none.
    """
    try:
        return [TrialRecord(**values) for values in json.loads((out / LEDGER).read_text())]
    except FileNotFoundError:
        raise UserError(f"{out} holds no sweep; give the --out of python -m tuning.sweep.") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{out / LEDGER} cannot be read: {error}.") from None


def ranked(records: list[TrialRecord]) -> list[TrialRecord]:
    """Best first; those without a score, and those that failed, last."""

    def order(record: TrialRecord) -> tuple[bool, bool, float, str]:
        score = record.score
        return (record.status == "failed", score is None, 0.0 if score is None else score, record.name)

    return sorted(records, key=order)


def table(records: list[TrialRecord]) -> str:
    """The trials as lines of text, best first."""
    names = list(dict.fromkeys(name for record in records for name in record.values))
    header = ["trial", "status", "images", *names]
    rows = [header]
    for record in ranked(records):
        values = [f"{record.values[name]:.5g}" if name in record.values else "" for name in names]
        rows.append([record.name, record.status, f"{record.images_seen:,}", *values])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += [f"{record.name} failed: {record.error}" for record in records if record.status == "failed"]
    return "\n".join(lines)
