"""The report of a sweep without its trials: the front, the charts, and the page."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from eval.drawing.svg_picture import svg_picture
from tuning.ledger import TrialRecord
from tuning.reports.pareto import pareto_front
from tuning.reports.sweep_page import TrialRow, draw_charts, html
from tuning.reports.trial_scatter import HEIGHT, WIDTH, Legend, Mark, Quantity, scatter

LEGEND = Legend("labels: model.kld_weight", "no trial is better", "the others")


def test_the_front_is_what_nothing_beats() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (3.0, 4.0), (4.0, 1.0), (2.0, 3.0), (2.0, 6.0), (5.0, 1.0)]
    assert pareto_front(points) == [0, 1, 4, 3]
    assert pareto_front([]) == []


def test_a_chart_has_a_link_at_each_point_and_its_picture_has_the_same_points() -> None:
    marks = [Mark(f"trial <{n}>", f"../reports/{n}/report.html") for n in range(3)]
    x, y = Quantity("KL weight", [0.001, 0.1, 10]), Quantity("MSE", [0.01, 0.02, 0.05])
    chart = scatter("MSE over KL weight", x, y, marks, LEGEND, front=[0, 1, 2])
    root = ElementTree.fromstring(chart)
    name = "{http://www.w3.org/2000/svg}"
    assert [link.get("href") for link in root.iter(f"{name}a")] == [mark.link for mark in marks]
    places = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in root.iter(f"{name}circle")]
    gaps = [places[1][0] - places[0][0], places[2][0] - places[1][0]]
    assert gaps[0] == pytest.approx(gaps[1], abs=0.2)  # A factor of 100 each: the axis is logarithmic.
    assert places[0][1] > places[1][1] > places[2][1]
    picture = svg_picture(chart)
    assert picture.size == (2 * WIDTH, 2 * HEIGHT)
    for place_x, place_y in places:
        assert picture.getpixel((round(2 * place_x), round(2 * place_y))) == (37, 99, 201)


@pytest.mark.parametrize("colors", [[True, True], [False, False], [True, False]])
def test_a_chart_says_what_its_labels_and_colors_mean(colors: list[bool]) -> None:
    marks = [Mark(f"{number}", strong=strong) for number, strong in enumerate(colors)]
    chart = scatter("MSE over KL weight", Quantity("x", [1, 2]), Quantity("y", [2, 1]), marks, LEGEND)
    root = ElementTree.fromstring(chart)
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert LEGEND.labels in texts
    assert (LEGEND.strong in texts, LEGEND.weak in texts) == (len(set(colors)) == 2,) * 2
    fills = [dot.get("fill") for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert fills == ["var(--c0)" if color else "var(--c7)" for color in colors] + ["var(--c0)", "var(--c7)"] * (
        len(set(colors)) == 2
    )


@pytest.mark.parametrize(
    ("params", "labels"),
    [
        ([{"model.kld_weight": 0.1}, {"model.kld_weight": 2.0}], ["0.1", "2", "labels: model.kld_weight"]),
        ([{"layers": [1]}, {"layers": [1, 2]}], ["00000", "00001", "labels: trial"]),
        ([{"optim.lr": 0.1, "model.beta": 1}, {"optim.lr": 0.2, "model.beta": 1}], ["00000", "00001", "labels: trial"]),
    ],
)
def test_a_trial_is_labeled_by_the_only_option_searched_or_by_its_number(params: list[Any], labels: list[str]) -> None:
    rows = [
        TrialRow(TrialRecord(f"0000{number}-x", values, "finished"), {"mse": 0.1 + number, "active_units": 3})
        for number, values in enumerate(params)
    ]
    chart = draw_charts(rows, list(params[0]))["usage"]
    for label in labels:
        assert f">{label}</text>" in chart.svg


def test_texts_at_the_right_edge_of_a_chart_are_whole() -> None:
    chart = scatter("lr", Quantity("x", [0.0001, 0.00034]), Quantity("y", [1, 1]), [Mark("000"), Mark("001")], LEGEND)
    texts = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)">([^<]*)', chart)
    assert {"0.00035", "001"} <= {text for *_, text in texts}
    wide = 7.5  # A browser's default sans serif may be as wide as this.
    rights = [float(x) + wide * len(text) * {"start": 1, "middle": 0.5, "end": 0}[anchor] for x, anchor, text in texts]
    assert max(rights) <= WIDTH


def test_labels_of_a_chart_do_not_cover_each_other() -> None:
    marks = [Mark(f"label {n}") for n in range(12)]
    close = [1 + 0.01 * n for n in range(12)]
    chart = scatter("close", Quantity("x", [*close[:-1], 2.0]), Quantity("y", [*close[:-1], 2.0]), marks, LEGEND)
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="\w+">label', chart)
    assert len(set(labels)) == len(labels) < 12


def test_the_page_of_a_sweep_has_all_its_colors() -> None:
    names = ("title", "created", "preset", "family")
    page = html({name: name for name in names} | {"facts": {}} | dict.fromkeys(("rows", "columns", "warnings"), []))
    on_screen = page.split("@media print")[0]
    used, defined = set(re.findall(r"var\((--[\w-]+)", page)), set(re.findall(r"(--[\w-]+):", on_screen))
    assert used - {"--width"} <= defined  # Each picture brings its own width.
