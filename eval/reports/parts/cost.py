"""What a model costs: parameters, FLOPs, speed and size."""

from __future__ import annotations

from eval.metrics.cost import measure_cost
from eval.reports.part import Measures, Part
from eval.reports.results import Measure, Metric
from eval.reports.run_context import RunContext

GROUP = "Cost"
_FLOPS, _RATE, _LATENCY = "a multiply-add counts as two", "at the batch size of the protocol", "batch 1, median"
ROWS = (
    Metric("parameters", "Parameters", GROUP, "", "lower", "si"),
    Metric("encode_flops", "Encode", GROUP, "FLOPs/image", "lower", "si", _FLOPS),
    Metric("decode_flops", "Decode", GROUP, "FLOPs/image", "lower", "si", _FLOPS),
    Metric("encode_rate", "Encode", GROUP, "images/s", "higher", ",.0f", _RATE),
    Metric("decode_rate", "Decode", GROUP, "images/s", "higher", ",.0f", _RATE),
    Metric("encode_latency_ms", "Encode latency", GROUP, "ms", "lower", ".2f", _LATENCY),
    Metric("decode_latency_ms", "Decode latency", GROUP, "ms", "lower", ".2f", _LATENCY),
    Metric("snapshot_bytes", "Snapshot", GROUP, "B", "lower", "si"),
)


def measure(run: RunContext) -> Measures:
    """On the main process's device."""
    costs = measure_cost(run.model, run.report.device, run.protocol.batch_size)
    return {
        row.key: Measure(costs[row.key])
        if row.key in costs
        else Measure(reason=f"{run.family} does not {row.key.split('_')[0]}")
        for row in ROWS
    }


PARTS = [
    Part(
        name="cost",
        content="parameters, FLOPs, speed and size",
        rows=ROWS,
        summary=("parameters",),
        measure=measure,
    )
]
