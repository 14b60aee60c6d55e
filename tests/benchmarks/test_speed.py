"""CPU time of planning and rendering, beside that of something everybody knows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from eval.features.spaces import load_efflite0
from facegen.perceptual.efficientnet_lite import EfficientNetLite0, preprocess, weights_file
from shards.base.places import num_cores
from shards.loading.batch_plan import BatchPlan
from shards.loading.order import EpochOrder
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource

NUM_SAMPLES = 10_000_000
ROUNDS = 3


def ratio(measured: Callable[[], object], reference: Callable[[], object]) -> float:
    """CPU time of one call over that of the other: the best of interleaved rounds."""

    def seconds(call: Callable[[], object]) -> float:
        start_sec = time.process_time()
        call()
        return time.process_time() - start_sec

    rounds = [(seconds(measured), seconds(reference)) for _ in range(ROUNDS)]
    return min(first for first, _ in rounds) / min(second for _, second in rounds)


@pytest.mark.parametrize("sizes", [[4000] * 2500, [NUM_SAMPLES]], ids=["2500 shards", "one shard"])
def test_ten_million_samples_are_planned_as_fast_as_a_few_permutations(bound, sizes: list[int]) -> None:
    order, epochs, generator = EpochOrder(sizes, seed=0), iter(range(ROUNDS)), np.random.default_rng(0)

    def plan_an_epoch() -> None:
        epoch = next(epochs)
        for start in range(0, NUM_SAMPLES, 100_000):
            order.rows(epoch, start, start + 100_000)

    value = ratio(plan_an_epoch, lambda: generator.permutation(NUM_SAMPLES))
    bound(f"an epoch of 10 million samples in {len(sizes)} shards, in permutations by NumPy", value, at_most=5)


def test_a_jump_costs_the_same_anywhere(bound) -> None:
    def jump_to(samples_seen: int) -> None:
        BatchPlan(EpochOrder([10_000] * 100_000, seed=0), 256, 3, 8).batch(samples_seen)

    value = ratio(lambda: jump_to(256 * 10**10), lambda: jump_to(0))
    bound("a jump deep into a run of a billion samples, in jumps to its start", value, at_most=3)


def test_faces_are_rendered_as_fast_as_photos_are_shrunk(bound) -> None:
    source = SyntheticSource(SyntheticConfig(num=200), 64)
    items = [source[position] for position in range(100)]
    photo = Image.effect_noise((512, 512), 60).convert("RGB")
    source.load(items[0])

    def render() -> None:
        for item in items:
            source.load(item)

    def shrink() -> None:
        for _ in items:
            photo.resize((64, 64), Image.Resampling.LANCZOS)

    value = ratio(render, shrink)
    bound("a synthetic face of 64x64, in resizes of 512x512 to 64x64 by Pillow", value, at_most=3)


def test_features_take_much_less_time_than_the_network_as_it_was_trained(bound) -> None:
    space, network = load_efflite0(torch.device("cpu")), EfficientNetLite0().eval()
    network.load_state_dict(torch.load(weights_file(), weights_only=True))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randint(0, 256, (32, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def as_trained() -> np.ndarray:
        return torch.cat([network.features(preprocess(part)) for part in images.split(16)]).numpy()

    np.testing.assert_allclose(space(images), as_trained(), atol=1e-4)
    value = ratio(lambda: space(images), as_trained)
    bound("features by EfficientNet-Lite0, in passes of the network as it was trained", value, at_most=0.75)


TWO_THREADS_ON_ONE_CORE = """
import os, time
import facegen
import torch  # Its OpenMP counts the cores now, as it does where another program takes one of them later.
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
layers = [torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(8)]
network, images = torch.nn.Sequential(*layers), torch.zeros(8, 16, 32, 32)
for num_threads in (1, 2):
    torch.set_num_threads(num_threads)
    network(images).sum().backward()
    start, num = time.monotonic(), 0
    while time.monotonic() < start + 3:
        network(images).sum().backward()
        num += 1
    print(num)
"""


@pytest.mark.skipif(num_cores() < 2 or sys.platform != "linux", reason="needs two cores, on Linux")
def test_threads_beside_another_program_are_hardly_slower_than_one(bound) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", TWO_THREADS_ON_ONE_CORE]
    one, two = map(int, subprocess.run(command, env=clean, capture_output=True, check=True).stdout.split())
    bound("steps of one thread on a core, in steps of two threads on it", one / two, at_most=4)
