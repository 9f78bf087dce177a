"""One folder answers one question: run.json says which, and whoever asks another is turned away."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import msgspec

from glip.errors import InputError
from glip.files import whole_file
from glip.labeling.records import RUN_FILE, CaptionPlan, RecordKind, RunInfo, read_run, shard_files
from glip.labeling.worker import ImageDetector, LabelSettings

# The fields of RunInfo that decide what the records hold, and what a person says to change them. Device and batch are
# not among them: they move the last digits only. Thresholds of the outputs are not: records serve them all.
QUESTION = {
    "model_sha256": "--model",
    "precision": "--precision",
    "names": "--prompt",
    "captions": "--prompt",
    "record": "--record",
    "floor": "--floor",
    "imgsz": "--imgsz",
    "by_caption": "--captions",
    "tiling": "--tile",
    "fast_decode": "--fast-decode",
    "nms_iou": "--record",
    "max_detections": "--record",
}
OUTPUT_FILES = (
    "annotations.coco.json",
    "grounding.json",
    "errors.jsonl",
    "report.html",
)  # of `glip label` itself; exports are the user's
LIBRARIES = ("glip", "torch", "torchvision", "timm", "transformers", "tokenizers", "pillow", "numpy")

logger = logging.getLogger(__name__)


def describe_run(
    settings: LabelSettings, detector: ImageDetector, model: str, record: RecordKind, job: dict[str, Any]
) -> RunInfo:
    """What run.json says about a run that begins now."""
    return RunInfo(
        model_sha256=detector.sha256,
        names=() if settings.asked.by_caption else settings.asked.prompts.names,
        captions=tuple(
            CaptionPlan(chunk.caption, chunk.phrases, chunk.spans) for chunk in settings.asked.prompts.chunks
        ),
        floor=settings.floor,
        imgsz=settings.imgsz,
        nms_iou=settings.selection.nms_iou,
        max_detections=settings.selection.max_detections,
        record=record,
        precision=detector.precision,
        model=model,
        device=str(detector.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": python_version()} | {library: version(library) for library in LIBRARIES},
        job=job,
        by_caption=settings.asked.by_caption,
        tiling=str(settings.tiling or ""),
        fast_decode=settings.fast_decode,
    )


def answer_only(folder: Path, run: RunInfo, *, anew: bool) -> None:
    """Makes `folder` one that answers the question of `run`, and notes it in run.json.

    Args:
        folder: the output folder, locked by this process.
        run: what is asked now.
        anew: forget answers that are there, whatever they answer.

    Raises:
        InputError: the folder answers another question.
        JobFailed: run.json cannot be written.
    """
    if anew:
        _forget(folder)
    elif (folder / RUN_FILE).exists():
        earlier = read_run(folder)
        _refuse_change(folder, earlier, run)
        run = msgspec.structs.replace(run, created=earlier.created)
    elif found := [path for path in (*shard_files(folder), *_outputs(folder)) if path.exists()]:
        raise InputError(
            f"{folder} holds {found[0].name}, but no {RUN_FILE} that says what it answers. "
            f"Choose another folder with --out, or have it removed with --overwrite."
        )
    with whole_file(folder / RUN_FILE) as file:
        file.write(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")


def _refuse_change(folder: Path, earlier: RunInfo, now: RunInfo) -> None:
    for field, option in QUESTION.items():
        old, new = getattr(earlier, field), getattr(now, field)
        if old != new:
            raise InputError(
                f"{folder} holds labels of another question: {field} ({option}) was {_shown(old)} and is now "
                f"{_shown(new)}. Ask the same again, choose another folder with --out, or start anew with --overwrite."
            )


def _shown(value: object) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _forget(folder: Path) -> None:
    """Removes records and the outputs made of them; run.json goes last, so that what is left is never without it."""
    shards = shard_files(folder)
    if shards:
        logger.info("Starting anew: %d files of records are removed from %s.", len(shards), folder)
    for path in (*_outputs(folder), *shards, folder / RUN_FILE):
        path.unlink(missing_ok=True)


def _outputs(folder: Path) -> list[Path]:
    return [folder / name for name in OUTPUT_FILES]
