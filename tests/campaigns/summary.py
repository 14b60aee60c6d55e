"""Counts of a campaign, and its findings, as JSON and Markdown."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.campaigns.oracle import BAD, GOOD

_INTRODUCTION = """# Campaigns

What came of the bad inputs that [`tests/campaigns`](security.md#how-it-is-tested) draws. A row is one command, such as

```sh
python -m tests.campaigns data_sets --cases 2000 --seed 0
```

*Refused* is one sentence and exit code 2; *right* is the result of the good input, or one with a warning. The others
are failures: a traceback, another result without a word, more than 20 s, a file outside the given folders, too much
memory, and a refusal that is not one sentence. *Longest* is the time of the slowest case, *memory* the most that a case
added.
"""


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
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    commit: str = field(default_factory=lambda: _commit())

    @property
    def num_bad(self) -> int:
        """Cases that ended in none of the good ways."""
        return sum(self.counts.get(outcome, 0) for outcome in BAD)


def tabulate(summaries: Sequence[Summary]) -> str:
    """The summaries as a Markdown table."""
    lines = [f"| area | seed | cases | {' | '.join((*GOOD, *BAD))} | longest | memory | date | commit |"]
    lines.append("|---|" + "---:|" * (len(GOOD) + len(BAD) + 4) + "---|---|")
    for summary in summaries:
        counts = " | ".join(str(summary.counts.get(outcome, 0)) for outcome in (*GOOD, *BAD))
        lines.append(
            f"| {summary.title} | {summary.seed} | {summary.cases} | {counts} | {summary.longest_sec:.1f} s "
            f"| {summary.peak_mib:.0f} MiB | {summary.date} | `{summary.commit}` |"
        )
    return "\n".join(lines)


def page(summaries: Sequence[Summary]) -> str:
    """A Markdown page with the table, and the findings below it, one a line."""
    findings = [
        f"* {summary.area} {finding.number}, {finding.outcome}: {finding.case}: {finding.detail}"
        for summary in summaries
        for finding in summary.findings
    ]
    return "\n".join([_INTRODUCTION, tabulate(summaries), *[""] * bool(findings), *findings]) + "\n"


def read(out: Path) -> list[Summary]:
    """The summaries that ``write`` wrote; none without the file."""
    if not out.is_file():
        return []
    areas = json.loads(out.read_text())["areas"]
    return [Summary(**{**area, "findings": [Finding(**item) for item in area["findings"]]}) for area in areas]


def write(summaries: Sequence[Summary], out: Path, page_file: Path | None) -> None:
    """Writes the summaries as JSON and, if asked for, as a page."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"areas": [asdict(summary) for summary in summaries]}, indent=1, default=repr) + "\n")
    if page_file:
        page_file.write_text(page(summaries))


def count(outcomes: Sequence[str]) -> dict[str, int]:
    """How often each outcome occurred."""
    return dict(Counter(outcomes))


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
