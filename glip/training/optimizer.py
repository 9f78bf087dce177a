"""AdamW with its parameter groups, the schedule of the learning rate, and the moving average of the weights.

Source: the published configurations (microsoft/GLIP, configs/pretrain/glip_Swin_T_O365_GoldG.yaml and
maskrcnn_benchmark/solver); docs/training.md, "Optimiser and schedule".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

Groups = Literal["published", "clean"]
Decay = Literal["steps", "cosine", "plateau"]


@dataclass(frozen=True)
class Rates:
    """Learning rates and weight decay.

    Attributes:
        base: learning rate.
        text: learning rate of the text encoder.
        backbone: learning rate of the backbone; None for `base`.
        weight_decay: of AdamW.
        groups: 'published': every parameter whose name contains 'bias' has twice the learning rate and no weight decay.
            This includes Swin's tables of relative positions and the head's text bias; norms decay. 'clean': one
            learning rate for all; parameters of one dimension (norms, biases, scales) and position tables do not decay.
        betas: of AdamW.
    """

    base: float = 1e-4
    text: float = 1e-5
    weight_decay: float = 1e-4
    groups: Groups = "published"
    betas: tuple[float, float] = (0.9, 0.999)
    backbone: float | None = None


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


@dataclass(frozen=True)
class Schedule:
    """Length of a run, and the factor on the learning rate at each step.

    Attributes:
        steps: length of the run; 0: given by the preset's epochs.
        decay: 'steps': times `factor` at each milestone. 'cosine': down to `minimum`. 'plateau': times `factor` when
            the validation score has not improved in more than `patience` validations, see `Plateau`.
        warmup: steps over which the factor grows linearly from `warmup_from` to 1.
        warmup_from: factor of the first step.
        milestones: fractions of the run.
        decay_milestones: fractions of the run at which the weight decay is multiplied by `factor`.
        factor: of 'steps' and 'plateau'.
        minimum: smallest factor of 'cosine' and 'plateau'.
        patience: validations, of 'plateau'.
    """

    steps: int
    decay: Decay = "steps"
    warmup: int = 2000
    warmup_from: float = 0.001
    milestones: tuple[float, ...] = (0.67, 0.89)
    decay_milestones: tuple[float, ...] = ()
    factor: float = 0.1
    minimum: float = 0.01
    patience: int = 3

    def at(self, step: int) -> float:
        """Returns the factor at a step, counted from 0. The factor of a `Plateau` is multiplied on top."""
        if step < self.warmup:
            return self.warmup_from + (1 - self.warmup_from) * step / self.warmup
        if self.decay == "steps":
            return self.factor ** sum(step >= int(share * self.steps) for share in self.milestones)
        if self.decay == "cosine":
            done = (step - self.warmup) / max(self.steps - self.warmup, 1)
            return self.minimum + (1 - self.minimum) * (1 + math.cos(math.pi * min(done, 1))) / 2
        return 1.0

    def weight_decay_at(self, step: int) -> float:
        """Returns the factor on the weight decay at a step, counted from 0."""
        return self.factor ** sum(step >= int(share * self.steps) for share in self.decay_milestones)


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
