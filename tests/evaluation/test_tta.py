"""Test-time augmentation: mirrored boxes come back, boxes count in views of the right size, and views are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from glip.detections import Detections
from glip.detectors.base import DetectionLimits
from glip.errors import InputError
from glip.evaluation import tta
from glip.evaluation.run import EvalRequest, evaluate
from glip.evaluation.tta import VIEWS, Mirrored, ScaledView, merge_views
from glip.images import ImageBatch
from glip.images.batch import PreparedImage
from glip.labeling.records import Record
from glip.prompts import Prompt
from tests.evaluation.perfect import detector, write_coco
from tests.labeling.fake import FakeDetector

PROMPT = Prompt.from_names(["dog"])


@dataclass
class BrightColumns(FakeDetector):
    """Detects the white part of each image as the model does: scaled from the view, then one pixel added."""

    seen: list[tuple[int, int]] = field(default_factory=list)

    def detect_batch(self, batch: ImageBatch, prompts: Sequence[Prompt]) -> list[Detections]:
        found = []
        for pixels, (height, width), scale in zip(batch.pixels, batch.sizes_hw, batch.scales, strict=True):
            columns = (pixels[0, :height, :width].amax(0) > 0).nonzero()[:, 0]
            self.seen.append((int(columns[0]), int(columns[-1])))
            rows = (pixels[0, :height, :width].amax(1) > 0).nonzero()[:, 0]
            corners = np.array([columns[0], rows[0], columns[-1], rows[-1]], float) * np.array([*scale, *scale])
            corners[2:] += 1
            box = corners[None].astype(np.float32)
            found.append(Detections(box, np.array([0.5], np.float32), np.array([0]), ("dog",)))
        return found


@pytest.mark.parametrize("scale", [1.0, 0.5, 3.0])
def test_boxes_of_a_mirrored_image_come_back_to_where_they_are(scale: float) -> None:
    images = []
    for width, first, last in ((40, 3, 9), (56, 30, 55)):
        rgb = torch.zeros(30, width, 3, dtype=torch.uint8)
        rgb[5:20, first : last + 1] = 255
        images.append(PreparedImage(rgb, (round(30 * scale), round(width * scale))))
    plain, mirrored = BrightColumns(), BrightColumns()
    expected = plain.detect(images, [PROMPT], DetectionLimits())
    found = Mirrored(mirrored).detect(images, [PROMPT], DetectionLimits())
    assert mirrored.seen == [(30, 36), (0, 25)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-4)
    assert plain.seen == [(3, 9), (30, 55)]


def record(*boxes: tuple[float, float, float, float, float, int], error: str | None = None) -> Record:
    return Record(
        "p.png",
        "1-1",
        width=100,
        height=100,
        boxes=[box[:4] for box in boxes],
        scores=[box[4] for box in boxes],
        labels=[box[5] for box in boxes],
        error=error,
    )


def test_views_are_merged_by_class_and_best_first() -> None:
    anything = ScaledView(100, 0, 10_000, False)
    merged = merge_views(
        [anything] * 3,
        [
            record((0, 0, 50, 50, 0.5, 0), (60, 60, 90, 90, 0.25, 1)),
            record((1, 0, 51, 50, 0.75, 0), (0, 0, 50, 50, 0.375, 1)),
            record(error="broken"),
        ],
    )
    assert merged.boxes == [(1.0, 0.0, 51.0, 50.0), (0.0, 0.0, 50.0, 50.0), (60.0, 60.0, 90.0, 90.0)]
    assert (merged.scores, merged.labels, merged.error) == ([0.75, 0.375, 0.25], [0, 1, 1], None)


def test_a_box_counts_only_in_views_that_show_it_in_the_right_size() -> None:
    small, large = (0, 0, 20, 20, 0.5, 0), (0, 0, 80, 80, 0.4, 1)
    # Shown at twice the size: 39 and 159 pixels and one more.
    both = ScaledView(200, 0, 10_000, False)
    assert merge_views([both], [record(small, large)]).labels == [0, 1]
    assert merge_views([ScaledView(200, 96, 10_000, False)], [record(small, large)]).labels == [1]
    assert merge_views([ScaledView(200, 0, 96, True)], [record(small, large)]).labels == [0]


def test_the_views_are_those_of_the_originals_code() -> None:
    assert len(VIEWS) == 24 and len({view.name for view in VIEWS}) == 24
    assert [view.imgsz for view in VIEWS if view.mirrored] == [
        *(400, 500, 600, 640, 700, 900, 1000, 1100, 1200, 1300, 1400, 1800)
    ]


def test_an_augmented_run_scores_the_views_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = (ScaledView(64, 0, 10_000, False), ScaledView(96, 0, 10_000, False))
    monkeypatch.setattr(tta.label_in_views, "__defaults__", (views,))
    perfect = detector()
    write_coco(tmp_path)
    request = EvalRequest("coco", tmp_path / "out", tmp_path, tta=True, gallery=0)
    result = evaluate(request, detector=perfect)
    assert result.rows[0].measured == pytest.approx(100)
    assert result.sets[0].found == 5 and len(perfect.asked) == 6
    assert result.protocol["limits"].startswith("100 boxes per view, 1000 per image")
    assert "400, 500" in result.protocol["resolution"] and "flipped" in result.protocol["resolution"]
    evaluate(request, detector=perfect)
    assert len(perfect.asked) == 6


def test_augmentation_is_refused_without_a_class_list(tmp_path: Path) -> None:
    for name in ("flickr30k/flickr30k_images", "mdetr_annotations"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mdetr_annotations/final_flickr_separateGT_val.json").write_text("{}")
    with pytest.raises(InputError, match=r"tta .*flickr30k"):
        evaluate(EvalRequest("flickr30k", tmp_path / "out", tmp_path, tta=True))
