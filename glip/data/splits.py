"""Opens a set: its truth, where its images are, and which classes are asked by which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from glip.data.annotations import Truth
from glip.data.benchmark_rows import EvalSet
from glip.data.coco import CocoCategory, CocoDataset, CocoImage
from glip.errors import InputError

if TYPE_CHECKING:
    from glip.prompts import Wording


@dataclass(frozen=True, eq=False)
class OpenSet:
    """A set that is ready to be labelled and scored.

    Attributes:
        item: its row.
        truth: annotated boxes; none for a set whose truth is not public.
        names: of the classes, as they are asked.
        category_ids: of `names`.
        wordings: how they stand in the caption; None for the plain names.
        notes: what is unusual about it, in sentences.
    """

    item: EvalSet
    truth: Truth
    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    wordings: tuple[Wording, ...] | None
    notes: tuple[str, ...]

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """(I) absolute, in the order of `truth.image_ids`; whether they exist is not asked."""
        return tuple(self.item.image(name).resolve() for name in self.truth.file_names)

    @cached_property
    def ids_of_image(self) -> Mapping[Path, Sequence[int]]:
        """The image ids of each file."""
        ids: dict[Path, list[int]] = {}
        for path, id in zip(self.images, self.truth.image_ids.tolist(), strict=True):
            ids.setdefault(path, []).append(id)
        return ids


def open_set(item: EvalSet, limit: int | None = None) -> OpenSet:
    """Reads the truth of a set whose classes are names.

    Args:
        item: of the scorers coco, lvis, voc and none.
        limit: only the first so many images, by their ids.

    Raises:
        InputError: a file cannot be used, or has other classes than the benchmark.
    """
    truth = _truth(item)
    names, ids = _asked(item, truth)
    if limit is not None:
        truth = truth.of_images(truth.image_ids[:limit])
    if not len(truth.image_ids):
        raise InputError(f"{item.annotations} lists no image.")
    notes = [*item.notes, *_renamed(item, truth), *_alike(item, names), *_counted_from_0(item, truth)]
    if item.size is not None and limit is None and item.size != len(truth.image_ids):
        notes.append(
            f"{item.name} has {len(truth.image_ids)} images here and {item.size} as published: compare with care."
        )
    return OpenSet(item, truth, names, ids, item.wordings, tuple(notes))


def _truth(item: EvalSet) -> Truth:
    if item.scorer == "lvis":
        return Truth.from_lvis(item.annotations)
    if item.scorer == "voc":
        from glip.data.voc import read_voc

        return read_voc(item.annotations, item.annotations.parents[2] / "Annotations")
    if item.scorer == "none":
        return Truth.from_coco(_images_only(item.annotations))
    return Truth.from_coco(item.annotations)


class _Images(msgspec.Struct):
    images: tuple[CocoImage, ...]
    categories: tuple[CocoCategory, ...]


def _images_only(path: Path) -> CocoDataset:
    """A COCO file of images and classes without annotations, as test-dev is published."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Images)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no list of images and classes in COCO's form: {error}.") from error
    return CocoDataset(content.images, (), content.categories)


def _asked(item: EvalSet, truth: Truth) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names that are asked, with their category ids."""
    known = dict(zip(truth.category_ids.tolist(), truth.names, strict=True))
    if item.classes is not None:
        strange = [id for id, _ in item.classes if id not in known]
        if strange:
            raise InputError(
                f"{item.annotations} has no category {strange[0]}, which {item.name} is asked with; it has "
                f"{', '.join(f'{id} {name!r}' for id, name in list(known.items())[:5])}. Is it another version?"
            )
        return tuple(name for _, name in item.classes), tuple(id for id, _ in item.classes)
    group = _group_name(item.annotations, truth) if item.scorer == "coco" else None
    asked = {id: name for id, name in known.items() if name.strip() and id != group}
    if not asked:
        raise InputError(f"{item.annotations} names no class that can be looked for.")
    return tuple(asked.values()), tuple(asked)


class _Category(msgspec.Struct):
    id: int
    name: str
    supercategory: str | None = None


class _Categories(msgspec.Struct):
    categories: list[_Category]


def _group_name(path: Path, truth: Truth) -> int | None:
    """The category 0 of Roboflow's exports that is no class: the name of all others together. None if there is none."""
    if 0 not in truth.category_ids or 0 in truth.category_id:
        return None
    try:
        categories = msgspec.json.decode(path.read_bytes(), type=_Categories).categories
    except msgspec.DecodeError:  # a supercategory that is no text; then it says nothing
        return None
    name = next(category.name for category in categories if category.id == 0)
    others = [category for category in categories if category.id != 0]
    return 0 if others and all(category.supercategory == name for category in others) else None


def _counted_from_0(item: EvalSet, truth: Truth) -> list[str]:
    """Says what COCO's evaluator makes of an annotation with the id 0."""
    if item.scorer != "coco" or 0 not in truth.annotation_id:
        return []
    return [
        f"{item.name} has an annotated box with the id 0, which COCO's evaluator never takes for found; published "
        f"scores contain this, and so does this one."
    ]


def _alike(item: EvalSet, names: Sequence[str]) -> list[str]:
    """Says which classes the model cannot tell apart, because their names differ by the case of letters at most."""
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(" ".join(name.casefold().split()), []).append(name)
    pairs = [" and ".join(map(repr, group)) for group in same.values() if len(group) > 1]
    if not pairs:
        return []
    return [
        f"{item.name} has classes that are one name to a model: {', '.join(pairs)}. Each gets the boxes of all of "
        f"them; join or rename them in {item.annotations}."
    ]


def _renamed(item: EvalSet, truth: Truth) -> list[str]:
    """Says which classes are asked by other names than the file's."""
    if item.classes is None:
        return []
    known = dict(zip(truth.category_ids.tolist(), truth.names, strict=True))
    other = [f"{known[id]!r} as {name!r}" for id, name in item.classes if known[id] != name]
    return [f"{item.name} asks for {', '.join(other)}, as the benchmark does."] if other else []
