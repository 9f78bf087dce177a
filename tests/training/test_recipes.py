"""The published recipes, as numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glip.errors import InputError
from glip.training.optimizer import Plateau
from glip.training.recipes import MODES, PRESETS, Recipe, Shots, find_recipe, recipe_for


@pytest.mark.parametrize(
    ("shots", "copies", "step_patience", "stop_patience"),
    [(1, 8, 3, 8), (3, 4, 3, 8), (5, 2, 3, 8), (10, 1, 3, 8), ("all", 1, 2, 4), (2, 8, 3, 8), (30, 1, 3, 8)],
)
def test_copies_and_patience_go_with_the_shots(
    shots: Shots, copies: int, step_patience: int, stop_patience: int
) -> None:
    for mode in MODES:
        recipe = recipe_for(mode, shots)
        assert (recipe.epochs, recipe.copies, recipe.batch_size) == (200, copies, 4)
        assert (recipe.step_patience, recipe.stop_patience) == (step_patience, stop_patience)
        assert recipe.average == recipe.warmup == 0
        assert recipe.flip == 0.5


@pytest.mark.parametrize(
    ("mode", "base", "text", "decay"),
    [
        ("full", 1e-4, 1e-5, 0.05),
        ("linear", 1e-4, 1e-5, 0.05),
        ("language", 1e-4, 1e-5, 0.05),
        ("prompt", 0.05, 1e-5, 0.25),
    ],
)
def test_rates_go_with_the_mode(mode: str, base: float, text: float, decay: float) -> None:
    rates = recipe_for(mode, 1).rates
    assert (rates.base, rates.text, rates.weight_decay, rates.groups) == (base, text, decay, "published")


def test_a_run_is_as_long_as_published() -> None:
    assert recipe_for("prompt", 1).steps(1) == 200 * 8 // 4
    assert recipe_for("full", "all").steps(150) == 200 * 150 // 4
    assert Recipe("full", epochs=1).steps(1) == 1  # never no step at all


def test_every_epoch_is_validated_and_a_plateau_has_a_floor() -> None:
    settings = recipe_for("prompt", 3).fit_settings(5, "fp32", seed=30)
    assert settings.schedule.steps == 200 * 4 * 5 // 4
    assert settings.validate_every == 5
    assert settings.stop_after == 8
    assert settings.save_every == 5
    assert settings.seed == 30
    plateau = Plateau(settings.schedule)
    for _ in range(100):
        plateau.update(1.0)
    assert plateau.factor * recipe_for("prompt", 3).rates.base == pytest.approx(1e-6)


def test_coco_is_tuned_for_24_epochs_at_five_sizes() -> None:
    for recipe in PRESETS.values():
        assert (recipe.mode, recipe.epochs, recipe.batch_size) == ("all", 24, 32)
        assert [round(share * 800) for share in recipe.sizes] == [480, 560, 640, 720, 800]
        settings = recipe.fit_settings(117_266, "bf16", 0)
        assert settings.schedule.steps == 24 * 117_266 // 32
        assert settings.stop_after == 0
    paper, other, plain = PRESETS["coco"], PRESETS["coco-mmdet"], PRESETS["coco-mmdet-a"]
    assert (paper.rates.base, paper.rates.text, paper.milestones) == (1e-5, 1e-5, (0.67, 0.89))
    assert (other.rates.base, other.rates.weight_decay, other.clip) == (1e-5, 0.05, 1.0)
    assert (plain.rates.base, plain.clip) == (2e-5, 0.0)


def test_without_augmentation_images_are_seen_as_in_testing() -> None:
    recipe = recipe_for("prompt", 1).without_augmentation()
    assert (recipe.flip, recipe.sizes) == (0.0, (1.0,))


@pytest.mark.parametrize(
    ("name", "mode", "shots", "message"),
    [
        ("lvis", "full", 1, "recipe is 'lvis'.*coco, coco-mmdet, coco-mmdet-a"),
        (None, "adapter", 1, "mode is 'adapter'.*full, linear, language, prompt"),
        (None, "all", 1, "mode is 'all'.*full"),
        (None, "full", -1, "shots is -1"),
    ],
)
def test_what_is_unknown_is_said(name: str | None, mode: str, shots: Shots, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_recipe(name, mode, shots)


@pytest.mark.parametrize("field", ["epochs", "copies", "batch_size"])
def test_numbers_below_one_are_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} is 0"):
        Recipe("full", **{field: 0})  # type: ignore[arg-type]  # one of the numbers


@pytest.mark.parametrize(
    ("images", "copies", "epochs", "steps"),
    [(6, 1, 4, 6), (5, 8, 200, 2000), (1, 1, 3, 1), (7, 1, 1, 1), (41, 1, 20, 205)],
)
def test_a_whole_run_has_as_many_epochs_as_its_recipe(images: int, copies: int, epochs: int, steps: int) -> None:
    """Also where an epoch is no whole number of steps, and validations are more or fewer than epochs."""
    recipe = replace(recipe_for("prompt", "all"), copies=copies, epochs=epochs)
    assert recipe.steps(images) == steps
    assert recipe.epochs_at(steps, images) == epochs
    assert recipe.epochs_at(0, images) == 0
    assert recipe.epochs_at(steps // 2, images) == pytest.approx(epochs * (steps // 2) / steps, abs=0.01)
