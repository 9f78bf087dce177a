"""Post-processing against the original's, in every setting that was recorded, and its edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glip.boxes import box_iou
from glip.model.anchors import decode, make_anchors
from glip.model.glip import RawOutputs
from glip.model.postprocess import Aggregate, ScoredBoxes, Selection, inclusive_nms, limit, merge, phrase_scores, select

CPU = torch.device("cpu")
SETTINGS = ["mean", "max", "power", "lvis", "nms03", "top50", "low_threshold"]
AGGREGATES: dict[str, Aggregate] = {"MEAN": "mean", "MAX": "max", "POWER": "geometric"}


def recorded(parity: Path) -> tuple[dict[str, Any], dict[str, Any], RawOutputs]:
    meta = json.loads((parity / "cases" / "post_T_chelsea_six.json").read_text())
    with np.load(parity / "cases" / "post_T_chelsea_six.npz") as file:
        arrays = dict(file)
    height, width = meta["padded_hw"]
    sizes = [(-(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]
    alignment, deltas, centerness = [], [], []
    for level, (h, w) in zip(("P3", "P4", "P5", "P6", "P7"), sizes, strict=True):
        alignment.append(torch.from_numpy(arrays[f"token_logits_{level}"]).view(1, h * w, -1))
        deltas.append(torch.from_numpy(arrays[f"bbox_reg_{level}"]).view(1, 4, h * w).transpose(1, 2))
        centerness.append(torch.from_numpy(arrays[f"centerness_{level}"]).view(1, h * w))
    outputs = RawOutputs(
        torch.cat(alignment, 1),
        torch.cat(deltas, 1),
        torch.cat(centerness, 1),
        make_anchors(sizes, CPU),
        tuple(h * w for h, w in sizes),
    )
    return meta, arrays, outputs


@pytest.mark.parametrize("name", SETTINGS)
def test_detections_equal_the_originals(name: str, parity: Path) -> None:
    meta, arrays, outputs = recorded(parity)
    assert set(meta["settings"]) == set(SETTINGS)
    setting = meta["settings"][name]
    classes = sorted(int(label) for label in setting["positive_map"])
    positive_map = torch.zeros(len(classes), meta["n_tokens"])
    for row, label in enumerate(classes):
        positive_map[row, setting["positive_map"][str(label)]] = 1
    selection = Selection(
        candidate_threshold=setting["pre_nms_thresh"],
        pre_nms=setting["pre_nms_top_n"],
        nms_iou=setting["nms_thresh"],
        max_detections=setting["fpn_post_nms_top_n"],
        aggregate=AGGREGATES[setting["score_agg"]],
    )
    found = select(outputs, positive_map, [tuple(meta["resized_hw"])], selection)[0]
    labels = np.array(classes)[found.labels.numpy()]
    golden = {part: arrays[f"{name}_{part}"] for part in ("boxes", "scores", "labels")}
    assert len(labels) == setting["detections"] == len(golden["labels"])
    ours, theirs = (
        np.lexsort((boxes[:, 0], names, -np.round(scores, 5)))
        for boxes, names, scores in (
            (found.boxes.numpy(), labels, found.scores.numpy()),
            (golden["boxes"], golden["labels"], golden["scores"]),
        )
    )
    assert (labels[ours] == golden["labels"][theirs]).all()
    assert np.abs(found.boxes.numpy()[ours] - golden["boxes"][theirs]).max() < 1e-3
    assert np.abs(found.scores.numpy()[ours] - golden["scores"][theirs]).max() < 1e-5


def one_level(alignment: Tensor, deltas: Tensor | None = None, centerness: Tensor | None = None) -> RawOutputs:
    """Outputs of one image with anchors at (0, 0), (8, 0), … of P3 only."""
    count = alignment.shape[0]
    return RawOutputs(
        alignment[None],
        torch.zeros(1, count, 4) if deltas is None else deltas[None],
        torch.full((1, count), 10.0) if centerness is None else centerness[None],
        make_anchors([(1, count), (0, 0), (0, 0), (0, 0), (0, 0)], CPU),
        (count, 0, 0, 0, 0),
    )


def logit(p: float) -> float:
    return float(torch.logit(torch.tensor(p)))


def test_the_threshold_comes_before_centerness() -> None:
    outputs = one_level(torch.tensor([[logit(0.06)], [logit(0.04)]]), centerness=torch.tensor([-8.0, 8.0]))
    found = select(outputs, torch.ones(1, 1), [(100, 100)])[0]
    assert len(found.scores) == 1
    assert found.scores[0] == pytest.approx((0.06 * torch.tensor(-8.0).sigmoid().item()) ** 0.5, rel=1e-4)


def test_a_phrase_scores_the_mean_of_its_tokens_and_of_no_others() -> None:
    alignment = torch.tensor([[[logit(0.2), logit(0.4), logit(0.9)]]])
    positive_map = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    assert phrase_scores(alignment, positive_map, "mean")[0, 0].tolist() == pytest.approx([0.3, 0.9])
    assert phrase_scores(alignment, positive_map, "max")[0, 0].tolist() == pytest.approx([0.4, 0.9])
    assert phrase_scores(alignment, positive_map, "geometric")[0, 0].tolist() == pytest.approx([0.08**0.5, 0.9])


def test_nothing_found_is_an_empty_result() -> None:
    found = select(one_level(torch.full((3, 2), -20.0)), torch.eye(2), [(50, 50)])[0]
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


def test_boxes_are_clipped_to_the_image_and_not_to_its_padding() -> None:
    found = select(one_level(torch.tensor([[3.0]])), torch.ones(1, 1), [(20, 31)])[0]
    assert found.boxes[0].tolist() == [0, 0, 30, 19]


def test_suppression_counts_both_ends_and_stays_inside_a_phrase() -> None:
    # 10 x 10 and 10 x 6 pixels with both ends counted: overlap exactly 0.6, which is not above 0.6.
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 5.0], [0.0, 0.0, 9.0, 6.0], [0.0, 0.0, 9.0, 9.0]])
    found = ScoredBoxes(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 0, 1]))
    kept = inclusive_nms(found, found.labels, 0.6)
    assert found.scores[kept].tolist() == pytest.approx([0.9, 0.8, 0.6])
    assert len(inclusive_nms(found, found.labels, 0.59)) == 2


def test_ties_of_the_last_place_stay() -> None:
    found = ScoredBoxes(torch.zeros(4, 4), torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.zeros(4, dtype=torch.long))
    assert len(limit(found, 2).scores) == 3
    assert len(limit(found, 1).scores) == 1
    assert len(limit(found, None).scores) == 4


def test_merged_chunks_are_sorted_and_their_labels_shifted() -> None:
    def part(*scores: float) -> ScoredBoxes:
        return ScoredBoxes(
            torch.zeros(len(scores), 4), torch.tensor(scores), torch.zeros(len(scores), dtype=torch.long)
        )

    merged = merge([part(0.5, 0.1), part(0.9)], [0, 7])
    assert merged.scores.tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert merged.labels.tolist() == [7, 0, 0]


def test_the_best_candidates_of_each_level_are_ranked_with_centerness() -> None:
    alignment = torch.tensor([[2.0], [1.0], [0.5]])
    centerness = torch.tensor([-3.0, 3.0, 2.0])
    outputs = one_level(alignment, centerness=centerness)
    selection = Selection(pre_nms=1, nms_iou=None)
    found = select(outputs, torch.ones(1, 1), [(100, 100)], selection)[0]
    assert found.boxes[0, 0] == 0
    assert found.boxes[0, 2] == 43  # the second anchor: -20..43


def plainly(outputs: RawOutputs, scores: Tensor, size_hw: tuple[int, int], selection: Selection) -> Tensor:
    """(N, 6) boxes, scores and labels of one image, candidate by candidate, level by level."""
    candidates: list[tuple[float, int, int]] = []
    first = 0
    for count in outputs.level_sizes:
        rows = []
        for anchor in range(first, first + count):
            for label in range(scores.shape[1]):
                if scores[anchor, label] > selection.candidate_threshold:
                    ranked = float(scores[anchor, label] * outputs.centerness[0, anchor].sigmoid())
                    rows.append((ranked, anchor, label))
        candidates += sorted(rows, key=lambda row: -row[0])[: selection.pre_nms]
        first += count
    found: list[Tensor] = []
    ends = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for ranked, anchor, label in sorted(candidates, key=lambda row: -row[0]):
        box = decode(outputs.deltas[0, anchor][None], outputs.anchors[anchor][None])[0].clamp(min=0)
        box = box.minimum(torch.tensor([size_hw[1] - 1, size_hw[0] - 1] * 2))
        better = [row[:4] + ends for row in found if row[5] == label]
        most = 1.0 if selection.nms_iou is None else selection.nms_iou
        if not any(float(box_iou((box + ends).numpy(), other.numpy())) > most for other in better):
            found.append(torch.cat((box, torch.tensor([ranked**0.5, float(label)]))))
    return torch.stack(found[: selection.max_detections]) if found else torch.zeros(0, 6)


@pytest.mark.parametrize("nms_iou", [0.6, None])
@pytest.mark.parametrize("pre_nms", [3, 1000])
def test_a_batch_is_selected_as_image_by_image_and_level_by_level(pre_nms: int, nms_iou: float | None) -> None:
    torch.manual_seed(3)
    sizes = [(4, 5), (2, 3), (1, 2), (1, 1), (1, 1)]
    level_sizes = tuple(height * width for height, width in sizes)
    count = sum(level_sizes)
    # The middle image shows nothing.
    alignment = torch.randn(3, count, 4) - torch.tensor([0.0, 30.0, 1.0])[:, None, None]
    outputs = RawOutputs(
        alignment, torch.randn(3, count, 4), torch.randn(3, count), make_anchors(sizes, CPU), level_sizes
    )
    positive_map = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    sizes_hw = [(32, 40), (30, 30), (20, 37)]
    selection = Selection(candidate_threshold=0.3, pre_nms=pre_nms, nms_iou=nms_iou, max_detections=12)
    for number, found in enumerate(select(outputs, positive_map, sizes_hw, selection)):
        one = outputs.part(slice(number, number + 1), 4)
        scores = phrase_scores(one.alignment, positive_map, "mean")[0]
        expected = plainly(one, scores, sizes_hw[number], selection)
        assert (len(expected) == 0) == (number == 1)
        assert torch.allclose(found.boxes, expected[:, :4], atol=1e-4)
        assert torch.allclose(found.scores, expected[:, 4], atol=1e-6)
        assert found.labels.tolist() == expected[:, 5].tolist()
