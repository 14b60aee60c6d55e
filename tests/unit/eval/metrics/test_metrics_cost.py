"""Cost: FLOPs by hand, and what a model that only decodes reports."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eval.metrics.cost import count_flops, measure_cost, median_time_sec


class Decoder:
    can = frozenset({"decode", "sample"})
    latent_size = 5
    image_shape = (3, 4, 4)
    num_parameters = 240
    snapshot_bytes = 960

    def __init__(self) -> None:
        self.linear = nn.Linear(5, 48, bias=False)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.linear(latents).reshape(-1, 3, 4, 4)


def test_flops_of_a_convolution_by_hand():
    convolution = nn.Conv2d(3, 8, kernel_size=3, padding=1)
    flops = count_flops(lambda: convolution(torch.zeros(1, 3, 10, 10)))
    assert flops == 2 * 10 * 10 * 8 * 3 * 3 * 3


def test_a_decoder_reports_only_what_it_does():
    costs = measure_cost(Decoder(), torch.device("cpu"), batch_size=8)
    assert costs["decode_flops"] == 2 * 5 * 48
    assert costs["parameters"] == 240
    assert costs["snapshot_bytes"] == 960
    assert costs["decode_rate"] > 0
    assert not any(name.startswith("encode") for name in costs)


def test_the_first_slow_calls_do_not_count():
    import time

    calls: list[int] = []

    def call() -> torch.Tensor:
        calls.append(1)
        time.sleep(0.05 if len(calls) <= 2 else 0.001)
        return torch.zeros(1)

    assert median_time_sec(call, torch.device("cpu"), num_repeats=3) == pytest.approx(0.001, abs=0.02)
