"""How to fine-tune: the published recipes for few examples and whole data sets, and those for COCO.

Source: the paper's appendix E; microsoft/GLIP, README.md and configs/odinw_13/*.yaml; for COCO also the configurations
of mmdetection (configs/glip/). docs/training.md, "Recipes". The defaults of `glip finetune` are `recipe_for`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from glip.errors import InputError
from glip.training.settings import TUNING_MODES, FitSettings, Rates, Schedule

Shots = int | Literal["all"]

MODES = tuple(mode for mode in TUNING_MODES if mode != "all")
# Short sides of training images, as fractions of the model's image size: 480 to 800 for the published models.
SIZES = (0.6, 0.7, 0.8, 0.9, 1.0)
MINIMUM_RATE = 1e-6  # a plateau does not lower the learning rate below this
MAXIMUM_RATE = 1  # a step of AdamW is about as long as the learning rate: larger ones destroy the weights


@dataclass(frozen=True)
class Recipe:
    """The settings of one way to fine-tune.

    Attributes:
        mode: what is trained, see `modes`.
        epochs: maximum number of epochs.
        copies: number of times each image is used per epoch.
        batch_size: images per step, over all processes.
        rates: learning rates, weight decay, parameter groups.
        plateau: True: lower the learning rate when the validation score has not improved in more than `step_patience`
            validations, and stop after `stop_patience` validations in a row without improvement. False: lower it at
            `milestones` and stop at the end.
        step_patience, stop_patience: validations.
        milestones: fractions of the run.
        warmup: steps.
        clip: maximum norm of the gradient, 0 for no limit.
        average: decay of the moving average, 0 for none.
        dropout: whether dropout, drop path and DropBlock are active in the parts that do not rest in this mode.
        flip: fraction of the images that are flipped horizontally.
        sizes: short sides to draw from, as fractions of the model's image size.

    Raises:
        InputError: a number is out of its range.
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
        for name in ("epochs", "copies", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 < self.rates.base <= MAXIMUM_RATE:
            raise InputError(
                f"lr is {self.rates.base}; it must be more than 0 and at most {MAXIMUM_RATE}. The published learning "
                f"rates are 0.0001, and 0.05 for mode prompt."
            )

    def without_augmentation(self) -> Recipe:
        """Returns the recipe with every image at the model's own size, never flipped."""
        return replace(self, flip=0.0, sizes=(1.0,))

    def steps(self, images: int) -> int:
        """Returns the length of the run in steps. As published, the last incomplete batch is dropped.

        Args:
            images: number of training images, without copies.
        """
        return max(1, self.epochs * self.copies * images // self.batch_size)

    def epochs_at(self, step: int, images: int) -> float:
        """Returns the number of passes over the examples after some steps, with two decimals; at most `epochs`.

        It may be a fraction: where an epoch is no whole number of steps, validations fall between the ends of epochs.

        Args:
            step: number of finished steps.
            images: number of training images, without copies.
        """
        return round(step * self.epochs / self.steps(images), 2)

    def fit_settings(self, images: int, precision: Literal["fp32", "bf16", "fp16"], seed: int) -> FitSettings:
        """Returns the settings of the loop, with a validation after every epoch.

        Args:
            images: number of training images, without copies.
            precision: of the arithmetic.
            seed: of dropout.
        """
        steps = self.steps(images)
        every = max(1, steps // self.epochs)
        schedule = Schedule(
            steps=steps,
            decay="plateau" if self.plateau else "steps",
            warmup=self.warmup,
            milestones=self.milestones,
            minimum=MINIMUM_RATE / self.rates.base,
            patience=self.step_patience,
        )
        small = self.mode in ("prompt", "linear")
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
            # Writing a checkpoint of all weights takes longer than several steps; one of a prompt does not.
            save_every=every if small else max(every, 100),
            validate_every=every,
            stop_after=self.stop_patience if self.plateau else 0,
        )


_COPIES = {1: 8, 3: 4, 5: 2, 10: 1}  # by shots; published as 1_200_8, 3_200_4, 5_200_2, 10_200_1
_RATES: Mapping[str, Rates] = {
    "full": Rates(base=1e-4, text=1e-5, weight_decay=0.05),
    "linear": Rates(base=1e-4, text=1e-5, weight_decay=0.05),
    "language": Rates(base=1e-4, text=1e-5, weight_decay=0.05),
    "prompt": Rates(base=0.05, text=1e-5, weight_decay=0.25),
}


def recipe_for(mode: str, shots: Shots) -> Recipe:
    """Returns the published recipe.

    Args:
        mode: full, linear, language or prompt.
        shots: images per class, or 'all'. Other numbers than the published ones use the copies of the next lower one.

    Raises:
        InputError: the mode is unknown, or `shots` is less than 1.
    """
    if mode not in _RATES:
        raise InputError(f"mode is {mode!r}; it must be one of {', '.join(_RATES)}.")
    if shots == "all":
        return Recipe(mode, rates=_RATES[mode], step_patience=2, stop_patience=4)
    if shots < 1:
        raise InputError(f"shots is {shots}; training needs 1 or more, or 'all'.")
    copies = next(copies for known, copies in reversed(_COPIES.items()) if known <= shots)
    return Recipe(mode, copies=copies, rates=_RATES[mode])


# 24 epochs over COCO, everything is trained. The validation after every epoch is not part of the published runs.
_COCO = Recipe("all", epochs=24, batch_size=32, plateau=False)
PRESETS: Mapping[str, Recipe] = {
    # README.md of microsoft/GLIP: 16 GPUs with 2 images each; warm-up, decay and average as in its pre-training files.
    "coco": replace(_COCO, rates=Rates(base=1e-5, text=1e-5, weight_decay=1e-4), warmup=2000, average=0.999),
    # mmdetection: 16 GPUs with 2 images each, 12 epochs over the doubled data set. There, norms and tables of relative
    # positions do not decay; here, biases do not decay either.
    "coco-mmdet": replace(
        _COCO,
        rates=Rates(base=1e-5, text=1e-5, weight_decay=0.05, groups="clean"),
        milestones=(8 / 12, 11 / 12),
        warmup=500,
    ),
    # mmdetection's recipe for GLIP-T (A), which has no deep fusion.
    "coco-mmdet-a": replace(
        _COCO,
        rates=Rates(base=2e-5, text=2e-5, weight_decay=0.05, groups="clean"),
        milestones=(8 / 12, 11 / 12),
        warmup=500,
        clip=0.0,
    ),
}


def find_recipe(name: str | None, mode: str, shots: Shots) -> Recipe:
    """Returns the preset of this name; for None, the published recipe of the mode.

    Raises:
        InputError: no preset has this name, or see `recipe_for`.
    """
    if name is None:
        return recipe_for(mode, shots)
    if name not in PRESETS:
        raise InputError(
            f"recipe is {name!r}; it must be one of {', '.join(PRESETS)}, or none for the recipes of ODinW."
        )
    return PRESETS[name]
