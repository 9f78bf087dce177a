"""Builds a COCO data set from annotations of another format, and counts what of them is not read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import UNSET

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from glip.data.coco_checks import Place, check_coco
from glip.data.coco_images import fitted_to_files
from glip.data.coco_reading import CocoFile
from glip.errors import InputError
from glip.left_out import LeftOut, first_examples

XYXY = tuple[float, float, float, float]


class DatasetBuilder:
    """Collects images and boxes; ids count from 1 in the order of adding.

    Classes keep the order of `names`; without names they are those that occur, in alphabetical order.
    """

    def __init__(self, path: Path, names: Sequence[str] | None = None) -> None:
        self.path = path
        self._names = names
        self._images: list[CocoImage] = []
        self._boxes: list[tuple[int, int | str, XYXY, bool]] = []
        self._skipped: dict[tuple[str, str], list[str]] = {}
        self._noted: dict[str, list[str]] = {}

    def add_image(self, file_name: str, width: int, height: int) -> int:
        """Adds an image; a size of 0 is measured when the data set is built. Returns its id."""
        self._images.append(CocoImage(len(self._images) + 1, file_name, width, height))
        return len(self._images)

    def add_box(self, image_id: int, label: int | str, box: XYXY, difficult: bool = False) -> None:
        """Adds a box, xyxy in pixels, of a class given by its index in `names`, or by its name without them."""
        self._boxes.append((image_id, label, box, difficult))

    def skip(self, kind: str, what: str, example: str) -> None:
        """Counts something that is not read.

        Args:
            kind: of `LeftOut`.
            what: the sentence after the number: "brush masks have no box and are not read".
            example: where it is.
        """
        self._skipped.setdefault((kind, what), []).append(example)

    def note(self, what: str, example: str) -> None:
        """Counts something that is read as something else: "polygons are read as the boxes around them"."""
        self._noted.setdefault(what, []).append(example)

    def build(self, folders: Sequence[Path], notes: Iterable[str] = ()) -> CocoFile:
        """Returns the data set.

        Args:
            folders: of the images; sizes that are unknown or swapped are taken from the files.
            notes: sentences about the whole.

        Raises:
            InputError: there is no image, or the annotations contradict themselves.
        """
        if not self._images:
            raise InputError(f"{self.path} has no annotated image.")
        names = self._names if self._names is not None else sorted({str(label) for _, label, _, _ in self._boxes})
        id_of = {name: index + 1 for index, name in enumerate(names)}
        annotations = []
        for index, (image_id, label, (x1, y1, x2, y2), difficult) in enumerate(self._boxes):
            category = label + 1 if isinstance(label, int) else id_of[label]
            mark: Any = 1 if difficult else UNSET
            bbox = (x1, y1, x2 - x1, y2 - y1)
            annotations.append(CocoAnnotation(index + 1, image_id, category, bbox, difficult=mark))
        categories = tuple(CocoCategory(index + 1, name) for index, name in enumerate(names))
        dataset = CocoDataset(tuple(self._images), tuple(annotations), categories)
        place = Place(self.path, b"")
        dataset, more = fitted_to_files(dataset, folders, place)
        check_coco(place, dataset)
        return CocoFile(dataset, (*notes, *self._sentences(), *more), tuple(self._left_out()), tuple(folders))

    def _sentences(self) -> list[str]:
        return [f"{self.path}: {len(found)} {what} (the first in {found[0]})." for what, found in self._noted.items()]

    def _left_out(self) -> list[LeftOut]:
        return [
            LeftOut(
                kind=kind,
                count=len(found),
                sentence=f"{self.path}: {len(found)} {what}.",
                examples=first_examples(found),
            )
            for (kind, what), found in self._skipped.items()
        ]


def around(points: Sequence[tuple[float, float]]) -> XYXY:
    """Returns the box around points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)
