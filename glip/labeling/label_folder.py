"""`glip.label`: labels folders from Python, with the defaults of the command `glip label`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glip.data.class_lists import find_in_prompt
from glip.detectors.base import DetectionLimits
from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.errors import InputError
from glip.labeling.classes import ClassFile, load_class_file
from glip.labeling.job import LabelJob, LabelSummary, Watcher
from glip.labeling.job import label as run
from glip.labeling.tiling import Tiling
from glip.names import split_names


def label(
    sources: str | Path | Sequence[str | Path],
    prompt: str | Sequence[str] | None = None,
    out: str | Path = "labels",
    *,
    classes: str | Path | None = None,
    model: str = "glip-t",
    adapter: str | Path | None = None,
    conf: float | None = None,
    floor: float = DetectionLimits.floor,
    device: str = "auto",
    precision: str = "fp32",
    imgsz: int | None = None,
    batch: int | None = None,
    tile: int | None = None,
    limit: int | None = None,
    preview: int = 0,
    report: bool = True,
    overwrite: bool = False,
    offline: bool = False,
    watcher: Watcher | None = None,
) -> LabelSummary:
    """Labels the images of folders, and writes annotations.coco.json and the other files of `glip label` into `out`.

    Repeating a call resumes it. `LabelJob` has more settings (captions, candidates, tiles).

    Args:
        sources: folders, images, patterns, list files or addresses; one, or several.
        prompt: what to find: 'person . dog .', a list of names, or '@coco' and other lists.
        out: output folder.
        classes: a class file instead of a prompt.
        model: name of a checkpoint, a model folder, or a .pth file.
        adapter: adapter file written by `glip finetune`.
        conf: minimum score in the annotation file; None for the model's own.
        floor: minimum score of the boxes that are recorded for `glip export`.
        device: auto, cpu, mps, cuda or cuda:N.
        precision: fp32, bf16 or fp16.
        imgsz: size of the short side in pixels; None for the model's own.
        batch: maximum number of images that run together; None for 8 on a GPU and 1 elsewhere.
        tile: also run on tiles of this size in pixels; finds small objects.
        limit: label only the first N images.
        preview: number of images to draw with their boxes.
        report: write report.html.
        overwrite: start again; deletes the results in `out`.
        offline: never use the network.
        watcher: follows the job.

    Raises:
        InputError: there are no images, nothing to find is given, or a value cannot be used.
        JobFailed: the disk or the network failed. What was finished before is kept.
    """
    given = [sources] if isinstance(sources, str | Path) else sources
    names, meaning = _names(prompt, classes)
    job = LabelJob(
        sources=tuple(map(str, given)),
        prompts=names,
        out=Path(out),
        detector=DetectorSpec(model, None if adapter is None else Path(adapter), device, precision, offline=offline),
        limits=DetectionLimits(floor=floor),
        options=InferenceOptions(imgsz, batch),
        conf=conf,
        classes=meaning,
        limit=limit,
        tiling=None if tile is None else Tiling(tile),
        overwrite=overwrite,
        preview=preview,
        report=report,
    )
    return run(job, watcher=watcher)


def _names(prompt: str | Sequence[str] | None, classes: str | Path | None) -> tuple[tuple[str, ...], ClassFile | None]:
    if (prompt is None) == (classes is None):
        raise InputError("prompt or `classes` must be given, one of the two: prompt='person . dog .'.")
    if classes is not None:
        read = load_class_file(Path(classes))
        return read.phrases, read
    if not isinstance(prompt, str):
        return tuple(dict.fromkeys(prompt or ())), None
    if (found := find_in_prompt(prompt)) is None:
        return tuple(dict.fromkeys(split_names(prompt))), None
    names = tuple(found.id_of_name)
    return names, replace(ClassFile.from_phrases(names), ids=tuple(found.id_of_name.values()))
