"""How close reconstructions are to their originals: MSE, PSNR and SSIM, and both side by side."""

from __future__ import annotations

from eval.drawing.grids import Row, face_grid
from eval.metrics.reconstruction import SSIM_WINDOW, ReconstructionSums
from eval.reports.part import Measures, Part, Shared, SideBySide, missing
from eval.reports.results import Measure, Metric, Picture
from eval.reports.run_context import AllRuns, RunContext
from eval.reports.statistic import SplitBatch, Statistic
from eval.stand_ins.stand_in import StandIn

GROUP = "Reconstruction"
TITLE = "Originals and reconstructions"
ROWS = (
    Metric("mse", "MSE on [-1, 1]", GROUP, "", "lower", ".5f", "mean squared error per value, from mu"),
    Metric("mse_unit", "MSE on [0, 1]", GROUP, "", "lower", ".5f", "a quarter of the one on [-1, 1]"),
    Metric("psnr", "PSNR", GROUP, "dB", "higher", ".2f", "mean over images, clamped to the pixel range"),
    Metric("ssim", "SSIM", GROUP, "", "higher", ".4f", "mean over images, 11-pixel Gaussian window"),
)


def _add(sums: ReconstructionSums, batch: SplitBatch) -> None:
    sums.update(batch.images, batch.reconstructions)


RECONSTRUCTION = Statistic(lambda *_: ReconstructionSums(), _add, ReconstructionSums.means, ("encode", "decode"))


def measure(run: RunContext) -> Measures:
    """The means over images."""
    measures = {name: Measure(value) for name, value in run[RECONSTRUCTION].items()}
    return missing(["ssim"], f"images are smaller than the window of {SSIM_WINDOW} pixels") | measures


def side_by_side(runs: AllRuns) -> Shared:
    """Originals in the first row, then the reconstructions (from mu) of each run that makes some."""
    able = [
        (label, model)
        for label, model in runs.models
        if {"encode", "decode"} <= model.can and not (isinstance(model, StandIn) and model.is_constant)
    ]
    if not able:
        return Shared()
    rows = [Row(runs.report.faces(able[0][1]).images, "original")]
    rows += [Row(runs.report.faces(model).reconstruct(model), label) for label, model in able]
    caption = "The same images for all runs, spread evenly over the split; reconstructed from mu."
    return Shared([(Picture("reconstructions.png", TITLE, caption), face_grid(rows))])


PARTS = [
    Part(
        name="reconstruction",
        content="MSE, PSNR and SSIM, and originals beside reconstructions",
        rows=ROWS,
        summary=("mse", "ssim"),
        measure=measure,
        needs=("encode", "decode"),
        lacking="does not reconstruct",
        statistics=(RECONSTRUCTION,),
        compare=SideBySide(TITLE, side_by_side),
        of_stand_ins=True,
    )
]
