"""LPIPS between originals and reconstructions."""

from __future__ import annotations

from typing import Any

from eval.metrics.lpips import MISSING, LpipsSums, alexnet_path
from eval.reports.context import ReportContext
from eval.reports.part import Measures, Part
from eval.reports.parts.reconstruction import GROUP
from eval.reports.results import Measure, Metric
from eval.reports.run_context import RunContext
from eval.reports.statistic import SplitBatch, Statistic
from facegen.processes.consensus import difference
from shards.dataset.tar import sha256_file

_HELP = "distance of AlexNet's features, weighted to agree with people's judgment; mean over images"


def _start(_: Any, report: ReportContext) -> LpipsSums:
    image = report.protocol.dataset.image
    # All ranks or none, with one reason.
    other = difference(describe_weights())
    if other:
        return LpipsSums(f"not computed: AlexNet's weights differ between machines: {other}")
    return LpipsSums.empty(report.device, min(image.height, image.width))


def _add(sums: LpipsSums, batch: SplitBatch) -> None:
    sums.update(batch.images, batch.reconstructions)


LPIPS = Statistic(_start, _add, lambda sums: sums, ("encode", "decode"))


def measure(run: RunContext) -> Measures:
    """The mean over images."""
    sums = run[LPIPS]
    return {"lpips": Measure(reason=sums.reason) if sums.reason else Measure(sums.total / sums.count)}


def describe_weights() -> str:
    """The file that the numbers depend on, or why there are none."""
    path = alexnet_path()
    return f"AlexNet, weights sha256 {sha256_file(path)}" if path.is_file() else MISSING


PARTS = [
    Part(
        name="lpips",
        content="LPIPS between originals and reconstructions",
        rows=[Metric("lpips", "LPIPS", GROUP, "", "lower", ".4f", _HELP)],
        measure=measure,
        needs=("encode", "decode"),
        lacking="does not reconstruct",
        statistics=(LPIPS,),
        protocol=describe_weights,
        of_stand_ins=True,
    )
]
