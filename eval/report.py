"""Evaluates trained runs on one split: ``python -m eval.report RUN [RUN ...] --data DIR --split test --out REPORT``.

Also ``accelerate launch -m eval.report ...`` on several processes, with the same numbers.
"""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from eval.base.runs import open_runs
from eval.features.inception_weights import find_inception_weights
from eval.features.reference import reference_features
from eval.features.spaces import FeatureSpace, load_efflite0, load_inception
from eval.metrics.kernel import MAX_FEATURES
from eval.reports.catalog import SPACES, metrics
from eval.reports.evaluate import Evaluation, evaluate_run
from eval.reports.measures import FEW_IMAGES
from eval.reports.parts import DISTANCE_PARTS, FEATURE_PARTS, PARTS, REFERENCE_PARTS, choose_parts, describe_parts
from eval.reports.pictures.base import Context, Figure
from eval.reports.pictures.shared import curve_pictures, reconstruction_picture
from eval.reports.protocol import protocol_lines, split_title
from eval.reports.render import prepare_out, write_report
from eval.reports.results import Missing, Picture, Report, RunResult
from eval.reports.run_pass import NUM_QUERIES, Protocol
from eval.reports.stages import Stages
from eval.reports.table import build_table, terminal
from eval.reports.unfinished import FinishedRun, finished_file, load_finished, save_finished
from eval.reports.verification_part import Verification
from facegen.model import Model
from facegen.processes.group import make_accelerator, run_process
from shards.base import cli
from shards.dataset.dataset import Dataset
from shards.loading.reader import check_split

_WAIT = datetime.timedelta(hours=2)
"""How long ranks wait for each other: the main one measures cost and draws pictures alone."""


