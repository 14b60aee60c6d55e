"""The group of processes that ``accelerate launch`` started, and the device of this one."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, NoReturn, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.nn.parallel import DistributedDataParallel

from facegen.processes.binding import bind_to_cores, limit_threads
from shards.base.errors import UserError
from shards.base.places import num_cores

_FIRST_SPEAKS_SEC = 3.0
_CLOSED_BESIDE = "Application timeout caused pair closure"
"""gloo's message where a concurrent exchange has waited too long."""


def make_accelerator(force_cpu: bool = False, handlers: list[Any] | None = None) -> Accelerator:
    """Joins the processes that were launched; run a program that does so with ``run_process``.

    Args:
        force_cpu: Do not use a GPU.
        handlers: Settings of DDP and of the process group, as ``Accelerator`` takes them.

    Raises:
        UserError: Settings that accelerate refuses, or would silently ignore.
    """
    try:
        # With cpu=True, accelerate joins several processes over gloo. Otherwise, launched as for GPUs that are not
        # there, each process would take itself for the only one.
        accelerator = Accelerator(cpu=force_cpu or not torch.accelerator.is_available(), kwargs_handlers=handlers)
    except ValueError as error:
        raise UserError(f"accelerate refuses its settings: {error}") from None
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise UserError(
            f"{launched} processes were launched, but accelerate joined {accelerator.num_processes}; "
            "on CPUs launch with --config_file jobs/accelerate/cpu_processes.yaml."
        )
    if accelerator.mixed_precision != "no" and not accelerator.native_amp:
        # accelerate itself would silently compute in float32.
        precision, device = accelerator.mixed_precision, accelerator.device.type
        raise UserError(f"--mixed_precision {precision} does not work on a {device} device; use bf16 or no.")
    limit_threads(num_cores())
    if distributed.is_initialized() and accelerator.device.type == "cpu":
        bind_to_cores()
    return accelerator


def local_world_size() -> int | None:
    """How many processes of the group run on each machine; None where the launcher does not say."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "0")) or None


def wrap(network: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The network in the form whose gradients are averaged over processes; each process keeps its own buffers.

    DDP would broadcast the main process's buffers before every forward, but no training forward uses them: batch norm
    normalizes by the batch itself. ``share_buffers`` broadcasts them where they matter.
    """
    wrapped = accelerator.prepare_model(network)
    if isinstance(wrapped, DistributedDataParallel):
        wrapped.broadcast_buffers = False
    return wrapped


def share_buffers(network: nn.Module) -> None:
    """Gives every process the main process's buffers; every process must call it at the same step.

    Each process updates batch norm's averages from its own share of a batch, and the main process's are saved. Without
    this, held-out metrics would depend on which process holds an image, and not be those of the snapshot.
    """
    for buffer in network.buffers():
        buffer.copy_(cast(Tensor, broadcast(buffer)))


def sum_over_processes(values: Tensor, accelerator: Accelerator) -> Tensor:
    """Sums of what each process has, in float64 on the CPU; every process must call it at the same step.

    Apple's GPUs, on which a process is always alone, have no float64.
    """
    values = values.detach().cpu().double()
    if accelerator.num_processes > 1:
        values = values.to(accelerator.device)
    return cast(Tensor, accelerator.reduce(values)).cpu()


class Agreement:
    """Which of some flags are true on every process; the exchange runs while this one computes."""

    def __init__(self, flags: Sequence[bool], device: torch.device) -> None:
        """Starts the exchange with this process's own flags; every process must do so at the same step.

        It takes place on ``device``; a process that is alone exchanges nothing.
        """
        self._flags, self._work = flags, None
        if distributed.is_initialized():
            self._shared = torch.tensor(flags, dtype=torch.int32, device=device)
            self._work = distributed.all_reduce(self._shared, distributed.ReduceOp.MIN, async_op=True)

    def read(self) -> list[bool]:
        """The answer; waits for the slowest process."""
        if self._work is None:
            return [*self._flags]
        self._work.wait()
        return self._shared.bool().tolist()


def limit_waiting(seconds: float) -> None:
    """From now on, a process that waits longer than this for another one gets an error instead of hanging.

    On GPUs, NCCL's watchdog notices it and ends the process.
    """
    if distributed.is_initialized():
        _set_pg_timeout(timedelta(seconds=seconds))


def lost_process(error: RuntimeError) -> str | None:
    """Why another process cannot be reached, if that is what an error says: it died, or does not answer."""
    place = re.match(
        r"\[\S*gloo/\S+\] ", str(error)
    )  # Its errors have no class of their own, but name its source file.
    is_known = place or str(error).startswith(_CLOSED_BESIDE) or isinstance(error, distributed.DistError)
    if not is_known:
        return None
    return str(error)[place.end() if place else 0 :].split(". ")[0].splitlines()[0]


def tell_of_lost(error: RuntimeError, advice: str) -> None:
    """Prints that another process cannot be reached, and what to do; any other error is raised again."""
    reason = lost_process(error)
    if reason is None:
        raise error
    lost = f"process {os.environ['RANK']} has lost another one, which ended or did not answer ({reason})"
    print(f"error: {lost}; {advice}.", file=sys.stderr)


def let_first_speak() -> None:
    """Waits before this process prints a problem, unless it is the first of its machine.

    All of them usually find the same problem: the first one prints it, and the launcher then ends the others. What only
    another one has found, that one prints.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_FIRST_SPEAKS_SEC)


def run_process(main: Callable[[], int | None]) -> NoReturn:
    """Runs the main function of a program that may have joined other processes, and exits with its exit code.

    One of several processes exits without shutting down the interpreter, so ``main`` must close its files. A thread of
    the process group may still be about to free a tensor; it would need the interpreter that is shutting down, and
    abort the process (gloo, torch 2.13: one of twenty finished processes on a busy machine).
    """
    if "WORLD_SIZE" not in os.environ:
        sys.exit(main())
    try:
        code: Any = main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*cast(Any, sys.exc_info()))
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # The reader is gone, or there was none.
            stream.flush()
    os._exit(code or 0)
