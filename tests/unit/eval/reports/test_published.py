"""Published numbers beside a report's own."""

from __future__ import annotations

from pathlib import Path

import pytest

import eval
from eval.reports.comparisons.published import read_published
from shards.base.errors import UserError
from tiny_runs import untrained_run

ENTRY = "- {name: GAN, number: FID, value: 2.84, source: 'A 2020, table 1', protocol: FFHQ}\n"


def test_published_numbers_are_shown_as_not_measured_here(tiny_dataset: Path, tmp_path: Path) -> None:
    run, file = untrained_run(tmp_path / "run", tiny_dataset), tmp_path / "published.yaml"
    file.write_text(ENTRY)
    options = {"only": ["reconstruction"], "baselines": [], "device": "cpu"}
    report = eval.report(run, tiny_dataset, tmp_path / "out", published=str(file), **options)
    (table,) = report.tables
    assert table.rows == [["GAN", "A 2020, table 1", "FFHQ", "FID", "2.84"]]
    for name in ("report.html", "report.md"):
        assert "not measured here" in (tmp_path / "out" / name).read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- {name: GAN, number: FID, value: 2.84, protocol: FFHQ}", r"\[0\].source is missing; list entries with name"),
        ("- {name: GAN, number: FID, value: low, source: A, protocol: B}", r"\[0\].value should be a valid number"),
        ("name: GAN", "should be a valid array"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=problem):
        read_published(str(file))
