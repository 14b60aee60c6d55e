"""Settings of the process that make training faster: TF32, memory that malloc keeps, and channels last."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from typing import Any

import pytest
import torch

from facegen.options import PerformanceConfig
from facegen.randomness import SlotRandom
from facegen.training.augment import AugmentConfig, augment
from facegen.training.performance import keep_freed_memory, set_float32_precision


def test_tf32_is_set_by_one_interface_and_on_nvidia_s_gpus_only() -> None:
    def flags() -> tuple[Any, ...]:
        # These raise an error where torch's two interfaces have been mixed; torch.compile calls them.
        return (
            torch.get_float32_matmul_precision(),
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
        )

    before = flags()
    try:
        set_float32_precision(PerformanceConfig(tf32=True), torch.device("cpu"))
        assert flags() == before
        set_float32_precision(PerformanceConfig(tf32=True), torch.device("cuda"))
        assert flags() == ("high", True, True)
        set_float32_precision(PerformanceConfig(tf32=False), torch.device("cuda"))
        assert flags() == ("highest", False, False)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[2]


_PAGE_FAULTS = """
import resource
import torch
from facegen.training.performance import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = torch.ones(10 * 2**20)  # 40 MiB: above malloc's own limit, so by default freed to the system.
    del activations
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# The first allocation always faults; any other may, where the kernel reclaims idle pages. Freed ones do every time.
before = [page_faults() for _ in range(30)]
is_kept = keep_freed_memory()
print(is_kept, min(before[1:]), min([page_faults() for _ in range(30)][1:]))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35),
    reason="needs a glibc that can keep this much freed memory",
)
def test_freed_memory_is_reused() -> None:
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name and "GLIBC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", _PAGE_FAULTS], env=environment, capture_output=True, text=True, check=True
    )
    is_kept, before, after = done.stdout.split()
    pages = 40 * 2**20 // resource.getpagesize()
    assert is_kept == "True"
    assert int(before) > pages // 2  # malloc's default; without it there would be nothing to gain.
    assert int(after) < pages // 10


def test_malloc_settings_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_freed_memory()


@pytest.mark.parametrize("config", [AugmentConfig(flip=False), AugmentConfig(True, 0.2, 0.2, 0.2)])
def test_training_images_are_channels_last(config: AugmentConfig) -> None:
    stored = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    images = augment(stored, config, SlotRandom(0, 0, slice(0, 4), 4))
    assert images.is_contiguous(memory_format=torch.channels_last)
