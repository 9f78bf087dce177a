"""run.json of a labelling run: an output folder belongs to one configuration; resuming it with another is refused."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import msgspec

from glip.detectors.base import ObjectDetector
from glip.errors import InputError
from glip.labeling.records import CaptionPlan, RunInfo, read_run, shard_files
from glip.labeling.worker import LabelSettings
from glip.run_folder import RUN_FILE, refuse_change, write_run_file

# The fields of RunInfo that decide what the records hold, and the field of the job that sets each. Device and batch are
# not among them: they change the last digits only. Thresholds of the outputs are not: the records serve them all.
CONFIGURATION = {
    "model_sha256": "model",
    "precision": "precision",
    "names": "prompts (names)",
    "captions": "prompts (captions)",
    "record": "record",
    "floor": "floor",
    "imgsz": "imgsz",
    "by_caption": "prompts (by_caption)",
    "tiling": "tiling",
    "fast_decode": "fast_decode",
    "nms_iou": "nms_iou",
    "max_detections": "max_detections",
}
# Written by the labelling command itself; other exports belong to the user.
OUTPUT_FILES = ("annotations.coco.json", "grounding.json", "errors.jsonl", "report.html")
LIBRARIES = ("glip", "torch", "torchvision", "timm", "transformers", "tokenizers", "pillow", "numpy")

logger = logging.getLogger(__name__)


def describe_run(settings: LabelSettings, detector: ObjectDetector, model: str, job: dict[str, Any]) -> RunInfo:
    """Returns the content of run.json for a run that begins now.

    Args:
        settings: of the workers.
        detector: the open detector.
        model: the model as requested.
        job: the job as plain values.
    """
    prompts, limits = settings.prompts, settings.limits
    return RunInfo(
        model_sha256=detector.sha256,
        names=prompts.names,
        captions=tuple(CaptionPlan(prompt.caption, prompt.phrases, prompt.spans) for prompt in prompts.shared),
        floor=limits.floor,
        imgsz=settings.imgsz,
        nms_iou=detector.nms_iou if limits.suppress else None,
        max_detections=limits.max_detections,
        record="detections" if limits.suppress else "candidates",
        precision=detector.precision,
        model=model,
        device=str(detector.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": python_version()} | {library: version(library) for library in LIBRARIES},
        job=job,
        by_caption=prompts.by_caption,
        tiling=str(settings.tiling or ""),
        fast_decode=settings.fast_decode,
        score_rule=detector.score_rule,
    )


def begin_run(folder: Path, run: RunInfo, *, overwrite: bool, keep: Collection[Path] = ()) -> None:
    """Writes run.json, or refuses to resume a run with another configuration.

    Args:
        folder: the output folder, locked by this process.
        run: the run that begins.
        overwrite: delete the records and outputs of an earlier run first.
        keep: files that are not deleted then, because they hold work of people.

    Raises:
        InputError: the folder holds another configuration, or records without run.json.
        JobFailed: run.json cannot be written.
    """
    if overwrite:
        _delete_run(folder, keep)
    elif (folder / RUN_FILE).exists():
        earlier = read_run(folder)
        before, now = (msgspec.to_builtins(info) for info in (earlier, run))
        refuse_change(folder, before, now, fields=CONFIGURATION, names=CONFIGURATION)
        run = msgspec.structs.replace(run, created=earlier.created)
    elif found := [path for path in (*shard_files(folder), *_outputs(folder)) if path.exists()]:
        raise InputError(
            f"{folder} holds {found[0].name}, but no {RUN_FILE} with the configuration it was made with. "
            f"Choose another output folder, or delete its content with overwrite."
        )
    write_run_file(folder, run)


def _delete_run(folder: Path, keep: Collection[Path]) -> None:
    """Deletes records and the outputs made from them. run.json goes last: the rest is never without it."""
    shards = shard_files(folder)
    if shards:
        logger.info("Overwriting: %d files of records are deleted from %s.", len(shards), folder)
    for path in (*_outputs(folder), *shards, folder / RUN_FILE):
        if not (path.exists() and any(other.samefile(path) for other in keep)):
            path.unlink(missing_ok=True)


def _outputs(folder: Path) -> list[Path]:
    return [folder / name for name in OUTPUT_FILES]
