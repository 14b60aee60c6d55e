"""A ``report.json`` that was damaged or comes from somebody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.reports.results import read_report
from shards.base.errors import DamagedFile

OLD = Path(__file__).parents[3] / "fixtures" / "release_0_1" / "report.json"


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda r: r.update(runs=[]), "runs should have at least 1 item"),
        (lambda r: r["runs"][0].update(step=-1), r"runs\[0\].step should be .*, not -1"),
        (lambda r: r["runs"][0]["measures"].popitem(), "runs lack the measure"),
        (lambda r: r["metrics"][0].update(better="bigger"), r"metrics\[0\].better should be .*, not 'bigger'"),
        (lambda r: r["metrics"][0].update(format="%q"), r"metrics\[0\].format"),
        (lambda r: r.pop("title"), "title is missing"),
        (lambda r: r.update(extra=1), "extra is not a field"),
        (lambda r: r["runs"][0]["pictures"].append({"file": 5, "title": ""}), "file should be a valid string, not 5"),
    ],
)
def test_the_sentence_names_field_and_value(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], finding: str
) -> None:
    content = json.loads(OLD.read_text())
    edit(content)
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=f"report.json: .*{finding}.*; make the report again"):
        read_report(tmp_path / "report.json")


def test_an_old_report_is_read() -> None:
    assert read_report(OLD).runs[0].measures
