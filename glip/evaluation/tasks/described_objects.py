"""D3 through a model: each image is asked for the descriptions of its own scenario, joined in one caption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from glip.data.annotations import Truth
from glip.data.d3 import PARTS, read_parts, read_scenarios
from glip.data.splits import OpenSplit, Split, open_split
from glip.errors import InputError
from glip.evaluation.inference import Looking, from_records, label_split
from glip.evaluation.metrics.described import described_scores, inside_scenarios
from glip.evaluation.predictions import Predictions, read_predictions
from glip.evaluation.results import SetResult, class_rows, percent
from glip.evaluation.tasks.detection import Scored


def evaluate_d3(
    item: Split, out: Path, look: Looking, given: Path | None, *, limit: int | None, max_det: int, gallery: int
) -> tuple[SetResult, list[Path]] | None:
    """Scores D3, intra-scenario.

    Args:
        item: the set.
        out: its folder.
        look: the model.
        given: results to score instead of a model's.
        limit: only the first so many images.
        max_det: most boxes of an image.
        gallery: so many of the worst images of FULL are drawn.

    Returns:
        The result, and the files that were drawn; None if the labelling was stopped.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    folder = item.annotations.parent
    parts = read_parts(item.annotations, open_split(item).truth)
    scenarios = read_scenarios(folder.parent / "d3_pkl/groups.pkl")
    whole = parts["FULL"]
    lost = [id for id in whole.image_ids.tolist() if id not in scenarios]
    if lost:
        raise InputError(f"{folder.parent / 'd3_pkl/groups.pkl'} knows no scenario of image {lost[0]}.")
    notes = [f"{folder / name} is not there; {part} is left out." for part, name in PARTS.items() if part not in parts]
    if limit is not None:
        parts = {part: truth.of_images(whole.image_ids[:limit]) for part, truth in parts.items()}
    if given is not None:
        predictions = read_predictions(given, whole)
        predictions = predictions.rows(np.isin(predictions.image_id, parts["FULL"].image_ids))
    else:
        found = _label(item, parts["FULL"], scenarios, out, look, max_det)
        if found is None:
            return None
        predictions, failed = found
        notes += [f"{failed} images could not be read and count as empty."] if failed else []
    scores = described_scores(parts, predictions, scenarios)
    numbers = {name: percent(value) for name, value in scores.numbers().items()}
    numbers |= {f"FULL, {name} descriptions": percent(value) for name, value in scores.by_length().items()}
    result = SetResult(
        item.name,
        item.split,
        item.format,
        numbers,
        class_rows(scores.parts["FULL"]),
        images=len(parts["FULL"].image_ids),
        annotated=len(parts["FULL"].image_id),
        found=len(predictions),
        notes=(*item.notes, *notes),
    )
    from glip.evaluation.error_gallery import draw_set

    full = parts["FULL"]
    scored = Scored(result, scores.parts["FULL"], full, inside_scenarios(predictions, scenarios))
    return result, draw_set(out, _opened(item, full), scored, gallery)


def _opened(item: Split, truth: Truth) -> OpenSplit:
    return OpenSplit(item, truth, truth.names, tuple(truth.category_ids.tolist()), None, ())


def _label(
    item: Split,
    truth: Truth,
    scenarios: Mapping[int, frozenset[int]],
    out: Path,
    look: Looking,
    max_det: int,
) -> tuple[Predictions, int] | None:
    """The model's boxes and the number of images that failed; None if the labelling was stopped."""
    from glip.labeling.image_prompts import ClassList, PromptsByImage

    opened = _opened(item, truth)
    name_of = dict(zip(truth.category_ids.tolist(), truth.names, strict=True))
    ids = {
        path: sorted(id for id in scenarios[images[0]] if id in name_of) for path, images in opened.ids_of_image.items()
    }
    lists = {path: ClassList(tuple(name_of[id] for id in own)) for path, own in ids.items()}
    labelled = label_split(out, list(lists), PromptsByImage(lists), look)
    if labelled.summary.interrupted:
        return None
    found = from_records(labelled.records(), opened.ids_of_image, ids.__getitem__, max_det)
    return found, labelled.summary.failed
