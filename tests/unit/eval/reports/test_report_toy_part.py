"""A part of a report in a package of its own: one number and one picture, seen in every file that a report writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import eval
from eval.reports import registry
from eval.reports.output.schema import report_schema
from eval.reports.part import Part, RunPicture, Setup, SideBySide
from eval.reports.results import Measure, Metric
from tiny_runs import untrained_run

TOY = """
from dataclasses import dataclass

from eval.drawing import svg
from eval.reports.part import Drawing, Part, RunPicture
from eval.reports.results import Measure, Metric
from eval.reports.statistic import Statistic


@dataclass
class Brightness:
    count: int = 0
    total: float = 0.0

    def update(self, batch):
        self.count += len(batch.images)
        self.total += float(batch.images.mean(dim=(1, 2, 3)).sum())

    def merge(self, other):
        return Brightness(self.count + other.count, self.total + other.total)

    def mean(self):
        return self.total / self.count


BRIGHTNESS = Statistic(lambda model, report: Brightness(), Brightness.update, Brightness.mean)


def measure(run):
    return {"brightness": Measure(run[BRIGHTNESS])}


def picture(run):
    return Drawing(svg.document(10, 10, "toy", []), f"Brightness of {run.label}: {run[BRIGHTNESS]:.3f}.")


PART = Part(
    name="brightness",
    content="mean brightness of the split",
    rows=[Metric("brightness", "Toy brightness", "Toys", "", "", ".3f", "mean over the split")],
    summary=["brightness"],
    measure=measure,
    statistics=[BRIGHTNESS],
    group="Toys",
    pictures=[RunPicture("brightness.svg", "Toy picture", picture)],
)
"""


@pytest.fixture
def parts() -> Iterator[dict[str, Part]]:
    """The registered parts; the test's own are removed afterwards."""
    kept = dict(registry.PARTS)
    yield registry.PARTS
    registry.PARTS.clear()
    registry.PARTS.update(kept)


@pytest.mark.usefixtures("parts")
def test_a_toy_part_is_in_the_page_the_markdown_and_the_json(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "__init__.py").touch()
    (tmp_path / "toys" / "brightness.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    registry.register(import_module("toys.brightness").PART)
    runs = [untrained_run(tmp_path / family, tiny_dataset, family) for family in ("vae", "dcgan")]

    report = eval.report(runs, tiny_dataset, tmp_path / "out", only=["brightness", "latent"], device="cpu")

    value = report.runs[0].measures["brightness"].value
    assert value is not None and -1 < value < 1
    assert report.runs[1].measures["brightness"].value == value, (
        "images are those of the split, whatever the model does"
    )
    assert report.runs[0].measures["mse"] == Measure(reason="skipped")
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    for shown in ("Toy brightness", "Toy picture", f"Brightness of vae: {value:.3f}."):
        assert shown in page and shown in text
    assert f"{value:.3f}" in page.split('id="summary"')[1].split("</section>")[0]
    assert content["runs"][0]["measures"]["brightness"]["value"] == pytest.approx(value)
    assert content["metrics"][-1]["key"] == "brightness" and "brightness" not in content["skipped"]
    assert {"file": "vae-brightness.svg", "group": "Toys"}.items() <= content["runs"][0]["pictures"][-1].items()
    assert (tmp_path / "out" / "figures" / "vae-brightness.svg").is_file()
    Draft202012Validator(report_schema()).validate(content)


def row(key: str = "toy") -> Metric:
    return Metric(key, "Toy", "Toys")


def make(*_: Any) -> Any:
    raise AssertionError("a part is checked without being run")


def picture(file: str = "toy.png", **options: Any) -> RunPicture:
    return RunPicture(file, "Toy", make, **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rows": [row()]}, "rows and no measure"),
        ({"measure": make}, "a measure and no rows"),
        ({}, "it shows nothing"),
        ({"rows": [row()], "measure": "mean"}, "must be callable"),
        ({"pictures": [RunPicture("toy.png", "Toy", None)], "group": "Toys"}, "must be callable"),  # type: ignore[arg-type]
        ({"pictures": [picture()]}, "have no group"),
        ({"pictures": [picture("toy.jpg")], "group": "Toys"}, "toy.jpg must end in .png, .svg, .webp"),
        ({"pictures": [picture(needs=("encode", "fly"))], "group": "Toys"}, "models know no fly"),
        ({"pictures": [picture()], "group": "Toys", "needs": ("swim",)}, "models know no swim"),
        ({"rows": [row()], "measure": make, "summary": ["tyo"]}, "summary names keys"),
        ({"compare": SideBySide("Toys", make), "prepare": Setup("toys", make)}, "prepares what no measure uses"),
        ({"rows": [row()], "measure": make, "name": "Toy part"}, "lower-case"),
        ({"rows": [row()], "measure": make, "content": ""}, "no content"),
    ],
)
def test_what_a_part_lacks_is_an_error_when_it_is_made(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Part(**{"name": "toy", "content": "a toy", **options})


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (Part(name="cost", content="a toy", rows=[row()], measure=make), "has a part 'cost' already"),
        (Part(name="toy", content="a toy", rows=[row("mse")], measure=make), "a row 'mse' already"),
        (Part(name="toy", content="a toy", rows=[row(), row()], measure=make), "a row 'toy' already"),
        (
            Part(name="toy", content="a toy", pictures=[picture("tsne.png")], group="Toys"),
            "a picture 'tsne.png' already",
        ),
    ],
)
def test_what_is_taken_is_an_error_when_a_part_is_registered(parts: dict[str, Part], part: Part, problem: str) -> None:
    before = list(parts)
    with pytest.raises(ValueError, match=problem):
        registry.register(part)
    assert list(parts) == before
