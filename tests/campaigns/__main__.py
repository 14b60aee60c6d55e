"""The command; see the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.base.errors import UserError
from shards.command_line.cli import parse, run
from tests.campaigns.areas import AREAS
from tests.campaigns.campaign import run_campaign
from tests.campaigns.summary import read, tabulate, write


@dataclass
class Config:
    """Options of a campaign."""

    area: str
    """What to attack, or ``all``."""
    cases: int = 300
    """Cases of each area."""
    seed: int = 0
    """Seed of the cases."""
    first: int = 0
    """Number of the first case, to run one again."""
    out: Path | None = None
    """JSON file of the summaries; it keeps those of other areas that it holds."""
    page: Path | None = None
    """Markdown page of the same; needs ``out``."""

    def __post_init__(self) -> None:
        """Raises ValueError for a page without summaries."""
        if self.page and not self.out:
            raise ValueError("--page shows what --out holds; give both.")


def main() -> None:
    """Runs the campaign, prints the table, and fails if there are findings."""
    config = parse(Config, prog="python -m tests.campaigns", description=__doc__ or "", positional=("area",))
    if config.area not in (*AREAS, "all"):
        raise UserError(f"there is no area '{config.area}'; give one of {', '.join(AREAS)}, or all.")
    summaries = []
    for name in AREAS if config.area == "all" else [config.area]:
        tell = lambda line: print(line, flush=True)  # noqa: E731
        summaries.append(run_campaign(name, config.cases, config.seed, config.first, tell))
        if config.out:
            kept = {summary.area: summary for summary in read(config.out)} | {name: summaries[-1]}
            write([kept[area] for area in AREAS if area in kept], config.out, config.page)
    print(tabulate(summaries))
    if any(summary.num_bad for summary in summaries):
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
