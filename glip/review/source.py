"""Reads proposals from the records of a labelling run or from a COCO file, one image at a time."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from glip.boxes import xywh_to_xyxy, xyxy_to_xywh
from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset
from glip.data.coco_reading import read_coco
from glip.errors import InputError
from glip.labeling.export import provenance
from glip.labeling.filtering import DEFAULT_CONF, Chooser, ExportSettings, open_run
from glip.labeling.records import Record, RunInfo, read_listing, read_records, read_run
from glip.left_out import LeftOut, first_examples
from glip.review.annotations import Proposal, ProposedImage
from glip.review.priorities import entropy, hints
from glip.run_folder import RUN_FILE

# Two runs may share a dataset if these fields of their run.json are equal.
IDENTITY_FIELDS = (
    *("created", "model_sha256", "names", "captions", "floor", "imgsz", "nms_iou", "max_detections", "record"),
    *("precision", "by_caption", "tiling"),
)

logger = logging.getLogger(__name__)


@dataclass
class SkippedImages:
    """Numbers of images that a source left out, counted while it is read.

    Attributes:
        unreadable: could not be read when they were labelled.
        missing: were not found on this machine.
    """

    unreadable: int = 0
    missing: int = 0


@dataclass(frozen=True)
class ReviewSource:
    """A label folder or a COCO file, opened for review.

    Attributes:
        name: default name of the dataset.
        path: of the folder or file.
        identity: sources with different identities must not be mixed in one dataset.
        categories: all classes with their ids.
        info: where the proposals come from; copied into the corrected file.
        images: starts reading the images.
        total: number of images, skipped ones included.
        skipped: images left out so far.
        left_out: other parts of the source that are left out.
    """

    name: str
    path: str
    identity: str
    categories: tuple[CocoCategory, ...]
    info: dict[str, Any]
    images: Callable[[], Iterator[ProposedImage]]
    total: int
    skipped: SkippedImages = field(default_factory=SkippedImages)
    left_out: tuple[LeftOut, ...] = ()


def open_source(path: Path, settings: ExportSettings | None = None, images: Sequence[str] = ()) -> ReviewSource:
    """Opens a label folder, whether its run is finished or not, or a COCO file.

    Args:
        path: output folder of `glip label`, or a COCO file.
        settings: which boxes of a run are labels; None for the settings of the run. Only for folders.
        images: where the images are, if they were moved.

    Raises:
        InputError: the path is neither, or the images are not found.
    """
    if path.is_dir():
        return _open_run(path, settings, images)
    if not path.exists():
        raise InputError(f"{path} does not exist. Give the output folder of `glip label`, or a COCO file.")
    if settings is not None:
        raise InputError(f"`conf` and `class_conf` select boxes of a label folder; {path} is a file.")
    return _open_coco(path, images)


# Label folders --------------------------------------------------------------------------------------------------------


def _open_run(folder: Path, settings: ExportSettings | None, images: Sequence[str]) -> ReviewSource:
    run = read_run(folder)
    settings = settings or ExportSettings(conf=run.job.get("conf", DEFAULT_CONF))
    chooser = open_run(folder, run, settings)
    names, ids = chooser.classes.names, chooser.classes.ids
    without_threshold = replace(
        settings,
        conf=run.floor,
        class_conf=dict.fromkeys(names, run.floor),
        max_det=run.max_detections or settings.max_det,
    )
    proposer = _Proposer(chooser, Chooser(without_threshold, chooser.classes, run), run)
    paths = _paths_of_run(folder, run, images)
    skipped = SkippedImages()
    identity = {name: msgspec.to_builtins(getattr(run, name)) for name in IDENTITY_FIELDS}

    def read() -> Iterator[ProposedImage]:
        skipped.unreadable = skipped.missing = 0
        for record in read_records(folder):
            if record.error is not None:
                skipped.unreadable += 1
            elif record.file_name not in paths:
                skipped.missing += 1
            else:
                yield ProposedImage(
                    file_name=record.file_name,
                    path=paths[record.file_name],
                    width=record.width,
                    height=record.height,
                    proposals=proposer.propose(record),
                    caption=record.caption,
                )

    return ReviewSource(
        name=folder.resolve().name or "labels",
        path=str(folder.resolve()),
        identity=hashlib.sha256(msgspec.json.encode(identity)).hexdigest(),
        categories=tuple(CocoCategory(id, name) for id, name in zip(ids, names, strict=True)),
        info={"description": "Labels made by glip", "glip": provenance(run, settings, chooser)},
        images=read,
        total=sum(1 for _ in read_listing(folder)),
        skipped=skipped,
    )


class _Proposer:
    """Makes proposals of records.

    Args:
        labels: selects the boxes that are labels.
        all_boxes: selects all boxes above the floor.
        run: the run of the records.
    """

    def __init__(self, labels: Chooser, all_boxes: Chooser, run: RunInfo) -> None:
        self._labels = labels
        self._all_boxes = all_boxes
        self._names = run.names
        self._chunks = [chunk for chunk, plan in enumerate(run.captions) for _ in plan.phrases]
        self._thresholds = np.array(labels.conf, np.float32)

    def propose(self, record: Record) -> tuple[Proposal, ...]:
        """Returns the boxes of a record as proposals, best score first."""
        kept, kept_classes = self._labels.indices(record)
        indices, classes = self._all_boxes.indices(record)
        # The limit of boxes per image may remove a label when more boxes compete.
        more = ~np.isin(kept, indices)
        indices, classes = np.append(indices, kept[more]), np.append(classes, kept_classes[more])
        scores = np.asarray(record.scores, np.float32)[indices]
        order = np.argsort(-scores, kind="stable")
        indices, classes, scores = indices[order], classes[order], scores[order]
        boxes = np.asarray(record.boxes, np.float32).reshape(-1, 4)[indices]
        is_label = np.isin(indices, kept)
        thresholds = self._thresholds[classes]
        bboxes = xyxy_to_xywh(boxes.astype(np.float64))  # in float64, as in the COCO file
        phrases = self._names if record.names is None else record.names
        return tuple(
            Proposal(
                record=f"{record.file_name}@{record.stamp}#{index}",
                label=self._labels.classes.names[label],
                bbox=(bbox[0], bbox[1], bbox[2], bbox[3]),
                kept=kept_,
                score=score,
                prompt=phrases[record.labels[index]],
                chunk=0 if record.names is not None else self._chunks[record.labels[index]],
                margin=margin,
                entropy=bits,
                hint=hint,
                area=bbox[2] * bbox[3],
            )
            for index, label, bbox, kept_, score, margin, bits, hint in zip(
                indices.tolist(),
                classes.tolist(),
                bboxes.tolist(),
                is_label.tolist(),
                scores.tolist(),
                (scores - thresholds).tolist(),
                entropy(scores).tolist(),
                hints(boxes, scores, classes, is_label, thresholds),
                strict=True,
            )
        )


def _paths_of_run(folder: Path, run: RunInfo, images: Sequence[str]) -> dict[str, str]:
    """Returns the path of each image of a run, by name."""
    from glip.images import list_images  # imports torch

    sources = images or run.sources
    try:
        listing = list_images(sources)
    except InputError as error:
        raise InputError(f"The images of {folder} are not found: {error} Give their folder in `images`.") from error
    local = {image.name: str(image.path) for image in listing if isinstance(image.path, Path)}
    if not local:
        raise InputError(
            f"The images of {folder} are on a server; the app shows only local images. Copy them, and give their "
            f"folder in `images`."
        )
    return local


# COCO files -----------------------------------------------------------------------------------------------------------


def _open_coco(path: Path, images: Sequence[str]) -> ReviewSource:
    opened = read_coco(path)
    for note in opened.notes:
        logger.info("%s", note)
    coco, left_out = _with_unique_names(opened.dataset, path)
    names = {category.id: category.name for category in coco.categories}
    thresholds = _thresholds_of_file(coco)
    folders = _folders_of_coco(path, images)
    paths = _paths_of_run(path.parent, read_run(path.parent), ()) if folders is None else {}
    skipped = SkippedImages()

    def read() -> Iterator[ProposedImage]:
        skipped.missing = 0
        boxes = coco.boxes_by_image()
        for image in coco.images:
            found = paths.get(image.file_name) or _find(image.file_name, folders or ())
            if found is None:
                skipped.missing += 1
                continue
            proposals = _proposals_of_file(boxes[image.id], names, thresholds)
            yield ProposedImage(image.file_name, found, image.width, image.height, proposals, image_id=image.id)

    if coco.images and next(read(), None) is None:
        searched = ", ".join(map(str, folders or ())) or f"the sources of {path.parent / RUN_FILE}"
        raise InputError(
            f"None of the {len(coco.images)} images of {path} is in {searched}. Give their folder in `images`."
        )
    resolved = path.resolve()
    return ReviewSource(
        name=f"{resolved.parent.name}-{path.name.partition('.')[0]}".strip("-"),
        path=str(resolved),
        identity=f"file {resolved}",
        categories=tuple(sorted(coco.categories, key=lambda category: category.id)),
        info=dict(coco.info),
        images=read,
        total=len(coco.images),
        skipped=skipped,
        left_out=(*opened.left_out, *left_out),
    )


def _with_unique_names(coco: CocoDataset, path: Path) -> tuple[CocoDataset, tuple[LeftOut, ...]]:
    """Returns the file with one category of each name, because FiftyOne knows classes by name only.

    A category without boxes that has the name of another is dropped, such as the group that Roboflow writes.

    Raises:
        InputError: two categories with boxes have one name, so that their boxes could not be told apart.
    """
    used = {box.category_id for box in coco.annotations}
    kept: dict[str, CocoCategory] = {}
    dropped: list[CocoCategory] = []
    for category in sorted(coco.categories, key=lambda category: (category.id not in used, category.id)):
        first = kept.setdefault(category.name, category)
        if first is category:
            continue
        if category.id in used:
            raise InputError(
                f"{path}: the categories {first.id} and {category.id} are both called {category.name!r}, and both have "
                f"boxes; FiftyOne knows classes by name. Give one of them another name, or join them."
            )
        dropped.append(category)
    if not dropped:
        return coco, ()
    entry = LeftOut(
        kind="categories_of_one_name",
        count=len(dropped),
        sentence=f"{path}: {len(dropped)} categories without boxes have the name of another and are left out; boxes "
        f"keep their category ids.",
        examples=first_examples(f"category {category.id}, {category.name!r}" for category in dropped),
    )
    return msgspec.structs.replace(coco, categories=tuple(kept.values())), (entry,)


def _proposals_of_file(
    annotations: Sequence[CocoAnnotation], names: dict[int, str], thresholds: Callable[[str], float]
) -> tuple[Proposal, ...]:
    bboxes = np.array([annotation.bbox for annotation in annotations], np.float32).reshape(-1, 4)
    known_scores = [_or_none(annotation.score) for annotation in annotations]
    scores = np.array([score or 0.0 for score in known_scores], np.float32)
    order = np.argsort(-scores, kind="stable")
    labels = np.array([annotation.category_id for annotation in annotations], np.int64)
    marked = hints(
        xywh_to_xyxy(bboxes)[order], scores[order], labels[order], np.ones(len(order), bool), np.zeros_like(scores)
    )
    hint = dict(zip(order.tolist(), marked, strict=True))
    bits = entropy(scores).tolist()
    return tuple(
        Proposal(
            record=f"annotation {annotation.id}",
            label=names[annotation.category_id],
            bbox=annotation.bbox,
            score=score,
            margin=None if score is None else score - thresholds(names[annotation.category_id]),
            entropy=None if score is None else bits[index],
            hint=hint[index],
            annotation_id=annotation.id,
            area=_or_none(annotation.area),
            iscrowd=annotation.iscrowd,
        )
        for index, (annotation, score) in enumerate(zip(annotations, known_scores, strict=True))
    )


def _or_none(value: float | msgspec.UnsetType) -> float | None:
    return None if value is msgspec.UNSET else value


def _thresholds_of_file(coco: CocoDataset) -> Callable[[str], float]:
    """Returns a function from class name to the threshold the file was made with, as far as the file records it."""
    info = coco.info.get("glip")
    info = info if isinstance(info, dict) else {}
    class_conf = info.get("class_conf")
    own = class_conf if isinstance(class_conf, dict) else {}
    numbers = {name: float(value) for name, value in own.items() if isinstance(value, (int, float))}
    conf = info.get("conf")
    default = float(conf) if isinstance(conf, (int, float)) else DEFAULT_CONF
    return lambda name: numbers.get(name, default)


def _folders_of_coco(path: Path, images: Sequence[str]) -> tuple[Path, ...] | None:
    """Returns the folders that contain the images of a COCO file; None if the run beside it knows their paths."""
    if images:
        folders = tuple(Path(folder).expanduser().resolve() for folder in images)
        missing = next((folder for folder in folders if not folder.is_dir()), None)
        if missing is not None:
            raise InputError(f"images is {missing}, which is not a folder. Give the folder of the images of {path}.")
        return folders
    return None if (path.parent / RUN_FILE).is_file() else (path.resolve().parent,)


def _find(file_name: str, folders: Sequence[Path]) -> str | None:
    paths = (folder / file_name for folder in folders)
    return next((str(path) for path in paths if path.is_file()), None)
