"""AdamW with its parameter groups, the plateau of the learning rate, and the moving average of the weights.

Source: the published configurations (microsoft/GLIP, configs/pretrain/glip_Swin_T_O365_GoldG.yaml and
maskrcnn_benchmark/solver); docs/training.md, "Optimiser and schedule".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glip.training.settings import Rates, Schedule


def make_optimizer(model: nn.Module, rates: Rates) -> torch.optim.AdamW:
    """Returns AdamW over the trainable parameters.

    Each group keeps its own `rate` and `decay`, which `set_rates` multiplies.
    """
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            grouped.setdefault(group_of(name, parameter, rates), []).append(parameter)
    groups = [
        {"params": parameters, "lr": rate, "rate": rate, "weight_decay": decay, "decay": decay}
        for (rate, decay), parameters in grouped.items()
    ]
    return torch.optim.AdamW(groups, lr=rates.base, betas=rates.betas, foreach=True)


def group_of(name: str, parameter: Tensor, rates: Rates) -> tuple[float, float]:
    """Returns the learning rate and the weight decay of a parameter."""
    rate = rates.text if name.startswith("text_encoder.") else rates.base
    if rates.backbone is not None and name.startswith("backbone."):
        rate = rates.backbone
    if rates.groups == "published":
        return (2 * rate, 0.0) if "bias" in name else (rate, rates.weight_decay)
    undecayed = parameter.dim() <= 1 or "_bias_table" in name or "position_embeddings" in name
    return rate, 0.0 if undecayed else rates.weight_decay


def set_rates(optimizer: torch.optim.Optimizer, factor: float, decay_factor: float = 1.0) -> None:
    """Sets every group to `factor` times its own learning rate and `decay_factor` times its own weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * factor
        group["weight_decay"] = group["decay"] * decay_factor


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """Returns the optimiser's state by parameter name and field, as a safetensors file can hold it.

    Args:
        optimizer: one whose state is tensors.
        names: parameter name by `id` of the parameter.
    """
    return {
        f"{names[id(parameter)]}/{field}": value.detach().cpu().contiguous()
        for parameter, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Restores the state that `optimizer_tensors` returned."""
    for key, value in tensors.items():
        name, _, field = key.rpartition("/")
        state: dict[str, Any] = optimizer.state[parameters[name]]
        # AdamW keeps its step counter on the CPU.
        state[field] = value.clone() if field == "step" else value.clone().to(parameters[name].device)


@dataclass
class Plateau:
    """Lowers the learning rate when a score stops improving.

    The published rule: torch's ReduceLROnPlateau with mode 'max' and a relative threshold of 1e-4, except that a score
    of exactly 0 is ignored.
    """

    schedule: Schedule
    factor: float = 1.0
    best: float = -math.inf
    bad: int = 0
    threshold: float = field(default=1e-4, repr=False)

    def update(self, score: float) -> None:
        """Records a validation score and lowers `factor` if patience has run out."""
        if self.schedule.decay != "plateau" or score == 0:
            return
        if score > self.best * (1 + self.threshold) or self.best == -math.inf:
            self.best, self.bad = score, 0
            return
        self.bad += 1
        if self.bad > self.schedule.patience:
            self.factor, self.bad = max(self.factor * self.schedule.factor, self.schedule.minimum), 0

    def state(self) -> dict[str, Any]:
        """Returns the values that a checkpoint keeps."""
        return {"factor": self.factor, "best": None if self.best == -math.inf else self.best, "bad": self.bad}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the values that `state` returned."""
        best = state["best"]
        self.factor, self.best, self.bad = state["factor"], -math.inf if best is None else best, state["bad"]


class MovingAverage:
    """Keeps a moving average of the trainable parameters: average = decay * average + (1 - decay) * value.

    Args:
        parameters: with their names.
        decay: 0.999 is published.
        ramp: use a smaller decay in the first steps, whose weights are far from the final ones. Not published.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float, *, ramp: bool = False) -> None:
        self.decay = decay
        self.ramp = ramp
        self._parameters = dict(parameters)
        self.tensors = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the weights after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay
        torch._foreach_lerp_(
            list(self.tensors.values()), [value.detach() for value in self._parameters.values()], 1 - decay
        )

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores saved averages."""
        self.tensors = {name: tensors[name].to(value.device) for name, value in self.tensors.items()}
