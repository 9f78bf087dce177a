"""What `glip pretrain` knows by name: data, sizes, schedule and rates, each as published or as our own.

Source: SPEC 11.4 and 11.5, the paper's section 4 and its published configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from glip.data.synthetic.stream import Sides
from glip.data.transforms import PUBLISHED_LONGEST, PUBLISHED_SHORT_SIDES
from glip.errors import InputError
from glip.training.loop import FitSettings
from glip.training.optimizer import Rates
from glip.training.schedule import Schedule


@dataclass(frozen=True)
class SceneSettings:
    """Synthetic scenes, see `SceneStream`."""

    seed: int = 0
    names: int | None = 400
    shapes: float = 0.5
    objects: tuple[int, int] = (2, 14)
    scale: tuple[float, float] = (0.07, 0.5)
    sides: tuple[Sides, ...] = (Sides(112, 176),)
    asked: tuple[int, int] = (5, 25)
    sentences: float = 0.1


@dataclass(frozen=True)
class Source:
    """A data set to learn from: a layout of `data.layouts`.

    Attributes:
        layout: its name.
        copies: how often each of its images comes in an epoch.
        weight: its share of the images, relative to the others; None: as many as it has, every image once.
    """

    layout: str
    copies: int = 1
    weight: float | None = None


@dataclass(frozen=True)
class Views:
    """How images of data sets are looked at, see `Augmented`."""

    sizes_short: tuple[int, ...] = PUBLISHED_SHORT_SIDES
    longest: int = PUBLISHED_LONGEST
    flip: float = 0.5


@dataclass(frozen=True)
class PretrainPreset:
    """One way to pre-train.

    Attributes:
        architecture: 'nano', or a published one.
        start: 'fresh' weights, or 'published': ImageNet's Swin and BERT, the rest fresh.
        batch_size: images to a step, over all processes.
        fit: how to learn.
        epochs: length of the run in rounds through the data, where `fit.schedule.steps` is 0.
        scenes: synthetic scenes to learn from, None for none.
        data: sets to learn from; without weights each comes as often as it has images, times its copies.
        views: how their images are looked at.
        seed: of the order and of what is asked.
    """

    architecture: str
    start: Literal["fresh", "published"]
    batch_size: int
    fit: FitSettings
    epochs: float | None = None
    scenes: SceneSettings | None = None
    data: tuple[Source, ...] = ()
    views: Views = Views()
    seed: int = 0


_NANO = PretrainPreset(
    architecture="nano",
    start="fresh",
    batch_size=16,
    scenes=SceneSettings(),
    fit=FitSettings(
        schedule=Schedule(steps=20_000, decay="cosine", warmup=200, least=0.02),
        rates=Rates(base=1e-3, text=1e-3, weight_decay=0.02, groups="clean", betas=(0.9, 0.98)),
        average=0.999,
        ramp_average=True,
        dropout=False,
        save_every=500,
    ),
)
_OBJECTS = (Source("objects365"),)
_GOLDG = (Source("flickr30k"), Source("mixed-no-coco"))
_TINY = PretrainPreset(
    architecture="glip-t",
    start="published",
    batch_size=64,
    epochs=30,
    data=_OBJECTS,
    fit=FitSettings(schedule=Schedule(steps=0), precision="fp16", recompute=True),
)
# Published with seven sets; Visual Genome, ImageNet and OpenImages are not read here.
_LARGE = PretrainPreset(
    architecture="glip-l",
    start="published",
    batch_size=64,
    data=(Source("objects365", 2), Source("flickr30k", 8), Source("mixed-no-coco", 4), Source("cc12m"), Source("sbu")),
    fit=FitSettings(
        schedule=Schedule(steps=1_000_000, decay_milestones=(0.667 * 0.67, 0.667 * 0.89)),
        mode="full",
        rates=Rates(weight_decay=0.01),
        average=0.0,
        recompute=True,
    ),
)

PRESETS: Mapping[str, PretrainPreset] = {
    "nano": _NANO,
    "glip-t-a": replace(_TINY, architecture="glip-t-a"),
    "glip-t-b": _TINY,
    # How often each set came is not published for these two: once.
    "glip-t-c": replace(_TINY, data=_OBJECTS + _GOLDG),
    "glip-t": replace(_TINY, data=_OBJECTS + _GOLDG + (Source("cc3m"), Source("sbu"))),
    "glip-l": _LARGE,
}


def find_preset(name: str) -> PretrainPreset:
    """The preset of a name.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}. Known: {', '.join(PRESETS)}.")
    return PRESETS[name]


def changed(preset: PretrainPreset, values: Mapping[str, Any]) -> PretrainPreset:
    """A preset with some fields set.

    Args:
        preset: what to begin with.
        values: new values by their place, such as {'fit.rates.base': 0.001} or {'fit': {'rates': {'base': 0.001}}}.

    Raises:
        InputError: there is no such field, or the value does not fit.
    """
    content = msgspec.to_builtins(preset)
    for place, value in values.items():
        _put(content, place, place.split("."), value)
    try:
        return msgspec.convert(content, PretrainPreset)
    except msgspec.ValidationError as error:
        raise InputError(f"The preset's values do not fit: {error}.") from error


def _put(content: dict[str, Any], place: str, path: list[str], value: Any) -> None:
    name = path[0]
    if name not in content:
        raise InputError(f"A preset has no field {place!r}. Known here: {', '.join(content)}.")
    if isinstance(value, Mapping) and len(path) == 1 and isinstance(content[name], dict):
        for key, inner in value.items():
            _put(content[name], f"{place}.{key}", [str(key)], inner)
    elif len(path) == 1:
        content[name] = value
    elif isinstance(content[name], dict):
        _put(content[name], place, path[1:], value)
    else:
        raise InputError(f"A preset has no field {place!r}: {name} holds {content[name]!r}.")


def read_changes(path: Path) -> dict[str, Any]:
    """The fields that a YAML file sets.

    Raises:
        InputError: it cannot be read, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"The settings {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"The settings {path} must hold fields and values, such as 'batch_size: 32'.")
    return {str(key): value for key, value in content.items()}


def parse_change(text: str) -> tuple[str, Any]:
    """A field and its value from words of the command line: 'fit.rates.base=0.001'.

    Raises:
        InputError: there is no '=', or the value is no YAML.
    """
    place, equals, value = text.partition("=")
    if not equals or not place.strip():
        raise InputError(f"--set needs FIELD=VALUE, such as fit.rates.base=0.001, not {text!r}.")
    try:
        return place.strip(), _number(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise InputError(f"The value of --set {text!r} cannot be read: {error}") from error


def _number(value: Any) -> Any:
    # YAML takes 1e-3 for a text, because it has no full stop.
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
