"""Runs the cases of one area."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.campaigns.area import Area, Case, Change
from tests.campaigns.areas import AREAS
from tests.campaigns.oracle import GOOD, Oracle, Verdict
from tests.campaigns.shrinking import shrink
from tests.campaigns.summary import Finding, Summary, count

_MAX_SHRUNK = 3
"""Findings of one kind at one place that are made small; the others are most likely the same."""


def run_campaign(
    name: str, cases: int, seed: int, first: int = 0, tell: Callable[[str], None] = lambda line: None
) -> Summary:
    """Judges the cases ``first`` to ``first + cases - 1`` of an area.

    Args:
        name: One of ``AREAS``.
        cases: Number of cases.
        seed: With the case's number, it decides everything about a case.
        first: Number of the first case.
        tell: Gets a line for each finding.
    """
    started_sec = time.monotonic()
    verdicts, findings, seen = [], [], dict[str, int]()
    with tempfile.TemporaryDirectory(prefix="campaign-") as root:
        area = _make(name, Path(root))
        try:
            oracle = Oracle(area, Path(root) / "given" / "scratch")
            for number in range(first, first + cases):
                rng = random.Random(f"{name} {seed} {number}")
                use = rng.choice(area.uses)
                case = Case(use, area.draw(rng, use))
                verdict = oracle.judge(case)
                verdicts.append(verdict)
                if verdict.outcome in GOOD:
                    continue
                place = f"{verdict.outcome} {verdict.detail.rsplit(' ', 1)[-1]}"
                seen[place] = seen.get(place, 0) + 1
                if seen[place] <= _MAX_SHRUNK:
                    findings.append(_finding(oracle, number, case, verdict))
                    tell(f"{name} {number} {verdict.outcome}: {findings[-1].case}: {verdict.detail}")
        finally:
            area.close()
    return Summary(
        name,
        area.title,
        seed,
        first,
        cases,
        count([verdict.outcome for verdict in verdicts]),
        max((verdict.seconds for verdict in verdicts), default=0.0),
        max((verdict.peak_mib for verdict in verdicts), default=0.0),
        round(time.monotonic() - started_sec, 1),
        findings,
    )


def _make(name: str, root: Path) -> Area:
    home, bait = root / "home", root / "given" / "bait"
    home.mkdir()
    bait.mkdir(parents=True)
    (bait / "secret").write_text("Nothing may read or change this.")
    return AREAS[name](home, bait)


def _finding(oracle: Oracle, number: int, case: Case, verdict: Verdict) -> Finding:
    def fails(changes: Sequence[Change]) -> bool:
        return oracle.judge(case._replace(changes=changes)).outcome == verdict.outcome

    if verdict.outcome != "hang":  # Each try would hang again.
        case = case._replace(changes=shrink(case.changes, fails))
    return Finding(number, verdict.outcome, verdict.detail, str(case))
