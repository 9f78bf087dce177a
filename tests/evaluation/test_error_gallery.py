"""Diagrams and photographs of an evaluation, looked at by their pixels."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.evaluation.error_analysis import Confusion
from glip.evaluation.error_gallery import GALLERY_FOLDER, matrix_of
from glip.evaluation.plots import draw_boxes, draw_curves, draw_matrix
from glip.evaluation.run import EvalRequest, evaluate
from tests.evaluation.perfect import write_coco

GREEN, RED = (44, 160, 44), (214, 39, 40)


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def places(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero((pixels == colour).all(axis=2))
    return rows, columns


def test_a_curve_goes_where_its_numbers_say() -> None:
    flat = (np.linspace(0, 1, 101), np.full(101, 0.5))
    rows, columns = places(opened(draw_curves("a title", {"half": flat})), (31, 119, 180))
    inside = rows < 540  # below is the legend
    assert abs(int(np.median(rows[inside])) - 300) <= 1  # from 60, precision 1, to 540, precision 0
    assert (columns[inside].min(), columns[inside].max()) == (60, 540)


def test_curves_of_nothing_are_an_empty_diagram() -> None:
    assert opened(draw_curves("nothing", {})).shape == (600, 600, 3)


def test_the_matrix_is_dark_where_most_of_a_row_is() -> None:
    pixels = opened(draw_matrix("set", ["cat", "dog"], np.array([[9, 1], [0, 0]])))
    rows, _ = places(pixels, (255, 255, 255))
    assert len(rows)
    dark = np.unique(pixels.reshape(-1, 3)[pixels.reshape(-1, 3).sum(axis=1) < 500], axis=0)
    assert [53, 133, 188] in dark.tolist()  # nine tenths of the way from white to blue


def test_of_many_classes_the_most_mistaken_are_drawn() -> None:
    counts = np.zeros((101, 101), np.int64)
    counts[70, 3] = 5
    names = (*(f"class {place}" for place in range(100)), "background")
    few = opened(matrix_of("set", Confusion(names, counts)))
    assert few.shape[0] < 41 * 44 + 200  # of all 101 it would have cells too small for numbers
    rows, columns = places(few, (31, 119, 180))
    # All of the row's count is in one cell: class 70, which is mistaken for class 3.
    assert len(rows) > 100 and np.ptp(rows) < 44 and np.ptp(columns) < 44


def test_boxes_are_drawn_at_their_place_below_the_title(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), (90, 90, 90)).save(tmp_path / "p.png")
    none = np.zeros((0, 4))
    content = draw_boxes(tmp_path / "p.png", "x", np.array([[10.0, 20, 50, 30]]), none, np.array([[100.0, 40, 60, 20]]))
    assert content is not None
    rows, columns = places(opened(content), GREEN)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (48, 78, 10, 60)
    rows, columns = places(opened(content), RED)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (68, 88, 100, 160)


def test_an_image_that_cannot_be_read_any_more_is_not_drawn(tmp_path: Path) -> None:
    none = np.zeros((0, 4))
    assert draw_boxes(tmp_path / "gone.png", "x", none, none, none) is None


@pytest.mark.parametrize("count", [0, 2, 12])
def test_the_worst_misses_are_photographs_named_by_what_went_wrong(count: int, tmp_path: Path) -> None:
    write_coco(tmp_path)
    boxes = [
        {"image_id": 1, "category_id": 2, "bbox": [2, 3, 18, 27], "score": 0.9},
        {"image_id": 2, "category_id": 2, "bbox": [1, 1, 29, 39], "score": 0.8},
    ]
    (tmp_path / "results.json").write_text(json.dumps(boxes))
    out = tmp_path / "out/coco" / GALLERY_FOLDER
    out.mkdir(parents=True)
    (out / "999-of-an-earlier-run.png").touch()
    request = EvalRequest("coco", tmp_path / "out", tmp_path, predictions=tmp_path / "results.json", gallery=count)
    result = evaluate(request)
    names = sorted(path.name for path in out.iterdir())
    if count:
        assert (out in result.files) and "999-of-an-earlier-run.png" not in names and len(names) <= count
        assert any("wrong-class-dog-p1" in name for name in names)
    else:
        assert out not in result.files


def test_images_that_are_not_at_hand_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_coco(tmp_path)
    for path in (tmp_path / "coco/val2017").iterdir():
        path.unlink()
    (tmp_path / "results.json").write_text("[]")
    evaluate(EvalRequest("coco", tmp_path / "out", tmp_path, predictions=tmp_path / "results.json"))
    assert [record.message for record in caplog.records if "at hand" in record.message] == [
        "3 of the worst images of coco are not at hand, and not drawn."
    ]
