"""How to tune: the published recipes for few examples and for whole sets, and those for COCO.

Source: SPEC 12; the paper's appendix E; the README and the ODinW configurations of its authors; the other port's
configurations for COCO. The defaults of `glip finetune` are `recipe_for`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from glip.errors import InputError
from glip.training.loop import FitSettings
from glip.training.modes import TUNING_MODES
from glip.training.optimizer import Rates
from glip.training.schedule import Schedule

Shots = int | Literal["all"]

MODES = tuple(mode for mode in TUNING_MODES if mode != "all")
# The short sides that images are learned at, as shares of the model's own: 480 to 800 for the published ones.
SIZES = (0.6, 0.7, 0.8, 0.9, 1.0)
LEAST_RATE = 1e-6  # a plateau does not go below this
MOST_RATE = 1  # a step of AdamW is about as long as the rate: weights would be nothing but noise


@dataclass(frozen=True)
class Recipe:
    """One way to tune.

    Attributes:
        mode: what learns, see `modes`.
        epochs: most epochs.
        copies: how often each image comes in an epoch.
        batch_size: images to a step, over all processes.
        rates: learning rates, weight decay, groups.
        plateau: learn slower when the validation score has not risen `step_patience` times, and stop when it was
            worse `stop_patience` times in a row; else slower at 67% and 89%, or at `milestones`, and stop at the end.
        step_patience, stop_patience: validations.
        milestones: shares of the run.
        warmup: steps.
        clip: largest norm of the gradient, 0 for none.
        average: decay of the moving average, 0 for none.
        dropout: whether dropout, drop path and DropBlock act in what does not rest.
        flip: share of the images that are mirrored.
        sizes: short sides to draw from, as shares of the model's.
    """

    mode: str
    epochs: int = 200
    copies: int = 1
    batch_size: int = 4
    rates: Rates = field(default_factory=lambda: Rates(weight_decay=0.05))
    plateau: bool = True
    step_patience: int = 3
    stop_patience: int = 8
    milestones: tuple[float, ...] = (0.67, 0.89)
    warmup: int = 0
    clip: float = 1.0
    average: float = 0.0
    dropout: bool = True
    flip: float = 0.5
    sizes: tuple[float, ...] = SIZES

    def __post_init__(self) -> None:
        for what, value in (("epochs", self.epochs), ("copies", self.copies), ("batch", self.batch_size)):
            if value < 1:
                raise InputError(f"--{what} is {value}; it must be 1 or more.")
        if not 0 < self.rates.base <= MOST_RATE:
            raise InputError(
                f"--lr is {self.rates.base}; a learning rate is more than 0 and at most {MOST_RATE}. "
                f"Published are 0.0001, and 0.05 for prompts."
            )

    def without_augmentation(self) -> Recipe:
        """Every image as it is, at the model's own size."""
        return replace(self, flip=0.0, sizes=(1.0,))

    def steps(self, images: int) -> int:
        """Length of the run, as published: the last, incomplete batch of all is left out.

        Args:
            images: to learn from, without copies.
        """
        return max(1, self.epochs * self.copies * images // self.batch_size)

    def fit_settings(self, images: int, precision: Literal["fp32", "bf16", "fp16"], seed: int) -> FitSettings:
        """What the loop is told: a validation after every epoch."""
        steps = self.steps(images)
        every = max(1, steps // self.epochs)
        schedule = Schedule(
            steps=steps,
            decay="plateau" if self.plateau else "steps",
            warmup=self.warmup,
            milestones=self.milestones,
            least=LEAST_RATE / self.rates.base,
            patience=self.step_patience,
        )
        light = self.mode in ("prompt", "linear")
        return FitSettings(
            schedule=schedule,
            mode=self.mode,
            rates=self.rates,
            clip=self.clip,
            average=self.average,
            precision=precision,
            dropout=self.dropout,
            seed=seed,
            log_every=min(every, 20),
            # A checkpoint of all weights takes longer than some steps; one of a prompt does not.
            save_every=every if light else max(every, 100),
            validate_every=every,
            stop_after=self.stop_patience if self.plateau else 0,
        )


_COPIES = {1: 8, 3: 4, 5: 2, 10: 1}  # 1_200_8, 3_200_4, 5_200_2, 10_200_1
_RATES: Mapping[str, Rates] = {
    "full": Rates(base=1e-4, text=1e-5, weight_decay=0.05),
    "linear": Rates(base=1e-4, text=1e-5, weight_decay=0.05),
    "language": Rates(base=1e-4, text=1e-5, weight_decay=0.05),
    "prompt": Rates(base=0.05, text=1e-5, weight_decay=0.25),
}


def recipe_for(mode: str, shots: Shots) -> Recipe:
    """The published recipe.

    Args:
        mode: full, linear, language or prompt.
        shots: images a class, or 'all'. Numbers that were not published take the copies of the next lower one.

    Raises:
        InputError: no mode has this name, or shots are none.
    """
    if mode not in _RATES:
        raise InputError(f"No way to tune is called {mode!r}; known: {', '.join(_RATES)}.")
    if shots == "all":
        return Recipe(mode, rates=_RATES[mode], step_patience=2, stop_patience=4)
    if shots < 1:
        raise InputError(f"--shots is {shots}; a number from 1, or 'all', can be learned from.")
    copies = next(copies for known, copies in reversed(_COPIES.items()) if known <= shots)
    return Recipe(mode, copies=copies, rates=_RATES[mode])


# 24 epochs over COCO, everything learns. Validated after every epoch, which is not part of the published runs.
_COCO = Recipe("all", epochs=24, batch_size=32, plateau=False)
PRESETS: Mapping[str, Recipe] = {
    # The authors' README: 16 GPUs with 2 images each; warm-up, decay and average of their pre-training files.
    "coco": replace(_COCO, rates=Rates(base=1e-5, text=1e-5, weight_decay=1e-4), warmup=2000, average=0.999),
    # The other port, 16 GPUs with 2 images each, 12 epochs over the doubled set. Its norms and tables of relative
    # positions do not decay; neither do biases here.
    "coco-mmdet": replace(
        _COCO,
        rates=Rates(base=1e-5, text=1e-5, weight_decay=0.05, groups="clean"),
        milestones=(8 / 12, 11 / 12),
        warmup=500,
    ),
    # The same for GLIP-T (A), which has no deep fusion.
    "coco-mmdet-a": replace(
        _COCO,
        rates=Rates(base=2e-5, text=2e-5, weight_decay=0.05, groups="clean"),
        milestones=(8 / 12, 11 / 12),
        warmup=500,
        clip=0.0,
    ),
}


def find_recipe(name: str | None, mode: str, shots: Shots) -> Recipe:
    """A preset by name, or the published recipe of a mode.

    Raises:
        InputError: no preset has this name.
    """
    if name is None:
        return recipe_for(mode, shots)
    if name not in PRESETS:
        raise InputError(f"There is no recipe {name!r}. Known: {', '.join(PRESETS)}; without one ODinW's is taken.")
    return PRESETS[name]
