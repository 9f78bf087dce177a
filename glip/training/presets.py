"""Presets of `glip pretrain`: data, image sizes, schedule and learning rates, published ones and our own.

Source: the paper's section 4, and microsoft/GLIP, configs/pretrain/*.yaml; docs/training.md, "Pre-training presets".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from glip.data.photos import Looks
from glip.data.synthetic.stream import Sides
from glip.data.transforms import PUBLISHED_LONGEST, PUBLISHED_SHORT_SIDES
from glip.errors import InputError, did_you_mean
from glip.files import read_content
from glip.training.settings import FitSettings, Rates, Schedule
from glip.yaml_files import load_yaml

_MAX_SETTINGS = 1_000_000  # bytes of a settings file


@dataclass(frozen=True)
class SceneSettings:
    """Settings of synthetic scenes, see `SceneStream`."""

    seed: int = 0
    names: int | None = 400
    shapes: float = 0.5
    objects: tuple[int, int] = (2, 14)
    scale: tuple[float, float] = (0.07, 0.5)
    sides: tuple[Sides, ...] = (Sides(112, 176),)
    asked: tuple[int, int] = (5, 25)
    sentences: float = 0.1


@dataclass(frozen=True)
class PhotoSource:
    """A set of photographs: a folder with `annotations.json` and the images.

    Attributes:
        folder: relative to the data root.
        weight: share of the photographs, relative to the other sets.
    """

    folder: str
    weight: float


@dataclass(frozen=True)
class PhotoSettings:
    """Photographs and the drawn scenes mixed with them, see `Blend`.

    Attributes:
        sets: the sets of photographs, with their weights.
        cutouts: folder of cut-out things to paste, relative to the data root; None for none.
        wordnet: folder of WordNet's files, such as '/usr/share/wordnet'. Words close to class names then end with the
            embeddings learned for these, see `close_words`; None for no such words.
        scene_share: share of drawn scenes among all images.
        sides: short sides of the images, in pixels.
        many: share of the batches with up to 20 absent names, and of those with up to 80.
        looks: augmentation of the photographs and sampling of the names.
    """

    sets: tuple[PhotoSource, ...]
    cutouts: str | None = None
    wordnet: str | None = None
    scene_share: float = 0.2
    sides: tuple[int, ...] = (160, 192)
    many: tuple[float, float] = (0.12, 0.02)
    looks: Looks = field(default_factory=Looks)


@dataclass(frozen=True)
class DataSource:
    """A data set to train on.

    Attributes:
        layout: its name, see `data.pretraining_sets`.
        copies: number of times each of its images is used per epoch.
        weight: its share of the images, relative to the other data sets; None: every image once per epoch.
    """

    layout: str
    copies: int = 1
    weight: float | None = None


@dataclass(frozen=True)
class Views:
    """Resizing and flipping of the images of data sets, see `Augmented`."""

    sizes_short: tuple[int, ...] = PUBLISHED_SHORT_SIDES
    longest: int = PUBLISHED_LONGEST
    flip: float = 0.5


@dataclass(frozen=True)
class PretrainPreset:
    """The settings of one way to pre-train.

    Attributes:
        architecture: 'nano', or a published one.
        start: 'fresh': random weights. 'published': ImageNet's Swin and BERT, random weights elsewhere.
            'nano': the fitting weights of the embedded model, with a backbone from ImageNet.
        batch_size: images per step, over all processes.
        fit: settings of the training loop.
        epochs: length of the run in epochs, if `fit.schedule.steps` is 0.
        scenes: synthetic scenes to train on; None for none.
        data: data sets to train on. Without weights, every image is used `copies` times per epoch.
        views: resizing and flipping of their images.
        photos: photographs to train on together with `scenes`, if a data root is given.
        seed: of the order of the images and of the sampled names.
    """

    architecture: str
    start: Literal["fresh", "published", "nano"]
    batch_size: int
    fit: FitSettings
    epochs: float | None = None
    scenes: SceneSettings | None = None
    data: tuple[DataSource, ...] = ()
    views: Views = Views()
    photos: PhotoSettings | None = None
    seed: int = 0


_NANO = PretrainPreset(
    architecture="nano",
    start="nano",
    batch_size=16,
    scenes=SceneSettings(shapes=0.45, objects=(1, 12), scale=(0.07, 0.55), asked=(5, 16), sentences=0.03),
    photos=PhotoSettings(
        sets=(
            PhotoSource("photos/voc_photos/train", 0.5),
            PhotoSource("photos/coco_photos/train", 0.22),
            PhotoSource("photos/street_highway/train", 0.1),
            PhotoSource("photos/street_weather/train", 0.06),
            PhotoSource("photos/wild_animals/train", 0.12),
        ),
        cutouts="cutouts/tuxpaint",
    ),
    fit=FitSettings(
        schedule=Schedule(steps=20_000, decay="cosine", warmup=200, minimum=0.02),
        mode="full",  # the stem of the backbone is frozen
        rates=Rates(base=1e-3, text=1e-3, backbone=3e-4, weight_decay=0.02, groups="clean", betas=(0.9, 0.98)),
        average=0.999,
        ramp_average=True,
        dropout=False,
        save_every=500,
    ),
)
_OBJECTS = (DataSource("objects365"),)
_GOLDG = (DataSource("flickr30k"), DataSource("mixed-no-coco"))
_TINY = PretrainPreset(
    architecture="glip-t",
    start="published",
    batch_size=64,
    epochs=30,
    data=_OBJECTS,
    fit=FitSettings(schedule=Schedule(steps=0), precision="fp16", recompute=True),
)
# Published with seven data sets; Visual Genome, ImageNet and OpenImages cannot be read here.
_LARGE = PretrainPreset(
    architecture="glip-l",
    start="published",
    batch_size=64,
    data=(
        DataSource("objects365", 2),
        DataSource("flickr30k", 8),
        DataSource("mixed-no-coco", 4),
        DataSource("cc12m"),
        DataSource("sbu"),
    ),
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
    # The number of copies of each data set is not published for these two: 1.
    "glip-t-c": replace(_TINY, data=_OBJECTS + _GOLDG),
    "glip-t": replace(_TINY, data=_OBJECTS + _GOLDG + (DataSource("cc3m"), DataSource("sbu"))),
    "glip-l": _LARGE,
}


# Fields of version 0.1.0 that have other names now. Its settings and run folders are still read.
OLD_FIELDS = {"least": "minimum", "most": "maximum"}


def find_preset(name: str) -> PretrainPreset:
    """Returns the preset of this name.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        raise InputError(
            f"preset is {name!r}; it must be one of {', '.join(PRESETS)}.{did_you_mean(name, list(PRESETS))}"
        )
    return PRESETS[name]


