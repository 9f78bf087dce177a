"""Writes scenes as a folder that any reader of COCO files accepts: images, boxes, captions with phrase spans.

OUT/images/000000.jpg …     images
OUT/annotations.json        COCO: a class is 'dog face' or 'red circle'
OUT/captions.json           MDETR's form: a caption per image, boxes with the character ranges of their phrases
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, save_coco
from glip.data.grounding import GroundingAnnotation, GroundingDataset, GroundingImage, save_grounding
from glip.data.synthetic.captions import SceneCaption
from glip.data.synthetic.object_sampler import Split
from glip.data.synthetic.scenes import SMALLEST_SIDE, SceneMaker, SceneObject
from glip.data.synthetic.sprite_pool import load_pool
from glip.errors import InputError, JobFailed
from glip.files import whole_folder

JPEG_QUALITY = 92
_TASK = 16  # scenes per task of a worker process

Advance = Callable[[], object]


@dataclass(frozen=True)
class SceneJob:
    """A folder of scenes to write.

    Attributes:
        count: number of images.
        seed: determines the images.
        split: see `sampler_of_split`.
        minimum_wh: minimum width and height in pixels.
        maximum_wh: maximum width and height in pixels.
        shapes: share of the objects that are drawn shapes.
        names: maximum number of images to draw from, those with the simplest names; None: all.
        sprites: a folder of named images; None: those of the emoji font.
        workers: number of processes, which does not change the result.
    """

    count: int
    seed: int = 0
    split: Split = "train"
    minimum_wh: tuple[int, int] = (160, 160)
    maximum_wh: tuple[int, int] = (480, 480)
    shapes: float = 0.4
    names: int | None = None
    sprites: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("workers", self.workers), ("names", self.names)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1.")
        if (
            min(self.minimum_wh) < SMALLEST_SIDE
            or self.maximum_wh < self.minimum_wh
            or self.maximum_wh[1] < self.minimum_wh[1]
        ):
            raise InputError(
                f"Scenes of {_size(self.minimum_wh)} to {_size(self.maximum_wh)} pixels cannot be made: every side "
                f"must have at least {SMALLEST_SIDE}, and `minimum_wh` must not exceed `maximum_wh`."
            )

    def maker(self) -> SceneMaker:
        """Returns the maker of this job's scenes."""
        pool = load_pool(self.sprites)
        return SceneMaker.of_split(
            pool.simplest(self.names) if self.names else pool, self.split, self.seed, self.shapes
        )


@dataclass(frozen=True)
class WrittenScene:
    """A scene whose image is on disk."""

    file_name: str
    size_wh: tuple[int, int]
    objects: tuple[SceneObject, ...]
    caption: SceneCaption


@dataclass(frozen=True)
class FolderSummary:
    """Counts of a written folder."""

    folder: str
    images: int
    boxes: int
    classes: int


def write_scenes(job: SceneJob, out: Path, overwrite: bool = False, advance: Advance = lambda: None) -> FolderSummary:
    """Writes scenes 0 to `count` - 1, whole or not at all.

    Args:
        job: the scenes.
        out: output folder; must be empty or missing unless `overwrite`.
        overwrite: whether to replace the content of `out` once all is written.
        advance: called after each image.

    Raises:
        InputError: `out` is not empty, or the job cannot be done.
        JobFailed: the scenes cannot be written.
    """
    refuse_to_overwrite(out, overwrite)
    maker = job.maker()  # also with workers, so that an unusable job is refused at once
    with whole_folder(out) as folder:
        (folder / "images").mkdir()
        drawn = []
        for item in _written_scenes(job, maker, folder / "images"):
            drawn.append(item)
            advance()
        labels = sorted({item.thing.label for image in drawn for item in image.objects})
        boxes = as_coco(drawn, labels)
        save_coco(folder / "annotations.json", boxes)
        save_grounding(folder / "captions.json", _as_grounding(drawn), {"description": "synthetic scenes"})
    return FolderSummary(str(out), len(drawn), len(boxes.annotations), len(labels))


