"""How fast to learn at each step. Source: SPEC 11.4 and 12 (published settings)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

Decay = Literal["steps", "cosine", "plateau"]


@dataclass(frozen=True)
class Schedule:
    """A factor on the learning rate.

    Attributes:
        steps: length of the run; 0: see the preset's epochs.
        decay: 'steps': times `factor` at each milestone. 'cosine': down to `least`. 'plateau': times `factor` when the
            validation score has not risen `patience` times.
        warmup: steps over which the factor grows linearly from `warmup_from`.
        milestones: shares of the run.
        decay_milestones: shares of the run at which the weight decay is multiplied by `factor`.
        least: smallest factor of 'cosine', smallest learning rate relative to the base of 'plateau'.
    """

    steps: int
    decay: Decay = "steps"
    warmup: int = 2000
    warmup_from: float = 0.001
    milestones: tuple[float, ...] = (0.67, 0.89)
    decay_milestones: tuple[float, ...] = ()
    factor: float = 0.1
    least: float = 0.01
    patience: int = 3

    def at(self, step: int) -> float:
        """The factor at a step from 0; what a plateau does comes on top, see `Plateau`."""
        if step < self.warmup:
            return self.warmup_from + (1 - self.warmup_from) * step / self.warmup
        if self.decay == "steps":
            return self.factor ** sum(step >= int(share * self.steps) for share in self.milestones)
        if self.decay == "cosine":
            done = (step - self.warmup) / max(self.steps - self.warmup, 1)
            return self.least + (1 - self.least) * (1 + math.cos(math.pi * min(done, 1))) / 2
        return 1.0

    def weight_decay_at(self, step: int) -> float:
        """The factor on the weight decay at a step from 0."""
        return self.factor ** sum(step >= int(share * self.steps) for share in self.decay_milestones)


@dataclass
class Plateau:
    """Learns slower when a score stops to rise. The published rule: torch's ReduceLROnPlateau, mode 'max', relative
    threshold 1e-4, and a score of exactly 0 is not looked at."""

    schedule: Schedule
    factor: float = 1.0
    best: float = -math.inf
    bad: int = 0
    threshold: float = field(default=1e-4, repr=False)

    def look(self, score: float) -> None:
        """Takes note of a validation score."""
        if self.schedule.decay != "plateau" or score == 0:
            return
        if score > self.best * (1 + self.threshold) or self.best == -math.inf:
            self.best, self.bad = score, 0
            return
        self.bad += 1
        if self.bad > self.schedule.patience:
            self.factor, self.bad = max(self.factor * self.schedule.factor, self.schedule.least), 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"factor": self.factor, "best": None if self.best == -math.inf else self.best, "bad": self.bad}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        best = state["best"]
        self.factor, self.best, self.bad = state["factor"], -math.inf if best is None else best, state["bad"]