def changed(preset: PretrainPreset, values: Mapping[str, Any]) -> PretrainPreset:
    """Returns a preset with some fields changed.

    Args:
        preset: to start from.
        values: new values by field, such as {'fit.rates.base': 0.001} or {'fit': {'rates': {'base': 0.001}}}.

    Raises:
        InputError: there is no such field, or a value has the wrong type.
    """
    content = msgspec.to_builtins(preset)
    for path, value in values.items():
        _put(content, path, path.split("."), value)
    try:
        return msgspec.convert(content, PretrainPreset)
    except msgspec.ValidationError as error:
        raise InputError(f"A value of the preset has the wrong type: {error}.") from error


def _put(content: dict[str, Any], path: str, parts: list[str], value: Any) -> None:
    """Sets the field at `parts` of nested dictionaries; `path` is its full name, for messages."""
    name = parts[0] if parts[0] in content else OLD_FIELDS.get(parts[0], parts[0])
    if name not in content:
        raise InputError(f"A preset has no field {path!r}; it must be one of {', '.join(content)}.")
    if isinstance(value, Mapping) and len(parts) == 1 and isinstance(content[name], dict):
        for key, inner in value.items():
            _put(content[name], f"{path}.{key}", [str(key)], inner)
    elif len(parts) == 1:
        content[name] = with_new_names(value)
    elif isinstance(content[name], dict):
        _put(content[name], path, parts[1:], value)
    else:
        raise InputError(f"A preset has no field {path!r}: {name} is the value {content[name]!r}.")


def with_new_names(value: Any) -> Any:
    """Returns JSON-like content with the fields of version 0.1.0 under their present names."""
    if isinstance(value, Mapping):
        return {OLD_FIELDS.get(str(key), str(key)): with_new_names(inner) for key, inner in value.items()}
    return [with_new_names(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def read_changes(path: Path) -> dict[str, Any]:
    """Returns the fields that a YAML file sets, for `changed`.

    Raises:
        InputError: the file cannot be read, or holds no mapping.
    """
    try:
        text = read_content(path, "settings in YAML", _MAX_SETTINGS).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Cannot read the settings {path}: {error}") from error
    content = load_yaml(text, f"the settings {path}")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no fields of a preset; write lines such as 'batch_size: 32'.")
    return {str(key): value for key, value in content.items()}


def parse_change(text: str) -> tuple[str, Any]:
    """Returns the field and the value of a text such as 'fit.rates.base=0.001', for `changed`.

    Raises:
        InputError: there is no '=', or the value is not YAML.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise InputError(f"{text!r} changes no field of a preset; write FIELD=VALUE, such as fit.rates.base=0.001.")
    return path.strip(), _as_number(load_yaml(value, f"the value of {text!r}"))


def _as_number(value: Any) -> Any:
    # YAML reads 1e-3 as a string, because it has no decimal point.
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
