"""Fits a COCO data set to its image files: names that are written otherwise, and sizes that are unknown or swapped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from glip.data.coco import CocoAnnotation, CocoDataset, CocoImage, is_inside
from glip.data.coco_checks import Place
from glip.data.image_files import ImageFinder, read_size
from glip.errors import InputError

_ALL_OPENED = 2000  # of more images, a sample is opened to see whether their sizes are swapped
_SAMPLED = 200


def fitted_to_files(dataset: CocoDataset, folders: Sequence[Path], place: Place) -> tuple[CocoDataset, list[str]]:
    """Returns a data set with the sizes of its image files where it states none, or swaps width and height.

    Args:
        dataset: file names are those of the files.
        folders: of the images.
        place: of the annotations, for messages.

    Returns:
        The data set, and sentences about what was changed.

    Raises:
        InputError: a size is unknown, and the file cannot be read.
    """
    notes: list[str] = []
    finder = ImageFinder(folders)
    dataset = _with_sizes_of_files(dataset, finder, place, notes)
    return _turned_upright(dataset, finder, place.path, notes), notes


def with_found_names(dataset: CocoDataset, finder: ImageFinder, path: Path, notes: list[str]) -> CocoDataset:
    """Returns the data set with the names of the files that are found under another spelling."""
    other = {image.file_name: name for image in dataset.images if (name := finder.find(image.file_name)) is not None}
    other = {name: found for name, found in other.items() if name != found}
    taken = Counter(other.get(image.file_name, image.file_name) for image in dataset.images)
    other = {name: found for name, found in other.items() if taken[found] == 1}
    if not other:
        return dataset
    name, found = next(iter(other.items()))
    notes.append(
        f"{len(other)} of {len(dataset.images)} file names of {path} are read as the files that they mean, such as "
        f"{name!r} as {found!r}."
    )
    images = (msgspec.structs.replace(i, file_name=other.get(i.file_name, i.file_name)) for i in dataset.images)
    return msgspec.structs.replace(dataset, images=tuple(images))


def _with_sizes_of_files(dataset: CocoDataset, finder: ImageFinder, place: Place, notes: list[str]) -> CocoDataset:
    """Returns the data set with the sizes of the files where it states none."""
    sizes: dict[int, tuple[int, int]] = {}
    folder = (*finder.folders, place.path.parent)[0]
    for index, image in enumerate(dataset.images):
        if (image.width > 0 and image.height > 0) or not is_inside(image.file_name):
            continue
        try:
            sizes[image.id] = read_size(finder.path(image.file_name) or folder / image.file_name)
        except InputError as error:
            place.fail(
                "images",
                index,
                f"image {image.id} has no usable size ({image.width} × {image.height} pixels), and it cannot be "
                f"measured. {error} Write its width and height.",
            )
    if sizes:
        first = next(image.file_name for image in dataset.images if image.id in sizes)
        notes.append(
            f"{place.path} states no usable size for {len(sizes)} of {len(dataset.images)} images (the first is "
            f"{first!r}); the sizes of the files are used."
        )
    return _resized(dataset, sizes)


def _turned_upright(dataset: CocoDataset, finder: ImageFinder, path: Path, notes: list[str]) -> CocoDataset:
    """Returns the data set with the sizes of the files where width and height are swapped and the boxes fit so."""
    oblong = [image for image in dataset.images if image.width != image.height]
    if len(oblong) > _ALL_OPENED and not any(_is_swapped(i, finder) for i in oblong[:: len(oblong) // _SAMPLED]):
        return dataset
    boxes = dataset.boxes_by_image() if _is_consistent(dataset) else {}
    swapped = {
        image.id: (image.height, image.width)
        for image in oblong
        if _is_swapped(image, finder) and _fit(boxes.get(image.id, ()), (image.height, image.width))
    }
    if swapped:
        first = next(image.file_name for image in oblong if image.id in swapped)
        notes.append(
            f"{path} swaps width and height of {len(swapped)} of {len(dataset.images)} images (the first is "
            f"{first!r}). Their boxes fit the upright images, so the sizes of the files are used."
        )
    return _resized(dataset, swapped)


def _is_consistent(dataset: CocoDataset) -> bool:
    known = {image.id for image in dataset.images}
    return all(box.image_id in known for box in dataset.annotations)


def _is_swapped(image: CocoImage, finder: ImageFinder) -> bool:
    file = finder.path(image.file_name)
    try:
        return file is not None and read_size(file) == (image.height, image.width)
    except InputError:
        return False


def _fit(boxes: Sequence[CocoAnnotation], size_wh: tuple[int, int]) -> bool:
    width, height = size_wh
    return all(
        left >= -1 and top >= -1 and left + w <= width + 1 and top + h <= height + 1
        for left, top, w, h in (box.bbox for box in boxes)
    )


def _resized(dataset: CocoDataset, sizes_wh: Mapping[int, tuple[int, int]]) -> CocoDataset:
    if not sizes_wh:
        return dataset

    def images() -> Iterator[CocoImage]:
        for image in dataset.images:
            width, height = sizes_wh.get(image.id, (image.width, image.height))
            yield CocoImage(image.id, image.file_name, width, height)

    return msgspec.structs.replace(dataset, images=tuple(images()))
