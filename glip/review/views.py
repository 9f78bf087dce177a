"""Saved views of a dataset: what to look at first, and with a truth, what the detector got right."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from glip.review import documents as docs
from glip.review.priorities import DUPLICATE, MISS
from glip.review.truth import VERDICT

# A view for each of hundreds of classes would bury the others; the sidebar filters by class anyway.
MOST_CLASSES = 50
MISSES = "likely misses"
# The app shows labels; a view cannot say that it wants another field shown.
_HOW_TO_SEE = {
    MISSES: f"Tick '{docs.PREDICTIONS}' at the left to see them; one that is tagged 'approve' becomes a label."
}


def save_views(fiftyone: ModuleType, dataset: Any) -> list[str]:
    """Saves our views anew; those that people made stay. Gives their names."""
    views = _views(fiftyone, dataset)
    stale = [name for name in dataset.list_saved_views() if name.startswith("class: ") and name not in views]
    for name in stale:
        dataset.delete_saved_view(name)
    for name, view in views.items():
        dataset.save_view(name, view, description=_HOW_TO_SEE.get(name), overwrite=True)
    return list(views)


def _views(fiftyone: ModuleType, dataset: Any) -> dict[str, Any]:
    field = fiftyone.ViewField
    views = {
        "most uncertain: margin": dataset.exists("margin").sort_by("margin"),
        "most uncertain: entropy": dataset.exists("entropy").sort_by("entropy", reverse=True),
        MISSES: dataset.filter_labels(docs.PREDICTIONS, field("hint") == MISS).sort_by("likely_misses", reverse=True),
        "likely duplicates": dataset.filter_labels(docs.LABELS, field("hint") == DUPLICATE).sort_by(
            "likely_duplicates", reverse=True
        ),
        "empty images": dataset.match(field(f"{docs.LABELS}.detections").length() == 0),
    }
    if dataset.has_field(docs.TRUTH):
        verdict = field(VERDICT)
        views["false positives"] = dataset.filter_labels(docs.LABELS, verdict == "fp")
        views["true positives"] = dataset.filter_labels(docs.LABELS, verdict == "tp")
        views["missed truth"] = dataset.filter_labels(docs.TRUTH, verdict == "fn")
    counts: Mapping[str, int] = dataset.count_values(f"{docs.LABELS}.detections.label")
    named = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
    for name in named[:MOST_CLASSES]:
        views[f"class: {name}"] = dataset.filter_labels(docs.LABELS, field("label") == name)
    return views
