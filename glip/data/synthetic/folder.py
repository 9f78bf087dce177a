"""Scenes as a folder that any reader of COCO files takes: images, boxes, and captions with the places of phrases.

OUT/images/000000.jpg …     images
OUT/annotations.json        COCO: a class is 'dog face' or 'red circle'
OUT/captions.json           the form of MDETR: a caption an image, boxes with the characters that name them
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
from glip.data.synthetic.captions import Caption
from glip.data.synthetic.cast import Split
from glip.data.synthetic.scenes import SMALLEST_SIDE, SceneMaker, SceneObject
from glip.data.synthetic.sprite_pool import load_pool
from glip.errors import InputError, JobFailed
from glip.files import whole_folder

JPEG_QUALITY = 92
_TASK = 16  # scenes that a process is given at a time

Advance = Callable[[], object]


@dataclass(frozen=True)
class SceneJob:
    """What to write.

    Attributes:
        count: images.
        seed: another seed gives other images of the same kind.
        split: see `cast_of`.
        least_wh, most_wh: between which width and height lie, in pixels.
        shapes: share of the objects that are drawn shapes.
        names: at most so many names of images, the simplest; all of them if None.
        sprites: a folder of named images; those of the emoji font if None.
        workers: processes that work; the result does not depend on it.
    """

    count: int
    seed: int = 0
    split: Split = "train"
    least_wh: tuple[int, int] = (160, 160)
    most_wh: tuple[int, int] = (480, 480)
    shapes: float = 0.4
    names: int | None = None
    sprites: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        for what, value in (("images", self.count), ("workers", self.workers), ("names", self.names)):
            if value is not None and value < 1:
                raise InputError(f"The number of {what} is {value}, but must be at least 1.")
        if min(self.least_wh) < SMALLEST_SIDE or self.most_wh < self.least_wh or self.most_wh[1] < self.least_wh[1]:
            raise InputError(
                f"Scenes of {_size(self.least_wh)} to {_size(self.most_wh)} pixels cannot be made. "
                f"Both sides need at least {SMALLEST_SIDE}, and the larger size comes last."
            )

    def maker(self) -> SceneMaker:
        """Makes the scenes of this job."""
        pool = load_pool(self.sprites)
        return SceneMaker.of_split(
            pool.simplest(self.names) if self.names else pool, self.split, self.seed, self.shapes
        )


@dataclass(frozen=True)
class Drawn:
    """An image that is on disk."""

    file_name: str
    size_wh: tuple[int, int]
    objects: tuple[SceneObject, ...]
    caption: Caption


@dataclass(frozen=True)
class FolderSummary:
    """What was written."""

    folder: str
    images: int
    boxes: int
    classes: int


def write_scenes(job: SceneJob, out: Path, overwrite: bool = False, advance: Advance = lambda: None) -> FolderSummary:
    """Writes scenes 0 to `count` - 1, whole or not at all.

    Args:
        job: what to write.
        out: the folder; must be empty or absent unless `overwrite`.
        overwrite: what `out` holds is replaced once all is there.
        advance: called after each image.

    Raises:
        InputError: `out` holds something, or the job cannot be done as asked.
        JobFailed: the disk does not take it.
    """
    refuse_to_overwrite(out, overwrite)
    maker = job.maker()  # made here in any case: what is wrong with it is said before anything starts
    with whole_folder(out) as folder:
        (folder / "images").mkdir()
        drawn = []
        for item in _drawn(job, maker, folder / "images"):
            drawn.append(item)
            advance()
        labels = sorted({item.thing.label for image in drawn for item in image.objects})
        boxes = as_coco(drawn, labels)
        save_coco(folder / "annotations.json", boxes)
        save_grounding(folder / "captions.json", _as_grounding(drawn), {"description": "synthetic scenes"})
    return FolderSummary(str(out), len(drawn), len(boxes.annotations), len(labels))


def refuse_to_overwrite(out: Path, overwrite: bool) -> None:
    """Raises:
    InputError: `out` is a file, or a folder with something in it that may not be replaced.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Give a folder.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out} is not empty. Give another folder, or --overwrite to replace all that it holds.")


def draw(maker: SceneMaker, folder: Path, least_wh: tuple[int, int], most_wh: tuple[int, int], index: int) -> Drawn:
    """Makes scene number `index` and puts its image into `folder`."""
    size_wh = maker.size_wh(index, least_wh, most_wh)
    scene = maker.scene(index, size_wh)
    file_name = f"{index:06d}.jpg"
    # Without subsampling: colours are what is to be learned here.
    scene.image.save(folder / file_name, quality=JPEG_QUALITY, subsampling=0)
    return Drawn(file_name, size_wh, scene.objects, scene.caption)


def as_coco(drawn: Sequence[Drawn], labels: Sequence[str]) -> CocoDataset:
    """The boxes of all objects whose class is one of `labels`; category ids count from 1 in their order."""
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


def _as_grounding(drawn: Sequence[Drawn]) -> GroundingDataset:
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


def _drawn(job: SceneJob, maker: SceneMaker, folder: Path) -> Iterator[Drawn]:
    """Every image in order, made here or by processes of which each has its own maker."""
    if job.workers == 1:
        yield from map(partial(draw, maker, folder, job.least_wh, job.most_wh), range(job.count))
        return
    # Spawned, not forked: the caller may hold threads, such as those of a progress bar.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.workers, spawn, initializer=_start_worker, initargs=(job,)) as processes:
        try:
            yield from processes.map(partial(_draw_there, job, folder), range(job.count), chunksize=_TASK)
        except BrokenProcessPool:
            raise JobFailed(
                f"One of {job.workers} workers has ended, probably because memory ran out. Use fewer --workers."
            ) from None
        except BaseException:
            processes.shutdown(cancel_futures=True)
            raise


_maker_of_this_process: list[SceneMaker] = []


def _start_worker(job: SceneJob) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to answer
    logging.getLogger("glip").setLevel(logging.ERROR)  # which has also said what there is to say
    _maker_of_this_process[:] = [job.maker()]


def _draw_there(job: SceneJob, folder: Path, index: int) -> Drawn:
    return draw(_maker_of_this_process[0], folder, job.least_wh, job.most_wh, index)


def _size(size_wh: Iterable[int]) -> str:
    return " × ".join(map(str, size_wh))
