"""The parts of a report: choice, the work that each needs, stages, and the pieces of the page."""

from __future__ import annotations

import json
import mmap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from jsonschema import Draft202012Validator, ValidationError
from PIL import Image

from eval.base.run_pictures import training_pictures
from eval.latent.chosen_attributes import choose_attributes
from eval.reports import run_pass
from eval.reports.context import Protocol, ReportContext
from eval.reports.evaluate import draw
from eval.reports.options import ReportConfig
from eval.reports.output.markdown import group_missing
from eval.reports.output.render import prepare_out, write_report
from eval.reports.output.schema import SCHEMA_FILE, report_schema, schema_text
from eval.reports.output.table import build_table, markdown, terminal
from eval.reports.part import Absent, Drawing, Part, RunPicture
from eval.reports.parts.past import sample_animation
from eval.reports.prepare import features_of
from eval.reports.protocol import split_title
from eval.reports.registry import PARTS, choose_parts, describe_parts, metrics
from eval.reports.results import (
    FORMAT,
    Measure,
    Metric,
    Missing,
    Picture,
    Report,
    RunResult,
    Stage,
    TextTable,
    read_report,
)
from eval.reports.run_context import RunContext
from eval.reports.run_pass import run_samples, run_split
from eval.reports.stages import Stages
from eval.reports.unfinished import FinishedRun, load_finished, save_finished
from facegen.pixels import to_uint8
from shards.base.errors import UserError
from shards.dataset.manifest import LabelField
from shards.loading.batch import Batch

ALL_PARTS = frozenset(PARTS)


def test_only_and_skip():
    assert choose_parts([], []) == ALL_PARTS
    assert choose_parts(["samples", "tsne"], []) == {"samples", "tsne"}
    assert choose_parts(["distances", "cost"], ["distances:samples"]) == {"distances:reconstructions", "cost"}
    assert choose_parts([], ["cost"]) == ALL_PARTS - {"cost"}
    with pytest.raises(ValueError, match="leave no part"):
        choose_parts(["cost"], ["cost"])


@pytest.mark.parametrize(
    ("wrong", "right"), [("sample", "samples"), ("tnse", "tsne"), ("distance", "distances"), ("morph", "morphs")]
)
def test_an_unknown_part_names_the_nearest_one(wrong, right):
    with pytest.raises(ValueError, match=f"--skip: a report has no part '{wrong}'; did you mean '{right}'"):
        ReportConfig(["run"], "data", "out", skip=[wrong])
    with pytest.raises(ValueError, match="--only: a report has no part 'xyzzy'; there are reconstruction, "):
        ReportConfig(["run"], "data", "out", only=["xyzzy"])


def test_every_part_is_described():
    assert all(f"{name} ({part.content})" in describe_parts() for name, part in PARTS.items())


def test_rows_and_pictures_come_in_the_order_of_the_parts():
    assert list(dict.fromkeys(metric.group for metric in metrics())) == [
        "Reconstruction",
        "Distances: samples",
        "Distances: reconstructions",
        "Likelihood",
        "Latent space",
        "Disentanglement",
        "Verification of drawn pairs, cosine of mu",
        "Cost",
    ]
    groups = [part.group for part in PARTS.values() if part.group]
    assert list(dict.fromkeys(groups)) == ["Samples", "Edits", "Latent space", "Training", "Bias"]


