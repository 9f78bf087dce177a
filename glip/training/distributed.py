"""Distributed training context: rank, world size, device, precision. Started by `torchrun` or `accelerate launch`.

A thin layer over `accelerate`, so that the loop reads the same with one process and with many.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Processes:
    """Holds the context of this process.

    Args:
        precision: 'fp32', 'bf16' or 'fp16'.
        device: 'auto' takes a GPU if there is one, 'cpu' never does, and 'cuda:N' chooses one. With several processes
            'auto' and 'cuda' give each process its own GPU.

    Attributes:
        device: of this process.
        world_size: number of processes.
        rank: index of this process.

    Raises:
        InputError: the device is unknown or not in this machine.
    """

    def __init__(self, precision: str = "fp32", device: str = "auto") -> None:
        from accelerate import Accelerator, InitProcessGroupKwargs

        from glip.detectors.glip import choose_device

        chosen = choose_device(device)
        # Without a GPU accelerate must be told so; otherwise processes started by torchrun do not find each other.
        cpu = chosen.type == "cpu" or not torch.accelerator.is_available()
        if chosen.type == "cuda" and chosen.index is not None:
            torch.cuda.set_device(chosen)
        # A run that was paused (SIGSTOP) for hours must not end because one process waited for another.
        patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
        self._accelerator = Accelerator(cpu=cpu, mixed_precision=PRECISIONS[precision], kwargs_handlers=[patience])
        self.device: torch.device = self._accelerator.device
        self.world_size: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self._scaler = self._accelerator.scaler

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Returns the model such that gradients are averaged over the processes."""
        if self.world_size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        ids = None if self.device.type == "cpu" else [self.device]
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)

    def without_sync(self, wrapped: Any) -> AbstractContextManager[Any]:
        """Returns a context in which gradients are not exchanged between processes."""
        context: AbstractContextManager[Any] = self._accelerator.no_sync(wrapped)
        return context

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns a context in which matrix products run in the chosen precision."""
        context: AbstractContextManager[Any] = self._accelerator.autocast()
        return context

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean of a small tensor over all processes."""
        if self.world_size == 1:
            return values
        mean: Tensor = self._accelerator.reduce(values.clone(), reduction="mean")
        return mean

    def backward(self, loss: Tensor) -> None:
        """Computes gradients, scaled in fp16."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def clip(self, parameters: Iterable[nn.Parameter], maximum: float, optimizer: torch.optim.Optimizer) -> float:
        """Limits the L2 norm of all gradients together and returns the norm before. 0 limits nothing."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        return float(torch.nn.utils.clip_grad_norm_(list(parameters), maximum or float("inf")))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Updates the weights."""
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()

    def skip(self, optimizer: torch.optim.Optimizer) -> None:
        """Leaves the weights unchanged after a gradient that is not finite; in fp16 lowers the loss scale."""
        if self._scaler is not None:
            self._scaler.step(optimizer)  # skips the update itself, since the gradients are not finite
            self._scaler.update()

    def scaler_state(self) -> dict[str, Any] | None:
        """Returns the state of the fp16 loss scaler; None in other precisions."""
        return None if self._scaler is None else dict(self._scaler.state_dict())

    def restore_scaler(self, state: dict[str, Any] | None) -> None:
        """Restores the state that `scaler_state` returned."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)

    def wait(self) -> None:
        """Waits until all processes have reached this call."""
        self._accelerator.wait_for_everyone()
