"""Stops a training whose numbers are no longer finite, on every process at the same step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from facegen.processes.failures import TrainingDiverged
from facegen.processes.group import Agreement


def check_update(
    turn: str, terms: Mapping[str, Tensor], grad_norm: Tensor, is_scaled: bool, device: torch.device, moment: str
) -> None:
    """Stops before the optimizer uses a bad gradient.

    A loss that is not finite has a gradient that is not finite, which has been averaged and is the same on every
    process. But with fp16 gradients often overflow, and the loss scaler skips them: there losses are checked.

    Args:
        turn: The network that is about to be updated.
        terms: Loss terms of this process's share of the batch.
        grad_norm: Global L2 norm of the averaged gradient, a scalar.
        is_scaled: Whether a loss scaler is at work.
        device: Where processes exchange what they found.
        moment: For the message, such as ``before step 4 (48 images)``.

    Raises:
        TrainingDiverged: On every process.
    """
    if not is_scaled and math.isfinite(grad_norm):
        return
    bad = _not_finite(terms, device) + ([] if is_scaled else ["gradient"])
    if bad:
        raise TrainingDiverged(
            f"training stopped {moment}: {', '.join(bad)} of the {turn} is not finite. Nothing was updated with it and "
            "the last checkpoint is good; try a lower --optim.lr or --optim.max_grad_norm."
        )


def check_logged(bad: Sequence[str], moment: str) -> None:
    """Stops where a loss term is not finite though every gradient was.

    Args:
        bad: Names of the logged terms that are not finite, the same on every process. A gradient may be among them:
            with fp16 the step is skipped.
        moment: For the message, such as ``after step 4 (64 images)``.

    Raises:
        TrainingDiverged: On every process.
    """
    bad = [name for name in bad if not name.startswith("grad_norm_")]
    if bad:
        raise TrainingDiverged(
            f"training stopped {moment}: {', '.join(bad)} is not finite. Gradients were, and the last checkpoint is "
            "good; look at the data and at that term."
        )


def _not_finite(terms: Mapping[str, Tensor], device: torch.device) -> list[str]:
    """Names of the terms that are not finite on some process."""
    # A sum is finite where all its values are, short of an overflow.
    sums = torch.stack([value.sum() for value in terms.values()])
    finite = Agreement(sums.isfinite().tolist(), device).read()
    return [name for name, is_finite in zip(terms, finite, strict=True) if not is_finite]
