"""The training loop: batches → losses → steps; average, checkpoints, resume, several processes. Source: SPEC 11.4.

Knows tensors and files of its own run. What the batches hold, and what is done with the result, is others' business.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from glip.errors import JobFailed
from glip.model.glip import GLIP, RawOutputs
from glip.training.batches import TrainingBatch
from glip.training.checkpointing import Saved, add_metrics, cut_metrics, load_newest, save
from glip.training.distributed import Processes
from glip.training.losses import Criterion, Losses
from glip.training.modes import enter_train_mode, rest_randomness, select_trainable
from glip.training.optimizer import (
    MovingAverage,
    Rates,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_rates,
)
from glip.training.recompute import recompute_blocks
from glip.training.schedule import Plateau, Schedule

_MOST_BAD_STEPS = 25  # in a row without a finite gradient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitSettings:
    """How to learn.

    Attributes:
        schedule: how many steps, and how the rates change.
        mode: what learns, see `modes`.
        rates: learning rates, weight decay, groups.
        accumulate: batches to a step; each has its own normalisation, their gradients are averaged.
        clip: largest L2 norm of all gradients; 0 for none.
        average: decay of the moving average of the weights; 0 for none.
        ramp_average: see `MovingAverage`.
        precision: 'fp32', 'bf16', or 'fp16' on a GPU.
        recompute: keep less for the backward pass and compute it again: less memory, about a third slower.
        dropout: whether dropout, drop path and DropBlock act.
        seed: of dropout; batches have their own.
        log_every, save_every, validate_every: steps; 0 for never (the last step is always saved).
        stop_after: stop when so many validations in a row were not better; 0 for never.
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


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a run has made.

    Attributes:
        steps: how many were done.
        learned: the last weights of what learns, by name.
        average: their moving average, None without one.
        best: the weights of the best validation, None without validation.
        best_score, best_step: of that validation.
        rows: the numbers logged.
    """

    steps: int
    learned: dict[str, Tensor]
    average: dict[str, Tensor] | None
    best: dict[str, Tensor] | None
    best_score: float | None
    best_step: int | None
    rows: list[dict[str, Any]]


Batches = Callable[[range], Iterator[TrainingBatch]]
Forward = Callable[[Any, TrainingBatch], RawOutputs]


def forward_pixels(model: Any, batch: TrainingBatch) -> RawOutputs:
    """The whole network."""
    outputs: RawOutputs = model(batch.pixels, batch.input_ids, batch.mask)
    return outputs


def fit(
    model: GLIP,
    batches: Batches,
    settings: FitSettings,
    out: Path,
    *,
    processes: Processes | None = None,
    forward: Forward = forward_pixels,
    validate: Callable[[GLIP], float] | None = None,
    advance: Callable[[int], None] = lambda done: None,
    stop_at: int | None = None,
) -> Fitted:
    """Trains a model, from where an earlier run into `out` stopped. The model ends with its last weights.

    Args:
        model: changed in place; on any device, is moved to that of `processes`.
        batches: gives this process's batches for a range of numbers, counted over all steps and their parts.
        settings: how.
        out: gets `metrics.jsonl` and `checkpoints/`.
        processes: this process and its fellows; alone by default.
        forward: what is computed of a batch.
        validate: gives a score, larger is better; called with the model in evaluation mode.
        advance: told how many steps are done.
        stop_at: end for now after this step; a later run goes on.

    Raises:
        JobFailed: the loss is not finite again and again, or nothing can be written.
        InputError: the checkpoint to go on from is damaged.
    """
    together = processes or Processes(settings.precision)
    return _Run(model, settings, out, together, forward, validate, advance).go(batches, stop_at)


class _Run:
    def __init__(
        self,
        model: GLIP,
        settings: FitSettings,
        out: Path,
        processes: Processes,
        forward: Forward,
        validate: Callable[[GLIP], float] | None,
        advance: Callable[[int], None],
    ) -> None:
        self.settings, self.out, self.processes = settings, out, processes
        self.forward, self.validate, self.advance = forward, validate, advance
        select_trainable(model, settings.mode)
        self.model = model.to(processes.device)
        if settings.recompute:
            recompute_blocks(self.model)
        self.learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.optimizer = make_optimizer(self.model, settings.rates)
        self.average = (
            MovingAverage(self.learning.items(), settings.average, ramp=settings.ramp_average)
            if settings.average
            else None
        )
        self.plateau = Plateau(settings.schedule)
        self.criterion = Criterion(processes.mean)
        self.best: dict[str, Tensor] | None = None
        self.best_score = -math.inf
        self.best_step: int | None = None
        self.worse = 0  # validations in a row
        self.bad_steps = 0
        self.seconds = 0.0
        self.rows: list[dict[str, Any]] = []

    def go(self, batches: Batches, stop_at: int | None) -> Fitted:
        self.out.mkdir(parents=True, exist_ok=True)
        start = self._resume()
        wrapped = self.processes.wrap(self.model)
        planned, parts = self.settings.schedule.steps, self.settings.accumulate
        steps = planned if stop_at is None else max(start, min(planned, stop_at))
        stream = batches(range(start * parts, steps * parts))
        window = _Window()
        done = start
        for step in range(start, steps):
            if self.settings.stop_after and self.worse >= self.settings.stop_after:
                break
            before = time.perf_counter()
            self._enter_train_mode()
            losses, norm, images = self._step(wrapped, stream, step)
            done = step + 1
            window.add(losses, norm, images)
            self.seconds += time.perf_counter() - before
            self._after(done, window)
        if done > start or start == 0:
            self._save(done)
        return Fitted(
            done,
            {name: value.detach() for name, value in self.learning.items()},
            self.average.tensors if self.average else None,
            self.best,
            self.best_score if self.best is not None else None,
            self.best_step,
            self.rows,
        )

    def _enter_train_mode(self) -> None:
        enter_train_mode(self.model, self.settings.mode)
        if not self.settings.dropout:
            rest_randomness(self.model)

    def _step(self, wrapped: Any, stream: Iterator[TrainingBatch], step: int) -> tuple[Losses, float, int]:
        schedule = self.settings.schedule
        set_rates(self.optimizer, schedule.at(step) * self.plateau.factor, schedule.weight_decay_at(step))
        parts = self.settings.accumulate
        total, images = None, 0
        for part in range(parts):
            batch = next(stream).to(self.processes.device)
            # What dropout draws depends on the place in the run alone, so that a resumed run draws the same. Not before
            # the batch is here: whoever reads it draws, too.
            place = (self.settings.seed * 1_000_003 + step) * parts + part
            torch.manual_seed(place * self.processes.count + self.processes.index)
            last = part == parts - 1
            with nullcontext() if last else self.processes.without_sync(wrapped):
                with self.processes.autocast():
                    outputs = self.forward(wrapped, batch)
                losses = self.criterion(outputs, batch.targets, batch.mask)
                self.processes.backward(losses.total / parts)
            total = losses if total is None else Losses(*(a + b for a, b in zip(total, losses, strict=True)))
            images += len(batch.targets) * self.processes.count
        assert total is not None
        norm = self.processes.clip(self.learning.values(), self.settings.clip, self.optimizer)
        self._update(norm, step)
        detached = self.processes.mean(torch.stack([value.detach() for value in total]) / parts)
        return Losses(*detached), norm, images

    def _update(self, norm: float, step: int) -> None:
        if not math.isfinite(norm):
            self.bad_steps += 1
            self.processes.skip(self.optimizer)
            if self.bad_steps >= _MOST_BAD_STEPS:
                raise JobFailed(
                    f"The gradient was not finite {self.bad_steps} steps in a row, up to step {step + 1}. Learn slower "
                    f"(a smaller learning rate), or in fp32. The last checkpoint is in {self.out}."
                )
        else:
            self.bad_steps = 0
            self.processes.step(self.optimizer)
            if self.average:
                self.average.update(step)
        self.optimizer.zero_grad(set_to_none=True)

    def _after(self, done: int, window: _Window) -> None:
        settings, last = self.settings, done == self.settings.schedule.steps
        if settings.log_every and (done % settings.log_every == 0 or last):
            rate = settings.schedule.at(done - 1) * self.plateau.factor * settings.rates.base
            self._log({"step": done, **window.means(), "rate": rate, "seconds": round(self.seconds, 1)})
            window.clear()
        if self.validate and settings.validate_every and (done % settings.validate_every == 0 or last):
            self._validate(done)
        if settings.save_every and done % settings.save_every == 0 and not last:
            self._save(done)
        self.advance(done)

    def _validate(self, done: int) -> None:
        assert self.validate is not None
        self.model.eval()
        with torch.no_grad():
            score = self.validate(self.model)
        self.plateau.look(score)
        # As good as before counts as better, as published: of two equal ones the later is kept.
        if score >= self.best_score:
            self.best_score, self.best_step, self.worse = score, done, 0
            self.best = {name: value.detach().clone() for name, value in self.learning.items()}
        else:
            self.worse += 1
        self._log({"step": done, "score": score, "best": self.best_score})

    def _log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.processes.first:
            add_metrics(self.out, row)

    def _save(self, done: int) -> None:
        if not self.processes.first:
            return
        names = {id(value): name for name, value in self.learning.items()}
        groups: dict[str, Mapping[str, Tensor]] = {
            "learned": self.learning,
            "optimizer": optimizer_tensors(self.optimizer, names),
        }
        if self.average:
            groups["average"] = self.average.tensors
        if self.best:
            groups["best"] = self.best
        state = {
            "plateau": self.plateau.state(),
            "best_score": self.best_score if self.best else None,
            "best_step": self.best_step,
            "worse": self.worse,
            "seconds": self.seconds,
            "scaler": self.processes.scaler_state(),
        }
        save(self.out, Saved(done, state, groups))

    def _resume(self) -> int:
        saved = load_newest(self.out)
        if saved is None:
            if self.processes.first:
                cut_metrics(self.out, 0)
            self.processes.wait()
            return 0
        with torch.no_grad():
            for name, parameter in self.learning.items():
                parameter.copy_(saved.tensors["learned"][name])
        restore_optimizer(self.optimizer, self.learning, saved.tensors["optimizer"])
        if self.average:
            self.average.restore(saved.tensors["average"])
        if "best" in saved.tensors:
            self.best = {name: value.to(self.processes.device) for name, value in saved.tensors["best"].items()}
            self.best_score, self.best_step = saved.state["best_score"], saved.state["best_step"]
        self.plateau.restore(saved.state["plateau"])
        self.worse, self.seconds = saved.state["worse"], saved.state["seconds"]
        self.processes.restore_scaler(saved.state["scaler"])
        if self.processes.first:
            self.rows = cut_metrics(self.out, saved.step)
            logger.info("Going on from step %d of %d.", saved.step, self.settings.schedule.steps)
        self.processes.wait()
        return saved.step


class _Window:
    """Means since the last line of numbers."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.losses = torch.zeros(4, dtype=torch.float64)
        self.norm, self.steps, self.images = 0.0, 0, 0
        self.started = time.perf_counter()

    def add(self, losses: Losses, norm: float, images: int) -> None:
        self.losses += torch.stack(list(losses)).double().cpu()
        self.norm += norm
        self.steps += 1
        self.images += images

    def means(self) -> dict[str, float]:
        total, alignment, box, centerness = (self.losses / self.steps).tolist()
        return {
            "loss": round(total, 6),
            "alignment": round(alignment, 6),
            "box": round(box, 6),
            "centerness": round(centerness, 6),
            "gradient_norm": round(self.norm / self.steps, 4),
            "images_per_second": round(self.images / (time.perf_counter() - self.started), 2),
        }
