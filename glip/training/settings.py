"""How a model is trained, as data: tuning modes, learning rates and their schedule, settings of the loop.

Imports no torch: recipes, presets and what a command line asks for are checked before it is loaded.
Source: the published configurations (microsoft/GLIP, configs/ and maskrcnn_benchmark/engine/trainer.py);
docs/training.md, "Tuning modes" and "Optimiser and schedule".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

CACHE_IN_MEMORY, CACHE_ON_DISK = 4 << 30, 32 << 30  # bytes of cached features

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


@dataclass(frozen=True)
class Learns:
    """One tuning mode.

    Attributes:
        parameters: patterns of the names of trainable parameters.
        all_but: patterns of exceptions among them.
        resting: modules that stay in evaluation mode: their dropout, drop path and DropBlock are off.
    """

    parameters: tuple[str, ...]
    all_but: tuple[str, ...] = ()
    resting: tuple[str, ...] = ()

    def matches(self, name: str) -> bool:
        """Returns whether the parameter of this name is trained."""

        def in_any(patterns: tuple[str, ...]) -> bool:
            return any(fnmatchcase(name, pattern) for pattern in patterns)

        return in_any(self.parameters) and not in_any(self.all_but)


# Of Swin as published; of a convolutional backbone all up to stride 8.
_STEM = ("backbone.patch_embed", "backbone.stages.0", "backbone.stem")

TUNING_MODES = {
    # Pre-training of the published variants except L.
    "all": Learns(("*",)),
    # Fine-tuning, and pre-training of L.
    "full": Learns(("*",), all_but=tuple(f"{module}.*" for module in _STEM), resting=_STEM),
    # Published as linear_prob: the level scales are not trained, and the frozen fusion tower keeps its dropout.
    "linear": Learns(
        ("head.box.*", "head.centerness.*", "head.text.*", "head.log_scale", "head.bias", "head.bias_text"),
        resting=("backbone", "neck", "text_encoder"),
    ),
    # Published as language_prompt_v1 and, with the same result, v3.
    "language": Learns(("text_encoder.*",), resting=("backbone", "neck", "fusion", "head")),
    # Published as language_prompt_v2 and, with the same result, v4.
    "prompt": Learns(("prompt_offset",), resting=("backbone", "neck", "text_encoder", "fusion", "head")),
}


@dataclass(frozen=True)
class FitSettings:
    """Settings of the training loop.

    Attributes:
        schedule: length of the run, and the course of the learning rate.
        mode: what is trained, see `modes`.
        rates: learning rates, weight decay, parameter groups.
        accumulate: batches per step; each has its own normalisation, and their gradients are averaged.
        clip: maximum L2 norm of all gradients together; 0 for no limit.
        average: decay of the moving average of the weights; 0 for none.
        ramp_average: see `MovingAverage`.
        precision: 'fp32', 'bf16', or 'fp16' on a GPU.
        recompute: compute activations again in the backward pass: less memory, about a third slower.
        dropout: whether dropout, drop path and DropBlock are active.
        seed: of dropout. Batches have a seed of their own.
        log_every, save_every, validate_every: steps; 0 for never (the last step is always saved).
        stop_after: stop after this many validations in a row without improvement; 0 for never.
    """

    schedule: Schedule
    mode: str = "all"
    rates: Rates = field(default_factory=Rates)
    accumulate: int = 1
    clip: float = 1.0
    average: float = 0.999
    ramp_average: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    recompute: bool = False
    dropout: bool = True
    seed: int = 0
    log_every: int = 20
    save_every: int = 1000
    validate_every: int = 0
    stop_after: int = 0