def refuse_to_overwrite(out: Path, overwrite: bool) -> None:
    """Refuses an output folder that may not be written.

    Raises:
        InputError: `out` is a file, or a folder that is not empty and may not be replaced.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out} is not empty; give another folder, or allow to replace its content (`overwrite`).")


def write_scene(
    maker: SceneMaker, folder: Path, minimum_wh: tuple[int, int], maximum_wh: tuple[int, int], index: int
) -> WrittenScene:
    """Makes scene `index` and writes its image into `folder`."""
    size_wh = maker.size_wh(index, minimum_wh, maximum_wh)
    scene = maker.scene(index, size_wh)
    file_name = f"{index:06d}.jpg"
    # Without subsampling, because colours are to be learned.
    scene.image.save(folder / file_name, quality=JPEG_QUALITY, subsampling=0)
    return WrittenScene(file_name, size_wh, scene.objects, scene.caption)


def as_coco(drawn: Sequence[WrittenScene], labels: Sequence[str]) -> CocoDataset:
    """Returns the boxes of all objects whose class is one of `labels`, with category ids from 1 in that order."""
    category = {label: number for number, label in enumerate(labels, start=1)}
    named = [
        (number, item)
        for number, scene in enumerate(drawn, start=1)
        for item in scene.objects
        if item.thing.label in category
    ]
    return CocoDataset(
        images=tuple(CocoImage(number, item.file_name, *item.size_wh) for number, item in enumerate(drawn, start=1)),
        annotations=tuple(
            CocoAnnotation(
                number, image, category[item.thing.label], item.box_xywh, item.box_xywh[2] * item.box_xywh[3]
            )
            for number, (image, item) in enumerate(named, start=1)
        ),
        categories=tuple(CocoCategory(number, label) for label, number in category.items()),
        info={"description": "synthetic scenes"},
    )


def _as_grounding(drawn: Sequence[WrittenScene]) -> GroundingDataset:
    named = [
        (number, phrase.span, scene.objects[index].box_xywh)
        for number, scene in enumerate(drawn, start=1)
        for phrase in scene.caption.phrases
        for index in phrase.objects
    ]
    return GroundingDataset(
        images=tuple(
            GroundingImage(
                number,
                item.file_name,
                *item.size_wh,
                item.caption.text,
                dataset_name="synthetic",
                tokens_positive_eval=tuple((phrase.span,) for phrase in item.caption.phrases),
            )
            for number, item in enumerate(drawn, start=1)
        ),
        annotations=tuple(
            GroundingAnnotation(number, image, box, (span,), area=box[2] * box[3])
            for number, (image, span, box) in enumerate(named, start=1)
        ),
    )


def _written_scenes(job: SceneJob, maker: SceneMaker, folder: Path) -> Iterator[WrittenScene]:
    """Yields every written scene in order, made in this process or by workers with a maker each."""
    if job.workers == 1:
        yield from map(partial(write_scene, maker, folder, job.minimum_wh, job.maximum_wh), range(job.count))
        return
    # Spawned, not forked: the caller may run threads, such as those of a progress bar.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.workers, spawn, initializer=_start_worker, initargs=(job,)) as processes:
        try:
            yield from processes.map(partial(_write_in_worker, job, folder), range(job.count), chunksize=_TASK)
        except BrokenProcessPool:
            raise JobFailed(
                f"One of {job.workers} workers was killed, probably because memory ran out. Use fewer `workers`."
            ) from None
        except BaseException:
            processes.shutdown(cancel_futures=True)
            raise


_maker_of_this_process: list[SceneMaker] = []


def _start_worker(job: SceneJob) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    logging.getLogger("glip").setLevel(logging.ERROR)  # the main process has logged the same messages
    _maker_of_this_process[:] = [job.maker()]


def _write_in_worker(job: SceneJob, folder: Path, index: int) -> WrittenScene:
    return write_scene(_maker_of_this_process[0], folder, job.minimum_wh, job.maximum_wh, index)


def _size(size_wh: Iterable[int]) -> str:
    return " × ".join(map(str, size_wh))
