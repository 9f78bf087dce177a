"""This process and its fellows: device, precision, and what they do together. Started by torchrun or `accelerate`.

A thin layer over `accelerate`, so that the loop reads the same alone and on many machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Processes:
    """One of the processes that train together.

    Args:
        precision: 'fp32', 'bf16' or 'fp16'.
        cpu: use the CPU even where there is a GPU.
    """

    def __init__(self, precision: str = "fp32", *, cpu: bool = False) -> None:
        from accelerate import Accelerator

        # Without a GPU accelerate must be told so, else processes started by torchrun do not find each other.
        cpu = cpu or not torch.accelerator.is_available()
        self._accelerator = Accelerator(cpu=cpu, mixed_precision=PRECISIONS[precision])
        self.device: torch.device = self._accelerator.device
        self.count: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index
        self._scaler = self._accelerator.scaler

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.index == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model such that gradients are averaged over the processes."""
        if self.count == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        ids = None if self.device.type == "cpu" else [self.device]
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)

    def without_sync(self, wrapped: Any) -> AbstractContextManager[Any]:
        """Inside, gradients stay with this process."""
        context: AbstractContextManager[Any] = self._accelerator.no_sync(wrapped)
        return context

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside, products run in the chosen precision."""
        context: AbstractContextManager[Any] = self._accelerator.autocast()
        return context

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a small tensor over all processes."""
        if self.count == 1:
            return values
        mean: Tensor = self._accelerator.reduce(values.clone(), reduction="mean")
        return mean

    def backward(self, loss: Tensor) -> None:
        """Computes gradients, scaled in fp16."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def clip(self, parameters: Iterable[nn.Parameter], most: float, optimizer: torch.optim.Optimizer) -> float:
        """Limits the gradients' common norm (0: measures it only) and gives what it was."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        return float(torch.nn.utils.clip_grad_norm_(list(parameters), most or float("inf")))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Moves the weights."""
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()

    def skip(self, optimizer: torch.optim.Optimizer) -> None:
        """Leaves the weights as they are; in fp16 the scale goes down."""
        if self._scaler is not None:
            self._scaler.step(optimizer)  # sees what is not finite, and does nothing
            self._scaler.update()

    def scaler_state(self) -> dict[str, Any] | None:
        """What fp16 must remember; None otherwise."""
        return None if self._scaler is None else dict(self._scaler.state_dict())

    def restore_scaler(self, state: dict[str, Any] | None) -> None:
        """Goes on from `scaler_state`."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)

    def wait(self) -> None:
        """Until all are here."""
        self._accelerator.wait_for_everyone()
