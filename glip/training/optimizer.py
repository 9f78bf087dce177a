"""AdamW with the published parameter groups, or cleaner ones; and the moving average. Source: SPEC 11.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Groups = Literal["published", "clean"]


@dataclass(frozen=True)
class Rates:
    """How fast what learns.

    Attributes:
        base: learning rate.
        text: that of the text encoder.
        weight_decay: of the optimiser.
        groups: 'published': every parameter whose name contains 'bias' learns twice as fast and does not decay, which
            takes in Swin's tables of relative positions and the head's text bias; norms decay. 'clean': one rate for
            all; what has one dimension (norms, biases, scales) and tables of positions do not decay.
        betas: of AdamW.
    """

    base: float = 1e-4
    text: float = 1e-5
    weight_decay: float = 1e-4
    groups: Groups = "published"
    betas: tuple[float, float] = (0.9, 0.999)


def make_optimizer(model: nn.Module, rates: Rates) -> torch.optim.AdamW:
    """AdamW over the parameters that learn; each group keeps its own `rate` and `decay` for the schedule."""
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
    """Learning rate and weight decay of a parameter."""
    rate = rates.text if name.startswith("text_encoder.") else rates.base
    if rates.groups == "published":
        return (2 * rate, 0.0) if "bias" in name else (rate, rates.weight_decay)
    bare = parameter.dim() <= 1 or "_bias_table" in name or "position_embeddings" in name
    return rate, 0.0 if bare else rates.weight_decay


def set_rates(optimizer: torch.optim.Optimizer, factor: float, decay_factor: float = 1.0) -> None:
    """Every group learns with `factor` times its own rate, and decays with `decay_factor` times its own."""
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * factor
        group["weight_decay"] = group["decay"] * decay_factor


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The optimiser's memory by parameter name and field, as a safetensors file can hold it.

    Args:
        optimizer: any whose state is tensors.
        names: by `id` of the parameter.
    """
    return {
        f"{names[id(parameter)]}/{field}": value.detach().cpu().contiguous()
        for parameter, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Gives an optimiser back what `optimizer_tensors` took."""
    for key, value in tensors.items():
        name, _, field = key.rpartition("/")
        state: dict[str, Any] = optimizer.state[parameters[name]]
        # AdamW keeps its count of steps on the CPU.
        state[field] = value.clone() if field == "step" else value.clone().to(parameters[name].device)


class MovingAverage:
    """Of what learns: average = decay * average + (1 - decay) * value.

    Args:
        parameters: with their names.
        decay: 0.999 is published.
        ramp: forget faster early on, when what is learned soon is worth nothing. Not published.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float, *, ramp: bool = False) -> None:
        self.decay = decay
        self.ramp = ramp
        self._parameters = dict(parameters)
        self.tensors = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After a step from 0."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay
        torch._foreach_lerp_(
            list(self.tensors.values()), [value.detach() for value in self._parameters.values()], 1 - decay
        )

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from saved averages."""
        self.tensors = {name: tensors[name].to(value.device) for name, value in self.tensors.items()}
