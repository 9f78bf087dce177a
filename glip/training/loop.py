"""The training loop: batches → losses → steps, with moving average, checkpoints, resume and several processes.

Source: the published trainer (microsoft/GLIP, maskrcnn_benchmark/engine/trainer.py); docs/training.md, "The loop".
Knows tensors and the files of its own run. Callers decide what a batch holds and what is done with the result.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glip.errors import InputError, JobFailed
from glip.model.glip import GLIP, RawOutputs
from glip.training.batches import TrainingBatch
from glip.training.checkpointing import SavedRun, add_metrics, drop_metrics_after, load_newest, save_checkpoint
from glip.training.distributed import Processes
from glip.training.losses import Criterion, Losses
from glip.training.modes import disable_dropout, enter_train_mode, recompute_blocks, select_trainable
from glip.training.optimizer import (
    MovingAverage,
    Plateau,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_rates,
)
from glip.training.settings import FitSettings

_OPTIMIZER_FIELDS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW
_MAXIMUM_BAD_STEPS = 25  # in a row without a finite gradient

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Fitted:
    """The outcome of a run.

    Attributes:
        steps: number of finished steps.
        learned: the last values of the trainable parameters, by name.
        average: their moving average; None without one.
        best: their values at the best validation; None without validation.
        best_score, best_step: of that validation.
        rows: the logged metrics.
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
    """Runs the whole network on a batch."""
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
    """Trains a model, or resumes the run in `out`. The model ends with its last weights.

    A resumed run gives the same weights, bit for bit, as one that was not interrupted.

    Args:
        model: changed in place and moved to the device of `processes`.
        batches: returns this process's batches for a range of indices, counted over all steps and their parts.
        settings: of the loop.
        out: receives `metrics.jsonl` and `checkpoints/`.
        processes: distributed context; None: this process alone.
        forward: computes the outputs of a batch.
        validate: returns a score, larger is better. Called with the model in evaluation mode.
        advance: called with the number of finished steps.
        stop_at: pause after this step; a later call resumes.

    Raises:
        JobFailed: gradients are not finite many times in a row, or nothing can be written.
        InputError: the checkpoint to resume from is damaged, or of another network.
    """
    context = processes or Processes(settings.precision)
    return _Fit(model, settings, out, context, forward, validate, advance).run(batches, stop_at)


class _Fit:
    """The state of one call of `fit`."""

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
        self.worse = 0  # validations in a row without improvement
        self.bad_steps = 0
        self.seconds = 0.0
        self.rows: list[dict[str, Any]] = []

    def run(self, batches: Batches, stop_at: int | None) -> Fitted:
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
            self._after_step(done, window)
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
            disable_dropout(self.model)

    def _step(self, wrapped: Any, stream: Iterator[TrainingBatch], step: int) -> tuple[Losses, float, int]:
        schedule = self.settings.schedule
        set_rates(self.optimizer, schedule.at(step) * self.plateau.factor, schedule.weight_decay_at(step))
        parts = self.settings.accumulate
        total, images = None, 0
        for part in range(parts):
            batch = next(stream).to(self.processes.device)
            # The seed of dropout depends on the step alone, so that a resumed run draws the same. It is set after the
            # batch is read, because reading draws random numbers too.
            index = (self.settings.seed * 1_000_003 + step) * parts + part
            torch.manual_seed(index * self.processes.world_size + self.processes.rank)
            last = part == parts - 1
            with nullcontext() if last else self.processes.without_sync(wrapped):
                with self.processes.autocast():
                    outputs = self.forward(wrapped, batch)
                losses = self.criterion(outputs, batch.targets, batch.mask)
                self.processes.backward(losses.total / parts)
            total = losses if total is None else Losses(*(a + b for a, b in zip(total, losses, strict=True)))
            images += len(batch.targets) * self.processes.world_size
        assert total is not None
        norm = self.processes.clip(self.learning.values(), self.settings.clip, self.optimizer)
        self._update(norm, step)
        detached = self.processes.mean(torch.stack([value.detach() for value in total]) / parts)
        return Losses(*detached), norm, images

    def _update(self, norm: float, step: int) -> None:
        if not math.isfinite(norm):
            self.bad_steps += 1
            self.processes.skip(self.optimizer)
            if self.bad_steps >= _MAXIMUM_BAD_STEPS:
                raise JobFailed(
                    f"The gradient was not finite in {self.bad_steps} steps in a row, up to step {step + 1}. Use a "
                    f"smaller learning rate, or precision fp32. The last checkpoint is in {self.out}."
                )
        else:
            self.bad_steps = 0
            self.processes.step(self.optimizer)
            if self.average:
                self.average.update(step)
        self.optimizer.zero_grad(set_to_none=True)

    def _after_step(self, done: int, window: _Window) -> None:
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
        self.plateau.update(score)
        # As published, an equal score counts as an improvement: the later of two equal epochs is kept.
        if score >= self.best_score:
            self.best_score, self.best_step, self.worse = score, done, 0
            self.best = {name: value.detach().clone() for name, value in self.learning.items()}
        else:
            self.worse += 1
        self._log({"step": done, "score": score, "best": self.best_score})

    def _log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.processes.is_main:
            add_metrics(self.out, row)

    def _save(self, done: int) -> None:
        if not self.processes.is_main:
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
        save_checkpoint(self.out, SavedRun(done, state, groups))

    def _resume(self) -> int:
        """Restores the newest checkpoint and returns its step; 0 if there is none."""
        saved = load_newest(self.out)
        if saved is None:
            if self.processes.is_main:
                drop_metrics_after(self.out, 0)
            self.processes.wait()
            return 0
        self._refuse_other_network(saved)
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
        try:
            self.processes.restore_scaler(saved.state["scaler"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise InputError(f"The loss scaler at step {saved.step} in {self.out} is damaged: {error}.") from error
        if self.processes.is_main:
            self.rows = drop_metrics_after(self.out, saved.step)
            logger.info("Resuming at step %d of %d.", saved.step, self.settings.schedule.steps)
        self.processes.wait()
        return saved.step

    def _refuse_other_network(self, saved: SavedRun) -> None:
        shapes = {name: tuple(value.shape) for name, value in self.learning.items()}
        groups = {"learned", *(("average",) if self.average else ()), *({"best"} & saved.tensors.keys())}
        expected = dict.fromkeys(sorted(groups), shapes)
        # The optimiser has fields of each parameter that was trained so far, of its shape, and a step counter.
        optimizer = saved.tensors["optimizer"]
        expected["optimizer"] = {
            key: () if key.endswith("/step") else shapes[key.rpartition("/")[0]]
            for key in optimizer
            if key.rpartition("/")[0] in shapes and key.rpartition("/")[2] in _OPTIMIZER_FIELDS
        }
        for group, here in expected.items():
            there = {name: tuple(value.shape) for name, value in saved.tensors.get(group, {}).items()}
            name = next((name for name in sorted({*here, *there}) if here.get(name) != there.get(name)), None)
            if name is not None:
                raise InputError(
                    f"The checkpoint at step {saved.step} in {self.out} is of another network: in {group}, the shape "
                    f"of {name} is {there.get(name)} there and {here.get(name)} here. Choose another output folder, or "
                    f"resume with the version of glip that started this run."
                )


class _Window:
    """Sums over the steps since the last logged row."""

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
