"""Where proposals come from: the records of a labelling run, or a COCO file. Read as a stream."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, load_coco
from glip.errors import InputError
from glip.labeling.export import open_run, provenance
from glip.labeling.filtering import DEFAULT_CONF, Chooser, ExportSettings
from glip.labeling.records import RUN_FILE, Record, RunInfo, read_listing, read_records, read_run
from glip.review.annotations import Proposal, Proposed
from glip.review.priorities import entropy, hints

# Two runs answer the same question if these fields of their run.json are equal.
_QUESTION = (
    *("created", "model_sha256", "names", "captions", "floor", "imgsz", "nms_iou", "max_detections", "record"),
    *("precision", "by_caption", "tiling"),
)

logger = logging.getLogger(__name__)


@dataclass
class Left:
    """Images that a source had to leave out; counted while it is read."""

    unreadable: int = 0
    missing: int = 0


@dataclass(frozen=True)
class Source:
    """Proposals and what is known of them.

    Attributes:
        name: of the dataset, unless another is asked for.
        place: the folder or file, for messages.
        identity: differs between sources that must not be mixed in one dataset.
        categories: all classes with their ids.
        info: where the proposals come from.
        images: begins to read.
        total: images, those left out included.
        left: what was left out, so far.
    """

    name: str
    place: str
    identity: str
    categories: tuple[CocoCategory, ...]
    info: dict[str, Any]
    images: Callable[[], Iterator[Proposed]]
    total: int
    left: Left = field(default_factory=Left)


def open_source(path: Path, settings: ExportSettings | None = None, images: Sequence[str] = ()) -> Source:
    """Opens a label folder, finished or not, or a COCO file.

    Args:
        path: the folder of `glip label --out`, or a file.
        settings: which boxes of a run count; those of its own command if None. Not for files.
        images: where the images are now, if they were moved.

    Raises:
        InputError: it is neither, or its images are not found.
    """
    if path.is_dir():
        return _open_run(path, settings, images)
    if not path.exists():
        raise InputError(f"There is no {path}. Give the folder of `glip label --out`, or a COCO file.")
    if settings is not None:
        raise InputError(f"--conf and --class-conf choose among the records of a run; {path} is a file of fixed boxes.")
    return _open_coco(path, images)


def _open_run(folder: Path, settings: ExportSettings | None, images: Sequence[str]) -> Source:
    run = read_run(folder)
    settings = settings or ExportSettings(conf=run.job.get("conf", DEFAULT_CONF))
    chooser = open_run(folder, run, settings)
    names, ids = chooser.classes.names, chooser.classes.ids
    everything = Chooser(
        replace(
            settings,
            conf=run.floor,
            class_conf=dict.fromkeys(names, run.floor),
            max_det=run.max_detections or settings.max_det,
        ),
        chooser.classes,
        run,
    )
    paths = _paths_of_run(folder, run, images)
    left = Left()
    proposer = _Proposer(chooser, everything, run)
    question = {name: msgspec.to_builtins(getattr(run, name)) for name in _QUESTION}

    def read() -> Iterator[Proposed]:
        left.unreadable = left.missing = 0
        for record in read_records(folder):
            if record.error is not None:
                left.unreadable += 1
            elif record.file_name not in paths:
                left.missing += 1
            else:
                yield Proposed(
                    *(record.file_name, paths[record.file_name], record.width, record.height),
                    proposals=proposer.propose(record),
                    caption=record.caption,
                )

    return Source(
        name=folder.resolve().name or "labels",
        place=str(folder.resolve()),
        identity=hashlib.sha256(msgspec.json.encode(question)).hexdigest(),
        categories=tuple(CocoCategory(id, name) for id, name in zip(ids, names, strict=True)),
        info={"description": "Labels made by glip", "glip": provenance(run, settings, chooser)},
        images=read,
        total=sum(1 for _ in read_listing(folder)),
        left=left,
    )


class _Proposer:
    """Makes proposals of records.

    Args:
        chooser: takes the boxes that count.
        everything: takes all boxes above the floor.
        run: what the records answer.
    """

    def __init__(self, chooser: Chooser, everything: Chooser, run: RunInfo) -> None:
        self._chooser = chooser
        self._everything = everything
        self._names = run.names
        self._chunks = [chunk for chunk, plan in enumerate(run.captions) for _ in plan.phrases]
        self._thresholds = np.array(chooser.conf, np.float32)

    def propose(self, record: Record) -> tuple[Proposal, ...]:
        kept, classes_of_kept = self._chooser.places(record)
        found, classes = self._everything.places(record)
        # A limit of boxes an image may fall differently when more of them are looked at.
        more = ~np.isin(kept, found)
        found, classes = np.append(found, kept[more]), np.append(classes, classes_of_kept[more])
        scores = np.asarray(record.scores, np.float32)[found]
        order = np.argsort(-scores, kind="stable")
        found, classes, scores = found[order], classes[order], scores[order]
        boxes = np.asarray(record.boxes, np.float32).reshape(-1, 4)[found]
        counts = np.isin(found, kept)
        thresholds = self._thresholds[classes]
        bboxes = boxes.astype(np.float64)  # the arithmetic of the COCO file, so that the numbers are its numbers
        bboxes[:, 2:] -= bboxes[:, :2]
        phrases = self._names if record.names is None else record.names
        return tuple(
            Proposal(
                record=f"{record.file_name}@{record.stamp}#{place}",
                label=self._chooser.classes.names[label],
                bbox=(bbox[0], bbox[1], bbox[2], bbox[3]),
                kept=count,
                score=score,
                prompt=phrases[record.labels[place]],
                chunk=0 if record.names is not None else self._chunks[record.labels[place]],
                margin=margin,
                entropy=bits,
                hint=hint,
                area=bbox[2] * bbox[3],
            )
            for place, label, bbox, count, score, margin, bits, hint in zip(
                found.tolist(),
                classes.tolist(),
                bboxes.tolist(),
                counts.tolist(),
                scores.tolist(),
                (scores - thresholds).tolist(),
                entropy(scores).tolist(),
                hints(boxes, scores, classes, counts, thresholds),
                strict=True,
            )
        )


def _open_coco(path: Path, images: Sequence[str]) -> Source:
    coco = load_coco(path)
    names = {category.id: category.name for category in coco.categories}
    thresholds = _thresholds_of_file(coco)
    folders = _folders_of_coco(path, images)
    paths = _paths_of_run(path.parent, read_run(path.parent), ()) if folders is None else {}
    left = Left()

    def read() -> Iterator[Proposed]:
        left.missing = 0
        boxes = coco.boxes_by_image()
        for image in coco.images:
            found = paths.get(image.file_name) or _first(folders or (), image.file_name)
            if found is None:
                left.missing += 1
                continue
            proposals = _proposals_of_file(boxes[image.id], names, thresholds)
            yield Proposed(image.file_name, found, image.width, image.height, proposals, image_id=image.id)

    if coco.images and next(read(), None) is None:
        looked = ", ".join(map(str, folders or ())) or f"the sources of {path.parent / RUN_FILE}"
        raise InputError(
            f"None of the {len(coco.images)} images of {path} is in {looked}. Say where they are with --images."
        )
    resolved = path.resolve()
    return Source(
        name=f"{resolved.parent.name}-{path.name.partition('.')[0]}".strip("-"),
        place=str(resolved),
        identity=f"file {resolved}",
        categories=tuple(sorted(coco.categories, key=lambda category: category.id)),
        info=dict(coco.info),
        images=read,
        total=len(coco.images),
        left=left,
    )


def _proposals_of_file(
    annotations: Sequence[CocoAnnotation], names: dict[int, str], thresholds: Callable[[str], float]
) -> tuple[Proposal, ...]:
    bboxes = np.array([annotation.bbox for annotation in annotations], np.float32).reshape(-1, 4)
    # Boxes that nobody doubts have no score and count as sure.
    scores = np.array([_or_none(annotation.score) or 0.0 for annotation in annotations], np.float32)
    order = np.argsort(-scores, kind="stable")
    labels = np.array([annotation.category_id for annotation in annotations], np.int64)
    corners = np.concatenate((bboxes[:, :2], bboxes[:, :2] + bboxes[:, 2:]), axis=1)
    found = hints(corners[order], scores[order], labels[order], np.ones(len(order), bool), np.zeros_like(scores))
    bits = entropy(scores)
    hint = dict(zip(order.tolist(), found, strict=True))
    return tuple(
        Proposal(
            record=f"annotation {annotation.id}",
            label=names[annotation.category_id],
            bbox=annotation.bbox,
            score=score,
            margin=None if score is None else score - thresholds(names[annotation.category_id]),
            entropy=None if score is None else float(bits[place]),
            hint=hint[place],
            annotation_id=annotation.id,
            area=_or_none(annotation.area),
            iscrowd=annotation.iscrowd,
        )
        for place, annotation, score in zip(
            count(), annotations, (_or_none(annotation.score) for annotation in annotations), strict=False
        )
    )


def _or_none(value: float | msgspec.UnsetType) -> float | None:
    return None if value is msgspec.UNSET else value


def _thresholds_of_file(coco: CocoDataset) -> Callable[[str], float]:
    """Per class the threshold that the file was made with, as far as it says so."""
    told = coco.info.get("glip")
    told = told if isinstance(told, dict) else {}
    common, single = told.get("conf", DEFAULT_CONF), told.get("class_conf", {})
    return lambda name: float(single.get(name, common))


def _paths_of_run(folder: Path, run: RunInfo, images: Sequence[str]) -> dict[str, str]:
    """Where the images of a run are, by name."""
    from glip.images import list_images  # with torch, which only this needs

    sources = images or run.job.get("sources", ())
    try:
        listing = list_images(sources)
    except InputError as error:
        raise InputError(f"The images of {folder} are not found: {error} Say where they are with --images.") from error
    local = {image.name: str(image.path) for image in listing if isinstance(image.path, Path)}
    if not local:
        raise InputError(
            f"The images of {folder} lie on a server, and the app shows local ones only. Copy them, and say where "
            f"they are with --images."
        )
    return local


def _folders_of_coco(path: Path, images: Sequence[str]) -> tuple[Path, ...] | None:
    """Folders that the names of a COCO file are relative to; None if the run beside it knows."""
    if images:
        folders = tuple(Path(folder).expanduser().resolve() for folder in images)
        missing = next((folder for folder in folders if not folder.is_dir()), None)
        if missing is not None:
            raise InputError(f"--images {missing} is no folder; give the one that the names in {path} are below.")
        return folders
    return None if (path.parent / RUN_FILE).is_file() else (path.resolve().parent,)


def _first(folders: Sequence[Path], file_name: str) -> str | None:
    found = (folder / file_name for folder in folders)
    return next((str(path) for path in found if path.is_file()), None)
