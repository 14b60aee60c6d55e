"""The table of a sweep's trials: ``trials.json`` in the sweep's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Predicate

from shards.base.errors import UserError
from shards.base.files import write_bytes
from shards.base.formats import Format
from shards.base.records import Count, as_record, read_json

LEDGER = "trials.json"
FORMAT = Format("table of trials", version=2, upgrades={1: lambda content: content})
"""Version 1 is a bare list of trials; ``read_ledger`` wraps it."""

_NAME = re.compile(r"[\w,=+-][\w.,=+-]*")
"""Of a trial, which is also that of its folders: no path, whoever wrote the table."""
TrialName = Annotated[str, Predicate(lambda name: _NAME.fullmatch(name) is not None)]
Status = Literal["waiting", "running", "finished", "stopped early", "failed"]


@dataclass
class TrialRecord:
    """One trial, as the table holds it."""

    name: TrialName
    """Its number and values; also the name of its run directory below ``trials/``."""
    params: dict[str, Any]
    """Its values of the options that are searched; the last ones if they changed in training."""
    status: Status
    images_seen: Count = 0
    """At its last evaluation."""
    values: dict[str, float] = field(default_factory=dict)
    """Held-out metrics of its last evaluation, with the objective's value as ``score``."""
    num_failures: Count = 0
    """How often it failed, whether it was retried or given up."""
    error: str = ""
    """Why it was given up."""
    took_over_from: list[str] = field(default_factory=list)
    """Trials from whose state it continued, in order."""

    @property
    def score(self) -> float | None:
        """The objective's value; None if nothing was measured."""
        return self.values.get("score")


@dataclass
class _Ledger:
    trials: list[TrialRecord]


def write_ledger(out: Path, records: Sequence[TrialRecord]) -> None:
    """Replaces the table."""
    content = FORMAT.stamp({"trials": [asdict(record) for record in records]})
    # Not write_json, which refuses a metric that is not finite.
    write_bytes(out / LEDGER, (json.dumps(content, indent=1) + "\n").encode(), durable=False)


def read_ledger(out: Path) -> list[TrialRecord]:
    """Reads the table.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    file, advice = out / LEDGER, "rerun the sweep, which writes it again"
    if not file.is_file():
        raise UserError(f"{out} holds no sweep; give the --out of python -m tuning.sweep.")
    content = read_json(file, advice)
    if isinstance(content, list):
        content = {FORMAT.key: 1, "trials": content}
    return as_record(FORMAT.read(file, content, advice), _Ledger, file, advice).trials


def ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Best first; those without a score, and those that failed, last."""

    def order(record: TrialRecord) -> tuple[bool, bool, float, str]:
        score = record.score
        return (record.status == "failed", score is None, 0.0 if score is None else score, record.name)

    return sorted(records, key=order)


def table(records: Sequence[TrialRecord]) -> str:
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
