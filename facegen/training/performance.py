"""Switches that change the speed of a training, and its numbers only by rounding.

Always on: channels-last memory, fused optimizers, pinned batches, gradients in DDP's buckets, and freed memory that
stays with the process.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from facegen.families.base import Family
from facegen.options import PerformanceConfig
from shards.base.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER_TRIM = 2**31 - 1
_LARGEST_ON_HEAP = (2**30, 2**25)
"""The second is the largest value that glibc before 2.35 accepts."""


def keep_freed_memory() -> bool:
    """Lets this process reuse freed memory that glibc's malloc would return to the system.

    A training step frees all its activations and allocates them again a moment later. By default malloc returns large
    blocks in between, and the system zeroes every page again: a tenth to a quarter of a step on a CPU.

    Returns:
        Whether malloc accepted it; False without glibc, and where malloc's environment variables are set, which win.
    """
    if os.environ.keys() & {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    is_larger = any(mallopt(_M_MMAP_THRESHOLD, num_bytes) for num_bytes in _LARGEST_ON_HEAP)
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)) and is_larger


def set_float32_precision(config: PerformanceConfig, device: torch.device) -> None:
    """Allows TF32 in this process, or forbids it; devices other than NVIDIA's GPUs are left as they are.

    Uses the older of torch's two interfaces: after a call of the newer one (``fp32_precision``, torch 2.9),
    ``torch.get_float32_matmul_precision``, which torch.compile calls, raises an error (torch 2.13).
    """
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = config.tf32


def training_networks(family: Family, config: PerformanceConfig, accelerator: Accelerator) -> dict[str, nn.Module]:
    """The networks by name as a training step calls them: the family's own, or compiled forms of them.

    The family's own stay uncompiled: tensors keep their names in files, and evaluation, whose batches differ in size,
    is never compiled. Call it before ``accelerator.prepare_model``: torch.compile then splits the graph where DDP's
    buckets end, so that gradients are exchanged during the backward pass.

    Raises:
        UserError: torch.compile does not work here, or accelerate was configured to compile too.
    """
    plugin = accelerator.state.dynamo_plugin
    if plugin and plugin.backend != "NO":
        raise UserError(
            "accelerate was launched with a dynamo backend, which cannot compile every family; leave it out and give "
            "--performance.compile true."
        )
    if not config.compile:
        return dict(family.networks.items())
    _check_compiler(accelerator.device)
    for network in family.frozen_networks:
        network.compile()
    return {
        name: network if name in family.uncompiled else torch.compile(network)  # type: ignore[misc]
        for name, network in family.networks.items()
    }


def _check_compiler(device: torch.device) -> None:
    """Compiles a tiny function: a missing compiler is one sentence here, and a long traceback in the first step."""

    def probe(values: Tensor) -> Tensor:
        return values * 2 + 1

    try:
        torch.compile(probe)(torch.ones(2, device=device))
    except Exception as error:  # Each backend has its own errors.
        cause = getattr(error, "inner_exception", error)
        reason = str(cause).strip().partition("\n")[0]
        raise UserError(
            f"torch.compile does not work on this machine ({type(cause).__name__}: {reason}); leave out "
            "--performance.compile, or install a C++ compiler (CPU) or Triton (GPU)."
        ) from None
