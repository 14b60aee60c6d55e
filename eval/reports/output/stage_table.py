"""The table of how long a report took."""

from __future__ import annotations

from collections.abc import Sequence

from eval.reports.results import Stage, TextTable

_SHOWN_SECONDS = 0.05


def stage_table(stages: Sequence[Stage]) -> TextTable:
    """Seconds and peak memory of each stage, and in total."""
    rows = [
        _row(stage.run or "all runs", stage.name, stage.seconds, stage.peak_rss_mib)
        for stage in stages
        if stage.seconds >= _SHOWN_SECONDS
    ]
    peak = max((stage.peak_rss_mib for stage in stages), default=0.0)
    rows.append(_row("total", "", sum(stage.seconds for stage in stages), peak))
    caption = (
        "Of the main process: seconds on the clock, and peak resident memory within each stage, libraries and all "
        "models included. Images pass through in batches. Very short stages are left out."
    )
    return TextTable("How long it took", caption, ["run", "stage", "seconds", "peak MiB"], rows, num_text_columns=2)


def _row(run: str, name: str, seconds: float, peak: float) -> list[str]:
    return [run, name, f"{seconds:,.1f}", f"{peak:,.0f}"]