@dataclass
class ReportConfig:
    """Options of a report."""

    runs: list[str]
    """Run directories (their newest snapshot) or snapshot directories; RUN:NAME samples with a sampler fitted to it."""
    data: str
    """Packed data set to evaluate on."""
    out: str
    """Directory of the report; an earlier report there is replaced."""
    split: str = "test"
    """Split to evaluate on."""
    num_images: int | None = None
    """Use only the first this many images of the split; all when null."""
    num_samples: int | None = None
    """Samples for the distances; as many as images when null."""
    batch_size: int = 64
    """Images per process and pass."""
    seed: int = 0
    """Seed of samples and posterior draws."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes what accelerate finds."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; the average where there is one when null."""
    only: list[str] = field(default_factory=list)
    """Do only these parts of the report; all where none is named. What the parts are stands above."""
    skip: list[str] = field(default_factory=list)
    """Leave out these parts, and the work that only they need."""
    num_train: int = MAX_FEATURES
    """Training images, the first ones, in which principal components, attributes and nearest neighbors are looked for;
    at most 10,000."""
    fid_weights: str = "auto"
    """File of Inception weights in torch-fidelity's layout for FID and KID; auto takes torch-fidelity's cached file or
    downloads it, none leaves FID out."""

    def __post_init__(self) -> None:
        for name in ("num_images", "num_samples", "batch_size", "num_train"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.num_train > MAX_FEATURES:
            raise ValueError(f"num_train is {self.num_train}; it must be at most {MAX_FEATURES}.")
        choose_parts(self.only, self.skip)

    @property
    def parts(self) -> frozenset[str]:
        """What to do."""
        return choose_parts(self.only, self.skip)


def main() -> None:
    """The entry point."""
    config = cli.parse(
        ReportConfig,
        prog="python -m eval.report",
        description="Evaluates trained runs on one split and writes report.html, report.md, report.json and figures/. "
        f"Parts, for --only and --skip: {describe_parts()}.",
        positional=["runs"],
    )
    dataset = Dataset(config.data)
    check_split(dataset, config.split)
    accelerator = make_accelerator(config.device == "cpu", [InitProcessGroupKwargs(timeout=_WAIT)])
    models = open_runs(config.runs, dataset, accelerator.device, config.weights)
    out = Path(config.out)
    prepare_out(out)
    report, figures = make_report(config, dataset, models, accelerator)
    if accelerator.is_main_process:
        write_report(out, report, figures, split_title(config.split))
        print(f"\n{report.title}\n\n{terminal(build_table(report))}")
        for warning in report.warnings:
            print(f"note: {warning}")
        print(f"wrote {out / 'report.html'}")
    accelerator.end_training()


def make_report(
    config: ReportConfig, dataset: Dataset, models: list[tuple[str, Model]], accelerator: Accelerator
) -> tuple[Report, dict[str, Figure]]:
    """Evaluates the models one after the other.

    Returns:
        The report, and its pictures by file name; complete on the main process only.
    """
    parts, stages = config.parts, Stages(quiet=not accelerator.is_main_process)
    available = dataset.num_samples(config.split)
    num_images = min(config.num_images or available, available)
    protocol = Protocol(
        dataset,
        config.split,
        num_images,
        config.num_samples or num_images,
        config.batch_size,
        config.seed,
        config.num_train,
    )
    spaces, absent = load_spaces(config.fid_weights, parts, accelerator)
    reference = train = verification = None
    if parts & REFERENCE_PARTS:
        num_features = num_images if parts & DISTANCE_PARTS else min(num_images, NUM_QUERIES)
        with stages.stage(f"features of {config.split}"):
            reference = reference_features(dataset, config.split, num_features, spaces, config.batch_size, accelerator)
    if needs_training_features(config, dataset, models):
        with stages.stage("features of train"):
            num_train = min(config.num_train, dataset.num_samples("train"))
            train = reference_features(dataset, "train", num_train, spaces[:1], config.batch_size, accelerator)
    if "verification" in parts and accelerator.is_main_process:
        with stages.stage("verification: pairs and control"):
            verification = Verification.start(protocol)
    evaluation = Evaluation(protocol, parts, spaces, absent, reference, train, verification, accelerator, stages)

    lines = protocol_lines(protocol, spaces, _by_title(absent), accelerator)
    figures: dict[str, Figure] = {}
    runs = []
    for (label, model), path in zip(models, config.runs, strict=True):
        run = _finish_run(config, lines, evaluation, label, model, path)
        runs.append(run.result)
        figures |= run.figures
    report = Report(
        title=f"{', '.join(label for label, _ in models)}: {split_title(config.split)}",
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        protocol=lines,
        metrics=metrics(),
        runs=runs,
        warnings=_warnings(protocol, _by_title(absent), runs, bool(parts & DISTANCE_PARTS)),
        skipped=[part for part in PARTS if part not in parts],
    )
    if accelerator.is_main_process:
        figures |= add_shared(report, evaluation, models)
    report.stages = stages.close()
    return report, figures


def _finish_run(
    config: ReportConfig, lines: dict[str, str], evaluation: Evaluation, label: str, model: Model, path: str
) -> FinishedRun:
    """Evaluates a run, or takes it over from a report with the same options and protocol that was cut off.

    Every rank has to call it; what it returns is complete on the main process only.
    """
    accelerator, stages, verification = evaluation.accelerator, evaluation.stages, evaluation.verification
    options = {name: value for name, value in asdict(config).items() if name not in ("runs", "out")}
    file = finished_file(Path(config.out), {"options": options, "protocol": lines}, label, model, path)
    # The main process decides, or ranks that see different files would go different ways.
    found = load_finished(file) if accelerator.is_main_process else None
    run: FinishedRun | None = broadcast_object_list([found])[0]
    if run is None:
        result, figures = evaluate_run(evaluation, label, model, path)
        judged = verification.judged.get(label) if verification else None
        run = FinishedRun(result, figures, judged, [stage for stage in stages.done if stage.run == label])
        if accelerator.is_main_process:
            save_finished(file, run)
        return run
    stages.done += run.stages
    if verification is not None and run.judged is not None:
        verification.judged[label] = run.judged
    if accelerator.is_main_process:
        tqdm.write(f"{label}: taken over from the interrupted report")
    return run


def needs_training_features(config: ReportConfig, dataset: Dataset, models: list[tuple[str, Model]]) -> bool:
    """Whether some run's samples can be compared with the images that it was trained on."""
    is_trained_on = any(
        "sample" in model.can and model.dataset_fingerprint == dataset.fingerprint for _, model in models
    )
    return "neighbors" in config.parts and "train" in dataset.splits and is_trained_on


def add_shared(report: Report, evaluation: Evaluation, models: list[tuple[str, Model]]) -> dict[str, Figure]:
    """Adds what shows all runs side by side to the report.

    Returns:
        The pictures by file name.
    """
    shown: list[tuple[Picture, Figure]] = []
    if "reconstruction" in evaluation.parts:
        with evaluation.stages.stage("picture: Originals and reconstructions"):
            grid = reconstruction_picture(models, Context(evaluation.protocol))
        shown += [grid] if grid else []
    if "curves" in evaluation.parts:
        curves = curve_pictures(models)
        shown += curves
        if not curves:
            report.missing.append(Missing("Training curves", "no run logged what they show"))
    if evaluation.verification is not None:
        report.tables = evaluation.verification.tables()
        roc = evaluation.verification.picture()
        if roc:
            shown.append(roc)
        else:
            reason = evaluation.verification.absent or "no run encodes"
            report.missing.append(Missing("Verification", reason))
    report.pictures = [picture for picture, _ in shown]
    return {picture.file: figure for picture, figure in shown}


def load_spaces(
    fid_weights: str, parts: frozenset[str], accelerator: Accelerator
) -> tuple[list[FeatureSpace], dict[str, str]]:
    """Loads the feature spaces that the parts need, and says why one of them can't be had, by the space's name."""
    if not parts & FEATURE_PARTS:
        return [], {}
    spaces = [load_efflite0(accelerator.device)]
    if not parts & DISTANCE_PARTS:
        return spaces, {}
    with accelerator.local_main_process_first():  # One download a machine.
        weights, reason = find_inception_weights(fid_weights)
    if weights is None:
        return spaces, {"inception": reason}
    return [*spaces, load_inception(weights, accelerator.device)], {}


def _by_title(absent: dict[str, str]) -> dict[str, str]:
    return {space.frechet: absent[space.name] for space in SPACES if space.name in absent}


def _warnings(protocol: Protocol, absent: dict[str, str], runs: list[RunResult], distances: bool) -> list[str]:
    warnings = [f"{name} was {reason}" for name, reason in absent.items()]
    if protocol.split == "train":
        warnings.append("These are numbers on images that the models were trained on, not on held-out ones.")
    if distances and min(protocol.num_images, protocol.num_samples) < FEW_IMAGES:
        num = min(protocol.num_images, protocol.num_samples)
        warnings.append(
            f"Fréchet distances are over {num:,} images, fewer than {FEW_IMAGES:,}: they are biased upwards and can be "
            "compared only with distances over the same number."
        )
    warnings += [run.difference for run in runs if run.difference]
    return warnings + [f"{run.name}: {warning}" for run in runs for warning in run.warnings]


if __name__ == "__main__":
    run_process(lambda: cli.run(main))
