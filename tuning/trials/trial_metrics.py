"""Held-out metrics of a trial that training's own validation does not measure."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from eval.features.space_names import Space
from eval.reports.context import Protocol
from eval.reports.evaluate import evaluate_run
from eval.reports.prepare import prepare
from eval.reports.stages import Stages
from facegen.model import load
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from tuning.search.objective import METRICS, SPLIT, Objective


def measure_metrics(
    objective: Objective, snapshot: Path, dataset: Dataset, accelerator: Accelerator
) -> dict[str, float]:
    """Measures as a report does, on the first images of the val split; every process has to call it.

    Args:
        objective: Names the metrics.
        snapshot: Weights to evaluate.
        dataset: A data set with a ``val`` split.
        accelerator: Processes and device.

    Returns:
        The value of each metric, on the main process; empty on the others.

    Raises:
        UserError: A metric that this family lacks, or that cannot be measured here.
    """
    num_images = min(objective.num_images, dataset.num_samples(SPLIT))
    spaces: list[Space] = ["efflite0", "inception"] if "fid" in objective.weights else ["efflite0"]
    protocol = Protocol(dataset, SPLIT, num_images, num_images, batch_size=64, seed=0)
    stages = Stages(quiet=True)
    evaluation = prepare(protocol, objective.parts, spaces, "auto", accelerator, stages)
    model = load(snapshot, device=accelerator.device)
    result = evaluate_run(evaluation, "trial", model, str(snapshot)).result
    values = {}
    for name in objective.weights if accelerator.is_main_process else ():
        if METRICS[name].part:
            measure = result.measures[METRICS[name].key]
            if measure.value is None:
                raise UserError(f"{name} cannot be measured: {measure.reason}.")
            values[name] = measure.value
    return values
