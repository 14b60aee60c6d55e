"""Reports as files and tables: best values, missing values, and the content of the page."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from eval.base.run_warnings import run_warnings
from eval.drawing import charts, svg
from eval.drawing.grids import Row, face_grid
from eval.features.feature_set import FeatureSets
from eval.metrics.latent_usage import LatentStatistics
from eval.reports import run_pass
from eval.reports.context import Protocol, ReportContext
from eval.reports.output.render import prepare_out, write_report
from eval.reports.output.table import build_table, markdown, terminal
from eval.reports.part import Amount
from eval.reports.parts import likelihood
from eval.reports.parts.distances import FEW_IMAGES, RECONSTRUCTION_FEATURES, distances
from eval.reports.parts.reconstruction import RECONSTRUCTION
from eval.reports.protocol import split_title
from eval.reports.results import FORMAT, Measure, Metric, Picture, Report, RunResult, best_runs, format_value
from eval.reports.run_context import RunContext
from eval.reports.run_pass import run_samples, run_split
from eval.reports.statistic import USAGE, Results
from facegen.pixels import to_uint8
from facegen.runs.metrics_file import read_metrics
from shards.base.errors import UserError
from shards.loading.batch import Batch

LOSS = Metric("loss", "Loss", "Group", "nats", "lower", ".3f")
RATE = Metric("rate", "Rate", "Group", "images/s", "higher", "si")


def run_result(name: str, loss: float | None, difference: str = "") -> RunResult:
    loss_measure = Measure(loss) if loss is not None else Measure(reason="it has none")
    return RunResult(
        name, f"runs/{name}", "vae", "EMA", 10, 640, "abc", difference, {"loss": loss_measure, "rate": Measure(1234.0)}
    )


def example_report(**changes: Any) -> Report:
    runs = [run_result("one", 0.5), run_result("two", 0.25), run_result("other <data>", 0.1, "trained on other data")]
    protocol = {"data set": "faces", "split": "test"}
    return replace(Report("A & B", "today", protocol, [LOSS, RATE], runs), **changes)


def test_best_is_among_comparable_runs_only():
    report = example_report()
    assert best_runs(LOSS, report.runs) == {1}
    assert best_runs(replace(LOSS, better="higher"), report.runs) == {0}
    assert best_runs(replace(LOSS, better=""), report.runs) == set()
    assert best_runs(LOSS, report.runs[:1]) == set()
    assert best_runs(LOSS, report.runs[2:]) == set()


def test_nothing_is_best_if_all_are_equal():
    assert best_runs(RATE, example_report().runs) == set()
    assert best_runs(LOSS, [run_result("one", 0.0), run_result("two", 0.0), run_result("three", None)]) == set()


def test_values_with_the_same_digits_are_marked_alike():
    near = [run_result("one", 0.50004), run_result("two", 0.49996), run_result("three", 0.7)]
    assert best_runs(LOSS, near) == {0, 1}
    assert best_runs(LOSS, near[:2]) == set()
    assert best_runs(replace(LOSS, format=".5f"), near) == {1}


@pytest.mark.parametrize(
    ("spec", "value", "text"),
    [
        (".3f", 0.12345, "0.123"),
        ("si", 2_649_299, "2.65 M"),
        ("si", 1234, "1.23 k"),
        ("si", 7, "7 "),
        (",.0f", 8000, "8,000"),
        (".3g", 0.7, "0.700"),
        (".3g", 0.00123, "0.00123"),
        (".3g", 123.4, "123"),
    ],
)
def test_numbers_as_text(spec, value, text):
    assert format_value(replace(LOSS, format=spec), Measure(value)) == text


def test_spread_and_missing_values_as_text():
    assert format_value(LOSS, Measure(1.0, spread=0.0123)) == "1.000 ± 0.012"
    assert format_value(LOSS, Measure(1.0, spread=0.1)) == "1.000 ± 0.10"
    assert format_value(LOSS, Measure(reason="none")) == "n/a"


def test_table_marks_the_best_and_shares_footnotes():
    report = example_report(runs=[run_result("one", None), run_result("two", 0.25), run_result("three", None)])
    table = build_table(report)
    ((title, (loss, _)),) = table.groups
    assert title == "Group"
    assert [cell.footnotes for cell in loss.cells] == [(1,), (), (1,)]
    assert table.footnotes == ("it has none",)
    assert "| Loss [nats] ↓ | n/a [1] | 0.250 | n/a [1] |" in markdown(table)


def test_terminal_table_is_aligned_and_has_a_star_at_the_best():
    lines = terminal(build_table(example_report())).splitlines()
    loss = next(line for line in lines if "Loss" in line)
    assert re.search(r"0\.500 +\* 0\.250 +0\.100$", loss)
    assert len(loss) == len(lines[0])


def test_files_of_a_report(tmp_path):
    out = tmp_path / "report"
    prepare_out(out)
    (out / "notes.txt").write_text("mine")
    picture = Image.new("RGB", (8, 8), "red")
    report = example_report(pictures=[Picture("old.png", "Old"), Picture("chart.svg", "Chart")])
    chart = svg.document(10, 10, "chart", [])
    write_report(out, report, {"old.png": picture, "chart.svg": chart}, split_title("test"))
    write_report(out, example_report(pictures=[Picture("new.png", "New")]), {"new.png": picture}, split_title("test"))

    assert sorted(path.name for path in (out / "figures").iterdir()) == ["new.png"]
    assert (out / "notes.txt").read_text() == "mine"
    content = json.loads((out / "report.json").read_text())
    assert content["schema_version"] == FORMAT.version
    assert content["runs"][1]["measures"]["loss"] == {
        "value": 0.25,
        "spread": None,
        "reason": "",
        "note": "",
        "is_ranked": True,
    }
    page = (out / "report.html").read_text()
    assert "data:image/webp;base64," in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "a page that is passed on may not load anything"
    assert "A &amp; B" in page
    assert "other &lt;data&gt;" in page
    assert "trained on other data" in page
    assert "![New](figures/new.png)" in (out / "report.md").read_text()


def test_every_title_names_the_training_split(tmp_path):
    prepare_out(tmp_path)
    write_report(tmp_path, example_report(pictures=[Picture("a.svg", "A")]), {"a.svg": "<svg/>"}, split_title("train"))
    titles = re.findall(r"<h2>(.*?)</h2>", (tmp_path / "report.html").read_text())
    assert len(titles) == 6
    assert all("TRAINING" in title for title in titles if title != "Protocol")


def test_out_that_is_a_file_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "report").touch()
    with pytest.raises(UserError, match="--out"):
        prepare_out(tmp_path / "report")


def test_grid_places_faces_and_keeps_its_background_transparent():
    red = np.zeros((2, 100, 100, 3), np.uint8)
    red[..., 0] = 255
    gray = np.full((2, 100, 100, 1), 9, np.uint8)
    grid = face_grid([Row(red), Row(gray)])
    assert grid.size == (204, 204)
    assert grid.getpixel((50, 50)) == (255, 0, 0, 255)
    assert grid.getpixel((150, 150)) == (9, 9, 9, 255)
    assert grid.getpixel((102, 50)) == (0, 0, 0, 0)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.0123, 0.0456), (-3, 7), (0, 1_000_000), (5, 5)])
def test_linear_ticks_cover_the_values_with_few_round_numbers(low, high):
    ticks = svg.linear_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9
    assert all(len(f"{tick:g}") <= 6 for tick in ticks)


@pytest.mark.parametrize("values", [(0.0047, 0.00515), (0.0042, 0.0125), (0.0042, 0.15), (3.0, 3.0)])
def test_a_logarithmic_chart_is_filled_by_its_line(values):
    chart = svg.line_chart("MSE", [svg.Series("run", [0, 1], values)], "images", log=True)
    points = re.findall(r"[\d.]+,([\d.]+)", chart.partition("polyline")[2])
    rules = [float(y) for y in re.findall(r'"M\d+ ([\d.]+)H', chart)]
    first, last = (float(y) for y in points)
    assert max(rules) >= first >= last >= min(rules) and len(rules) >= 2
    assert first - last >= 0.5 * (max(rules) - min(rules)) or values[0] == values[1]


def test_log_ticks_cover_the_values():
    assert svg.log_ticks(0.0042, 0.15) == pytest.approx([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2])


def test_curves_skip_what_was_not_logged_or_not_finite(tmp_path):
    lines = [{"images_seen": n * 100, "step": n, "val/mse": 1 / n, "train/kl": float("nan")} for n in range(1, 5)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"images_seen": 5')
    points = read_metrics(tmp_path)
    assert len(points) == 4
    assert charts.training_curves("kl", [("run", points)]) is None
    chart = charts.training_curves("mse", [("a < b", points)])
    assert chart is not None
    assert len(ElementTree.fromstring(chart).findall(".//{*}polyline")) == 1
    assert read_metrics(tmp_path / "absent") == []


def test_a_constant_is_no_curve():
    constant, learned = ([{"images_seen": n, "val/mse": error} for n, error in enumerate(y)] for y in ((4, 4), (4, 3)))
    assert charts.training_curves("mse", [("flow", constant)]) is None
    chart = charts.training_curves("mse", [("flow", constant), ("vae", learned)])
    assert chart is not None and "vae" in chart and "flow" not in chart


def test_lines_of_one_color_differ():
    chart = svg.line_chart("many", [svg.Series(str(n), (0, 1), (n, n + 1), n) for n in range(svg.NUM_COLORS + 1)], "x")
    lines = ElementTree.fromstring(chart).findall(".//{*}polyline")
    assert len({(line.get("class"), line.get("stroke")) for line in lines}) == len(lines)


@pytest.mark.parametrize("has_posterior", [True, False])
def test_latent_charts_are_valid_svg_with_a_panel_for_each_dim(has_posterior):
    mu = torch.randn(100, 7, generator=torch.Generator().manual_seed(0)) * 0.5
    statistics = LatentStatistics.empty(7)
    statistics.update(mu, torch.full_like(mu, -1.0) if has_posterior else None)
    usage = statistics.usage()
    histograms = ElementTree.fromstring(charts.latent_histograms(usage, mu.numpy()))
    assert len(histograms.findall(".//{*}polyline")) == (14 if has_posterior else 7)
    bars = ElementTree.fromstring(charts.latent_bars(usage))
    assert len(bars.findall(".//{*}rect")) == (14 if has_posterior else 7)


class LinearVae:
    """A model simple enough to compute by hand: the decoder is the transpose of the encoder."""

    name = "linear"
    family = "linear"
    can = frozenset({"encode", "posterior", "decode", "sample"})
    image_shape = (3, 12, 12)
    latent_size = 4
    condition = None
    decoder_variance = 0.1

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.basis = torch.linalg.qr(torch.randn(3 * 12 * 12, 4, generator=generator))[0]

    def posterior(self, images: torch.Tensor, labels: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        mu = images.flatten(1) @ self.basis
        return mu, torch.full_like(mu, -2.0)

    def decode(self, latents: torch.Tensor, labels: Any = None) -> torch.Tensor:
        return (latents @ self.basis.T).reshape(-1, 3, 12, 12)

    def sample(self, num: int, seed: int = 0, std: float = 1.0, labels: Any = None, first: int = 0) -> torch.Tensor:
        rows = [torch.randn(4, generator=torch.Generator().manual_seed(seed + n)) for n in range(first, first + num)]
        return self.decode(4 * torch.stack(rows))


class PixelSpace:
    """A feature space whose features are a few pixels."""

    name = "efflite0"
    dim = 6

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        return images[:, ::5, 0, :2].reshape(len(images), -1).numpy().astype(np.float32)


@pytest.fixture
def report(monkeypatch) -> ReportContext:
    generator = torch.Generator().manual_seed(1)
    images = to_uint8(torch.rand(23, 3, 12, 12, generator=generator) * 2 - 1)

    def batches(dataset, split, batch_size, *, rank, world_size, limit, fields=None):
        starts = list(range(0, limit, batch_size))[rank::world_size]
        for start in starts:
            rows = torch.arange(start, min(start + batch_size, limit))
            yield Batch(images[rows], {}, rows)

    monkeypatch.setattr(run_pass, "evaluation_batches", batches)
    dataset: Any = SimpleNamespace()
    protocol = Protocol(dataset, "test", num_images=23, num_samples=17, batch_size=4, seed=3)
    spaces: Any = [PixelSpace()]
    return ReportContext(protocol, torch.device("cpu"), spaces, {"inception": "no weights"})


def fake_ranks(num_ranks: int) -> list[Accelerator]:
    shared = {"num_processes": num_ranks, "device": torch.device("cpu"), "is_main_process": False}
    return [SimpleNamespace(process_index=rank, **shared) for rank in range(num_ranks)]  # type: ignore[misc]


def sampled_features(report: ReportContext, num_ranks: int = 1) -> FeatureSets:
    parts = [run_samples(LinearVae(), report, Amount.ALL, rank) for rank in fake_ranks(num_ranks)]
    return reduce(FeatureSets.merge, [part for part in parts if part is not None])


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
def test_numbers_do_not_depend_on_the_number_of_ranks(report, num_ranks):
    statistics = (USAGE, RECONSTRUCTION, likelihood.ELBO, RECONSTRUCTION_FEATURES)

    def measure(num: int) -> dict[str, Any]:
        parts = [run_split(LinearVae(), report, statistics, rank) for rank in fake_ranks(num)]
        merged = {
            statistic: reduce(lambda a, b: a.merge(b), [part[statistic] for part in parts]) for statistic in parts[0]
        }
        samples = sampled_features(report, num)
        result: Any = SimpleNamespace()
        run = RunContext(report, "run", LinearVae(), result, Results(merged))
        with_split = replace(report, split_features=run[RECONSTRUCTION_FEATURES])
        numbers = likelihood.measure(run) | distances("samples", samples, with_split, "linear")
        counts = {"count": merged[RECONSTRUCTION].count, "sampled": samples.sets["efflite0"].statistics.count}
        values = {
            key: measure.value
            for key, measure in numbers.items()
            if not re.search("_(inception|face|dinov2|clip)_", key)
        }
        return values | run[RECONSTRUCTION] | counts

    expected, actual = measure(1), measure(num_ranks)
    assert (expected["count"], expected["sampled"]) == (23, 17)
    assert expected["frechet_efflite0_samples"] > 1
    assert {"mse", "elbo", "kl"} <= expected.keys()
    assert actual == pytest.approx(expected, rel=1e-9)


def test_few_images_are_noted_beside_the_number(report):
    features = sampled_features(report)
    measures = distances("samples", features, replace(report, split_features=features), "linear")
    assert FEW_IMAGES > 17
    assert "only 17 images" in measures["frechet_efflite0_samples"].note
    assert measures["frechet_efflite0_samples"].value == pytest.approx(0, abs=1e-4)
    assert measures["frechet_inception_samples"] == Measure(reason="no weights")


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(UserError, match="holds other files; give a new --out"):
        prepare_out(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_diversity_is_a_share_of_the_variance_of_the_split(report):
    features = sampled_features(report)
    report = replace(report, split_features=features)
    collapsed = FeatureSets.empty(report.spaces)
    rows = features.sets["efflite0"].bank.ordered()
    collapsed.sets["efflite0"].update(np.arange(len(rows)), 0.5 * rows)
    for ours, share in ((features, 1.0), (collapsed, 0.25)):
        measures = distances("samples", ours, report, "linear")
        assert measures["diversity_samples"].value == pytest.approx(share, rel=1e-5)
    measures = distances("samples", None, report, "linear")
    assert measures["diversity_samples"] == Measure(reason="linear makes no samples")


def test_equal_images_have_no_diversity(report):
    report = replace(report, split_features=sampled_features(report))
    equal = FeatureSets.empty(report.spaces)
    equal.sets["efflite0"].update(np.arange(1000), np.full((1000, 6), 0.7, np.float32))
    assert 0 <= distances("samples", equal, report, "linear")["diversity_samples"].value < 1e-9


def test_warnings_of_training_are_shown_with_the_result(tmp_path):
    lines = [
        {"images_seen": 100, "warning": "mode collapse: at 9 %"},
        {"images_seen": 100, "train/loss": 1.0},
        {"images_seen": 200, "warning": "mode collapse: at 7 %"},
        {"images_seen": 2000, "warning": "mode <collapse>: at 5 %"},
        {"images_seen": 2000, "warning": "discriminator won: 99 %"},
        {"images_seen": 3000, "warning": "discriminator won: later than the snapshot"},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    warnings = run_warnings(read_metrics(tmp_path), images_seen=2000)
    assert warnings == [
        "mode collapse: at 7 % (training warned 2 times, at 100 to 200 images)",
        "mode <collapse>: at 5 % (training warned once, at 2,000 images)",
        "discriminator won: 99 % (training warned once, at 2,000 images)",
    ]
    assert run_warnings([], images_seen=2000) == []
    runs = [replace(run_result("gan", 0.5), warnings=warnings)]
    out = tmp_path / "report"
    prepare_out(out)
    write_report(out, example_report(runs=runs), {}, split_title("test"))
    assert "mode &lt;collapse&gt;: at 5 %" in (out / "report.html").read_text()
    assert all(f"> **Note:** {warning}" in (out / "report.md").read_text() for warning in warnings)
    assert json.loads((out / "report.json").read_text())["runs"][0]["warnings"] == warnings
