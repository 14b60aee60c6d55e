"""Switches that change how fast the same training runs, and its numbers by rounding only.

What needs no choice is always on: channels-last memory, fused optimizers, pinned batches, gradients in DDP's buckets,
and freed memory that stays with the process.
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
"""The second is the most that glibc before 2.35 accepts."""


def keep_freed_memory() -> bool:
    """Lets this process use freed memory again, where glibc's malloc would return it to the system.

    A training step frees all its activations and allocates them again a moment later. By default malloc gives large
    blocks back in between, and the system fills every page with zeros anew: a tenth to a quarter of a step on a CPU.

    Returns:
        Whether malloc was told so; not without glibc, and not where its environment variables are set, which then
        decide.
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

    The older of torch's two interfaces: after a call of the newer one (``fp32_precision``, torch 2.9),
    ``torch.get_float32_matmul_precision``, which torch.compile asks, raises an error (torch 2.13).
    """
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = config.tf32


def training_networks(family: Family, config: PerformanceConfig, accelerator: Accelerator) -> dict[str, nn.Module]:
    """The networks by name as a training step calls them: compiled forms of the family's own where that is asked for.

    The family's own stay as they are, so that files keep their names, and evaluation, with its batches of several
    sizes, is never compiled. Call it before ``accelerator.prepare_model``: torch.compile then cuts the graph where
    DDP's buckets end, so that gradients are exchanged during the backward pass.

    Raises:
        UserError: torch.compile does not work here, or accelerate was told to compile as well.
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
    """Compiles next to nothing: a missing compiler is one sentence here and a long traceback in the first step."""

    def probe(values: Tensor) -> Tensor:
        return values * 2 + 1

    try:
        torch.compile(probe)(torch.ones(2, device=device))
    except Exception as error:  # Each backend has errors of its own.
        cause = getattr(error, "inner_exception", error)
        reason = str(cause).strip().partition("\n")[0]
        raise UserError(
            f"torch.compile does not work on this machine ({type(cause).__name__}: {reason}); leave out "
            "--performance.compile, or install a C++ compiler (CPU) or Triton (GPU)."
        ) from None
