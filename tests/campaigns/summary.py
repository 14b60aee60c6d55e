"""Counts of a campaign, and its findings, as JSON and Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.oracle import BAD, GOOD


@dataclass(frozen=True)
class Finding:
    """A case that failed; ``python -m tests.campaigns AREA --seed SEED --first NUMBER --cases 1`` runs it again."""

    number: int
    outcome: str
    detail: str
    case: str
    """Its use, and the fewest and smallest changes that fail in the same way."""


@dataclass
class Summary:
    """One area's row."""

    area: str
    title: str
    seed: int
    first: int
    cases: int
    counts: dict[str, int]
    longest_sec: float
    peak_mib: float
    seconds: float
    findings: list[Finding] = field(default_factory=list)

    @property
    def num_bad(self) -> int:
        """Cases that ended in none of the good ways."""
        return sum(self.counts.get(outcome, 0) for outcome in BAD)


def tabulate(summaries: Sequence[Summary]) -> str:
    """The summaries as a Markdown table, and the findings below it, one a line."""
    lines = [f"| area | seed | cases | {' | '.join((*GOOD, *BAD))} | longest | memory |"]
    lines.append("|---|" + "---:|" * (len(GOOD) + len(BAD) + 4))
    for summary in summaries:
        counts = " | ".join(str(summary.counts.get(outcome, 0)) for outcome in (*GOOD, *BAD))
        lines.append(
            f"| {summary.title} | {summary.seed} | {summary.cases} | {counts} | {summary.longest_sec:.1f} s "
            f"| {summary.peak_mib:.0f} MiB |"
        )
    for summary in summaries:
        lines += [""] * bool(summary.findings)
        for finding in summary.findings:
            lines.append(f"* {summary.area} {finding.number}, {finding.outcome}: {finding.case}: {finding.detail}")
    return "\n".join(lines)


def write(summaries: Sequence[Summary], command: str, out: Path) -> None:
    """Writes ``OUT.json`` and ``OUT.md``."""
    content: dict[str, Any] = {"command": command, "areas": [asdict(summary) for summary in summaries]}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(content, indent=1, default=repr) + "\n")
    out.with_suffix(".md").write_text(tabulate(summaries) + "\n")


def count(outcomes: Sequence[str]) -> dict[str, int]:
    """How often each outcome occurred."""
    return dict(Counter(outcomes))
