"""Opens the data sets that the published models were pre-trained on, as streams of examples.

The files of each are in the table of `glip.data.benchmarks`; images and annotations must be fetched from their makers.
Knows nothing of mixing or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from glip.data.benchmarks import Benchmark, pretraining_rows
from glip.data.coco import CocoDataset, CocoImage, load_coco
from glip.data.datasets import PSEUDO_LABEL_FLOOR, DetectionStream, GroundingStream
from glip.data.grounding import load_grounding
from glip.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_pretraining_set(
    name: str,
    root: Path | str,
    tokenizer: Tokenizer,
    seed: int = 0,
    *,
    copies: int = 1,
    score_floor: float = PSEUDO_LABEL_FLOOR,
) -> DetectionStream | GroundingStream:
    """Opens a data set as a stream, read as in the published pre-training.

    Args:
        name: of a row of `pretraining_rows`.
        root: the data folder; for 'coco-folder' and 'grounding-folder' the data set's own folder.
        tokenizer: the model's.
        seed: of the order and the captions.
        copies: how often each image is shown in an epoch.
        score_floor: boxes made by a detector must have a higher score.

    Raises:
        InputError: the name is unknown, or a file or folder is missing.
    """
    rows = pretraining_rows()
    if name not in rows:
        hint = did_you_mean(name, list(rows))
        raise InputError(f"No pre-training set is called {name!r}.{hint} Known are {', '.join(rows)}.")
    row, root = rows[name], Path(root)
    reads = row.pretraining
    assert reads is not None
    annotations = _existing(row, root, reads.files.annotations)[0]
    folders = [folder for group in reads.files.images for folder in _existing(row, root, group)]
    if reads.kind == "grounding":
        captions = load_grounding(annotations)
        return GroundingStream(
            captions, folders, tokenizer, seed, score_floor=score_floor, packing=reads.packing, copies=copies
        )
    boxes = load_coco(annotations)
    if reads.patches:
        boxes = _in_patches(boxes)
    return DetectionStream(boxes, folders, tokenizer, seed, sampling=reads.sampling, copies=copies)


def _existing(row: Benchmark, root: Path, paths: Sequence[str]) -> list[Path]:
    """Returns the paths that exist, at least one."""
    found = [root / path for path in paths if (root / path).exists()]
    if not found:
        reads = row.pretraining
        assert reads is not None
        others = f" (or {', '.join(paths[1:])})" if paths[1:] else ""
        raise InputError(
            f"{root / paths[0]}{others} is missing. The layout of {row.name} in {root}: {reads.files.described()}. "
            f"{row.fetch}"
        )
    return found


def _in_patches(dataset: CocoDataset) -> CocoDataset:
    """Returns the data set with the file names as they are on disk: 'patch8/a.jpg' for 'images/v2/patch8/a.jpg'."""

    def renamed(image: CocoImage) -> CocoImage:
        return msgspec.structs.replace(image, file_name="/".join(PurePosixPath(image.file_name).parts[-2:]))

    return msgspec.structs.replace(dataset, images=tuple(map(renamed, dataset.images)))
