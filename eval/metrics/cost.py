"""What a model costs: parameters, FLOPs, throughput, latency and size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

NUM_WARM_UP = 2
NUM_REPEATS = 7
NUM_LATENCY_REPEATS = 20


def measure_cost(model: Any, device: torch.device, batch_size: int) -> dict[str, float]:
    """Measures a model on its device.

    FLOPs count a multiply-add as two and come from torch's counter (convolutions and matrix products). Times are
    medians after a warm-up, with the input on the device already. Neither includes the conversion of pixels.

    Args:
        model: As ``facegen.model.load`` returns it.
        device: The model's device.
        batch_size: Batch size of the throughput measurement.

    Returns:
        ``parameters``, ``snapshot_bytes`` and, for what the model can do, ``encode_flops``, ``decode_flops`` (per
        image), ``encode_rate``, ``decode_rate`` (images/s), ``encode_latency_ms``, ``decode_latency_ms`` (batch 1).
    """
    costs: dict[str, float] = {"parameters": model.num_parameters, "snapshot_bytes": model.snapshot_bytes}
    calls: dict[str, Callable[[int], Callable[[], Tensor]]] = {}
    if "encode" in model.can:
        calls["encode"] = lambda num: _call(model.encode, torch.zeros(num, *model.image_shape, device=device))
    if "decode" in model.can:
        calls["decode"] = lambda num: _call(model.decode, torch.zeros(num, model.latent_size, device=device))
    for name, prepare in calls.items():
        costs[f"{name}_flops"] = count_flops(prepare(1))
        costs[f"{name}_rate"] = batch_size / median_time_sec(prepare(batch_size), device, NUM_REPEATS)
        costs[f"{name}_latency_ms"] = 1000 * median_time_sec(prepare(1), device, NUM_LATENCY_REPEATS)
    return costs


def count_flops(call: Callable[[], Tensor]) -> int:
    """Floating point operations of one call, a multiply-add counted as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def median_time_sec(call: Callable[[], Tensor], device: torch.device, num_repeats: int) -> float:
    """Median time of a call in seconds; an accelerator is synchronized before each reading of the clock."""
    times = []
    for repeat in range(NUM_WARM_UP + num_repeats):
        _synchronize(device)
        start = time.perf_counter()
        call()
        _synchronize(device)
        if repeat >= NUM_WARM_UP:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _call(function: Callable[[Tensor], Tensor], argument: Tensor) -> Callable[[], Tensor]:
    return lambda: function(argument)


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
