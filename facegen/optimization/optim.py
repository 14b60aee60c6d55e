"""One network's optimizer, with gradient clipping and loss scaling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from facegen.options import OptimConfig


class Updater:
    """Updates one network from the gradients in its parameters."""

    def __init__(self, network: nn.Module, config: OptimConfig, device: torch.device, use_fp16: bool) -> None:
        """Makes the optimizer and, with ``use_fp16``, its own loss scaler: each player of a GAN needs one."""
        optimizer_class = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        self.config = config
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = optimizer_class(
            self.parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=use_fp16)

    def require_gradients(self, required: bool) -> None:
        """Sets whether the network learns from the next backward pass, or gradients just pass through it."""
        for parameter in self.parameters:
            parameter.requires_grad = required

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of ``loss`` to the parameters' gradients."""
        self.scaler.scale(loss).backward()

    def clip(self) -> Tensor:
        """Unscales and clips the gradient; returns its global L2 norm before clipping, a scalar."""
        self.scaler.unscale_(self.optimizer)
        gradients = [gradient for parameter in self.parameters if (gradient := parameter.grad) is not None]
        # nn.utils.clip_grad_norm_ would sort the gradients by device and rescale even short ones.
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # type: ignore[arg-type]
        if self.config.max_grad_norm is not None and not float(norm) <= self.config.max_grad_norm:
            torch._foreach_mul_(gradients, self.config.max_grad_norm / (norm + 1e-6))  # type: ignore
        return norm

    def step(self, lr: float, update: bool = True) -> None:
        """Updates the parameters and clears the gradient; with fp16, a step whose gradient overflowed is skipped.

        Args:
            lr: Learning rate.
            update: False only clears the gradient.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if update:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict``'s result."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # Empty if the run was saved without fp16.
            self.scaler.load_state_dict(state["scaler"])