class LazyVae:
    """Counts how often it is asked to decode and to sample."""

    name = family = "lazy"
    can = frozenset({"encode", "posterior", "decode", "sample"})
    image_shape = (3, 12, 12)
    latent_size = 4
    condition = None
    decoder_variance = 0.1

    def __init__(self) -> None:
        self.num_decoded = self.num_sampled = 0

    def posterior(self, images: torch.Tensor, labels: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        mu = images.flatten(1)[:, :4]
        return mu, torch.zeros_like(mu)

    def decode(self, latents: torch.Tensor, labels: Any = None) -> torch.Tensor:
        self.num_decoded += len(latents)
        return latents.new_zeros(len(latents), 3, 12, 12)

    def sample(self, num: int, seed: int = 0, std: float = 1.0, labels: Any = None, first: int = 0) -> torch.Tensor:
        self.num_sampled += num
        return torch.zeros(num, 3, 12, 12)


class CountingSpace:
    """A feature space that counts the images it has seen."""

    name = "efflite0"
    dim = 2

    def __init__(self) -> None:
        self.num_images = 0

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        self.num_images += len(images)
        return np.zeros((len(images), 2), np.float32)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ReportContext:
    images = to_uint8(torch.rand(10, 3, 12, 12) * 2 - 1)
    monkeypatch.setattr(
        run_pass, "evaluation_batches", lambda *_, **__: iter([Batch(images, {}, torch.arange(len(images)))])
    )
    dataset: Any = SimpleNamespace(image=SimpleNamespace(height=12, width=12))
    spaces: Any = [CountingSpace()]
    return ReportContext(Protocol(dataset, "test", 10, 300, 16, seed=0), torch.device("cpu"), spaces)


RANK: Accelerator = SimpleNamespace(  # type: ignore[assignment]
    process_index=0, num_processes=1, device=torch.device("cpu"), is_main_process=True
)


@pytest.mark.parametrize(
    ("parts", "num_decoded", "num_seen"),
    [
        ({"samples", "morphs", "cost", "distances:samples"}, None, 0),
        ({"latent"}, 0, 0),
        ({"tsne", "sweeps"}, 0, 0),
        ({"reconstruction"}, 10, 0),
        ({"likelihood"}, 10, 0),
        ({"distances:reconstructions"}, 10, 10),
        (ALL_PARTS, 20, 10),
    ],
)
def test_the_split_is_computed_only_as_far_as_some_part_needs(report, parts, num_decoded, num_seen):
    model = LazyVae()
    accumulated = run_split(model, report, [one for part in parts for one in PARTS[part].statistics], RANK)
    assert (not accumulated) == (num_decoded is None)
    assert (model.num_decoded, report.spaces[0].num_images) == (num_decoded or 0, num_seen)


@pytest.mark.parametrize(
    ("parts", "num_sampled"), [({"samples", "bias"}, 0), ({"neighbors"}, 200), ({"distances:samples"}, 300)]
)
def test_samples_are_made_only_as_far_as_some_part_needs(report, parts, num_sampled):
    model = LazyVae()
    features = features_of(PARTS[part] for part in parts)
    assert features is not None
    run_samples(model, report, features.samples, RANK)
    assert model.num_sampled == num_sampled


def test_stages_measure_time_and_memory():
    stages = Stages(quiet=True)
    with stages.stage("small"):
        time.sleep(0.02)
    with stages.stage("large", "run"):
        # Not from malloc, which may have as much at hand.
        ballast = np.frombuffer(mmap.mmap(-1, 200 * 2**20), np.uint8)
        ballast[:] = 1
        del ballast
    with stages.stage("small again"):
        pass
    small, large, again = stages.done
    assert (small.name, small.run, large.run) == ("small", "", "run")
    assert 0.02 <= small.seconds < 10
    assert 0 < small.peak_rss_mib < large.peak_rss_mib >= again.peak_rss_mib


def a_run_of(model: Any) -> RunContext:
    report: Any = None
    result: Any = None
    return RunContext(report, "run", model, result)


def test_a_picture_that_cannot_be_drawn_says_why():
    def fail(run: RunContext) -> Drawing:
        raise UserError("too few images.")

    def make(run: RunContext) -> Drawing:
        return Drawing("<svg/>", "")

    def drawn(picture: RunPicture, *needs: str) -> Drawing | Absent:
        part = Part(name="toy", content="a toy", needs=needs, group="Toys", pictures=[picture])
        return draw(part, picture, a_run_of(SimpleNamespace(family="gan", can={"decode", "sample"}, condition=None)))

    assert drawn(RunPicture("a.svg", "A", make)) == Drawing("<svg/>", "")
    assert drawn(RunPicture("a.svg", "A", fail)) == Absent("too few images")
    assert drawn(RunPicture("a.svg", "A", make, needs=("encode", "decode"))) == Absent("gan does not encode")
    assert drawn(RunPicture("a.svg", "A", make), "encode") == Absent("gan does not encode")
    assert drawn(RunPicture("a.svg", "A", make, is_conditional=True)) == Absent("gan generates by no label")


def test_items_missing_for_one_reason_share_a_line():
    missing = [Missing("A", "no x"), Missing("B", "no y"), Missing("C", "no x")]
    assert group_missing(missing) == [("A, C", "no x"), ("B", "no y")]


def test_attributes_are_the_best_known_ones_then_the_balanced_ones():
    columns = {
        "Rare": np.array([1] + [0] * 9, np.int8),
        "Half": np.array([1] * 5 + [0] * 5, np.int8),
        "Young": np.array([1] * 9 + [0], np.int8),
        "Smiling": np.array([1] * 8 + [0, -1], np.int8),
        "Never": np.zeros(10, np.int8),
        "identity": np.arange(10, dtype=np.int32),
        "yaw": np.linspace(-2, 1, 10, dtype=np.float32),
    }
    kinds = {"identity": LabelField("class", tuple("abcdefghij")), "yaw": LabelField("float")}
    fields = {name: kinds.get(name, LabelField("bool")) for name in columns}
    dataset: Any = SimpleNamespace(fields=fields, labels=lambda name, split: columns[name])
    chosen = choose_attributes(dataset, "train", 10)
    assert list(chosen) == ["Smiling", "Young", "Half", "yaw"]
    assert [int(group.sum()) for group in chosen["Smiling"]] == [8, 1]
    assert list(choose_attributes(dataset, "train", 8)) == ["Half", "yaw", "Rare"]


def test_the_pictures_of_training_become_an_animation(tmp_path):
    (tmp_path / "pictures").mkdir()
    for images_seen, color in ((300, "blue"), (100, "red"), (200, "green")):
        Image.new("RGB", (66, 66), color).save(tmp_path / "pictures" / f"samples_images_{images_seen:012d}.png")
    Image.new("RGB", (66, 66)).save(tmp_path / "pictures" / "more_samples_images_000000000100.png")
    found = training_pictures(tmp_path, "samples", images_seen=250)
    assert [images_seen for images_seen, _ in found] == [100, 200]
    assert training_pictures(None, "samples", 250) == []

    drawn = sample_animation(a_run_of(SimpleNamespace(run_dir=tmp_path, images_seen=300)))
    assert isinstance(drawn, Drawing) and isinstance(drawn.figure, bytes)
    path = tmp_path / "all.webp"
    path.write_bytes(drawn.figure)
    with Image.open(path) as animation:
        assert getattr(animation, "n_frames", 1) == 3
        colors = []
        for frame in range(3):
            animation.seek(frame)
            colors.append(int(np.argmax(animation.convert("RGB").getpixel((200, 200)))))
    assert colors == [0, 1, 2]
    only = sample_animation(a_run_of(SimpleNamespace(run_dir=tmp_path, images_seen=150)))
    assert only == Absent("the run kept 1 picture of samples")


GROUPED = [Metric("mse", "MSE", "One", "", "lower", ".2f"), Metric("kl", "KL", "One"), Metric("mig", "MIG", "Two")]


def a_run(name: str, mse: float | None, mig: Measure) -> RunResult:
    measures = {"mse": Measure(mse) if mse else Measure(reason="none"), "kl": Measure(reason="none"), "mig": mig}
    return RunResult(name, f"runs/{name}", "vae", "EMA", 10, 640, "abc", "", measures)


def full_report() -> Report:
    runs = [a_run("a", 0.5, Measure(reason="skipped")), a_run("b", 0.25, Measure(reason="skipped"))]
    runs[0].pictures = [Picture("a.svg", "A", "about a", "Samples"), Picture("b.png", "B", "about b", "Edits")]
    runs[0].tables = [TextTable("Table", "about it", ["what", "number"], [["x < y", "3"]], ["a note"])]
    runs[0].missing = [Missing("C", "no c"), Missing("D", "no c")]
    runs[0].latent = {"mean": [0.0], "variance": [1.0], "ks": [0.1], "kl": [2.0]}
    runs[0].condition = "degree of the label smile"
    stages = [Stage("samples", "a", 1.25, 300.0), Stage("cost", "", 0.5, 250.0)]
    protocol = {"data set": "faces", "split": "test"}
    return Report("A & B", "today", protocol, GROUPED, runs, skipped=["morphs"], stages=stages, warnings=["careful"])


def test_a_group_without_any_number_is_one_line():
    table = build_table(full_report())
    assert table.absent == {"Two": "skipped"}
    assert [(title, len(lines)) for title, lines in table.groups] == [("One", 2), ("Two", 0)]
    assert table.footnotes == ("none",)
    assert [line.metric.key for line in table.summary] == ["mse"]
    assert "Two: skipped" in terminal(table)
    assert "Two: skipped" in markdown(table)
    other = full_report()
    other.runs[1] = a_run("b", 0.25, Measure(reason="it has no dims"))
    assert not build_table(other).absent


def test_page_and_markdown_hold_tables_missing_pictures_and_stages(tmp_path):
    prepare_out(tmp_path)
    figures = {"a.svg": "<svg/>", "b.png": Image.new("RGB", (8, 8))}
    write_report(tmp_path, full_report(), figures, split_title("test"))
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "x &lt; y" in page and "| x < y | 3 |" in text
    assert "C, D: no c" in page and "- C, D: no c" in text
    assert "degree of the label smile" in page and "degree of the label smile" in text
    assert "1.8 s in all, at most 300 MiB" in page and "| a | samples | 1.2 | 300 |" in text
    assert page.count("<summary>") == 3
    assert "skipped: morphs" in page and "Skipped: morphs." in text
    ids = [part.split('"')[0] for part in page.split('id="')[1:]]
    targets = {part.split('"')[0] for part in page.split('href="#')[1:]}
    assert targets <= set(ids) and len(ids) == len(set(ids)) >= 6


def test_json_follows_its_schema(tmp_path):
    prepare_out(tmp_path)
    figures = {"a.svg": "<svg/>", "b.png": Image.new("RGB", (8, 8))}
    write_report(tmp_path, full_report(), figures, split_title("test"))
    schema, content = report_schema(), json.loads((tmp_path / "report.json").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(content)
    for spoil in (
        lambda report: report["runs"][0].pop("missing"),
        lambda report: report["stages"][0].update(seconds="long"),
        lambda report: report["runs"][0]["measures"]["mse"].update(unknown=1),
        lambda report: report["metrics"][0].update(better="bigger"),
        lambda report: report.update(schema_version=FORMAT.version + 1),
    ):
        spoiled = json.loads(json.dumps(content))
        spoil(spoiled)
        with pytest.raises(ValidationError):
            validator.validate(spoiled)


def test_the_schema_in_the_repository_is_the_generated_one():
    assert SCHEMA_FILE.read_text() == schema_text(), "run: make schema"


def test_a_report_is_read_as_it_was_written(tmp_path):
    prepare_out(tmp_path)
    figures = {"a.svg": "<svg/>", "b.png": Image.new("RGB", (8, 8))}
    write_report(tmp_path, full_report(), figures, split_title("test"))
    path = tmp_path / "report.json"
    assert read_report(path) == full_report()
    content = json.loads(path.read_text())
    for spoil, message in (
        (lambda: content["runs"][0].pop("family"), r"runs\[0\].family is missing"),
        (lambda: content.update(schema_version=FORMAT.version + 1), "install a newer facegen"),
        (lambda: content.pop("schema_version"), "no known format version"),
    ):
        spoil()
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            read_report(path)
    path.write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_report(path)


def test_a_finished_run_from_elsewhere_names_files_of_its_report_only(tmp_path: Path) -> None:
    run = FinishedRun(a_run("one", 0.5, Measure(0.5)), {"curve.svg": "<svg/>"}, {}, [])
    save_finished(tmp_path / "run", run)
    assert load_finished(tmp_path / "run") == run
    save_finished(tmp_path / "run", replace(run, figures={"../../curve.svg": "<svg/>"}))
    assert load_finished(tmp_path / "run") is None
