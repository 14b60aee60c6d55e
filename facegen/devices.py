"""Devices that a user names."""

from __future__ import annotations

import torch

from shards.base.errors import UserError, shown


def check_device(device: str | torch.device) -> None:
    """Checks before the work that a device can hold a tensor.

    Raises:
        UserError: It cannot.
    """
    try:
        torch.empty(0, device=device)
    except Exception as error:  # AssertionError, RuntimeError, ModuleNotFoundError: by backend.
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"device {shown(str(device))} cannot be used ({reason}); give another one, such as cpu."
        ) from None
