"""The result type refuses what does not fit together, draws its boxes on images, and converts them."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from glip.detections import DRAWN_SIDE, Detections
from glip.drawing import find_font
from glip.errors import InputError


def make(count: int = 2, label: int = 0) -> Detections:
    boxes = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
    return Detections(boxes, np.linspace(1, 0, count, dtype=np.float32), np.full(count, label), ("cat",))


def boxes(*rows: tuple[float, float, float, float], names: tuple[str, ...] = ("dog",)) -> Detections:
    count = len(rows)
    return Detections(
        np.array(rows, np.float32).reshape(-1, 4), np.full(count, 0.5, np.float32), np.zeros(count, np.int64), names
    )


def test_filtering_keeps_the_rows_together() -> None:
    found = make(3).filter(np.array([True, False, True]))
    assert found.boxes[:, 0].tolist() == [0, 8]
    assert found.scores.tolist() == [1, 0]
    assert len(found) == 2


def test_empty_has_the_right_shapes() -> None:
    assert Detections.empty(("cat",)).boxes.shape == (0, 4)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\)"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(3, np.float32), np.zeros(3, np.int64), ("cat",))


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.0.*1\.\.1"):
        make(label=1)


def test_supervision_gets_boxes_scores_labels_and_names() -> None:
    found = boxes((1, 2, 3, 4), names=("собака",)).to_supervision()
    assert found.xyxy.tolist() == [[1, 2, 3, 4]]
    assert found.confidence.tolist() == [0.5]
    assert found.class_id.tolist() == [0]
    assert found.data["class_name"].tolist() == ["собака"]


def changed(image: Image.Image, drawn: Image.Image) -> np.ndarray:
    """Returns (H, W) how much each pixel differs."""
    return np.abs(np.asarray(drawn).astype(int) - np.asarray(image.resize(drawn.size)).astype(int)).sum(axis=2)


GREY = Image.new("RGB", (200, 160), (90, 90, 90))


def test_boxes_and_tags_are_drawn_where_they_belong() -> None:
    seen = changed(GREY, boxes((60, 80, 140, 140)).draw(GREY))
    assert seen[138:143, 90:110].max() > 100  # the lower edge
    assert seen[90:130, 70:130].max() == 0  # the inside
    assert seen[64:80, 60:110].max() > 100  # the tag above the upper left corner
    assert seen[:50].max() == 0
    assert seen[:, 150:].max() == 0


def test_drawing_leaves_the_image_as_it_was() -> None:
    boxes((60, 80, 140, 140)).draw(GREY)
    assert GREY.getcolors() == [(200 * 160, (90, 90, 90))]


def test_without_tags_only_the_lines_are_drawn_in_the_color() -> None:
    drawn = np.asarray(boxes((60, 80, 140, 140)).draw(GREY, tags=(), colors=["#d62728"], thickness=1))
    rows, columns = np.nonzero((drawn == (0xD6, 0x27, 0x28)).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (80, 140, 60, 140)
    assert (drawn == 90).all(axis=2).sum() == 200 * 160 - len(rows)


def test_no_boxes_change_nothing() -> None:
    assert changed(GREY, boxes().draw(GREY)).max() == 0


def test_boxes_follow_an_image_that_is_scaled_down() -> None:
    image = Image.new("RGB", (4 * DRAWN_SIDE, 2 * DRAWN_SIDE), (90, 90, 90))
    found = boxes((2 * DRAWN_SIDE, DRAWN_SIDE, 4 * DRAWN_SIDE - 8, 2 * DRAWN_SIDE - 8))
    seen = changed(image, found.draw(image))
    assert seen.shape == (DRAWN_SIDE // 2, DRAWN_SIDE)
    assert seen[300:700, DRAWN_SIDE // 2 - 2 : DRAWN_SIDE // 2 + 3].max() > 60
    assert seen[:200].max() == 0


@pytest.mark.parametrize("name", ["hard hat", "собака", "Mädchen", "σκύλος"])
def test_names_in_other_alphabets_are_drawn_with_their_own_letters(name: str) -> None:
    # A font without a letter draws the same empty box for each of them.
    font = ImageFont.truetype(find_font(name), 30)
    shapes = {bytes(font.getmask(letter)) for letter in set(name) - {" "}}
    assert len(shapes) == len(set(name) - {" "})
    assert bytes(font.getmask("\uffff")) not in shapes
    assert changed(GREY, boxes((50, 50, 150, 150), names=(name,)).draw(GREY)).any()


def test_a_name_that_no_font_has_is_still_drawn() -> None:
    assert changed(GREY, boxes((50, 50, 150, 150), names=("\U0001f9ea\ue123",)).draw(GREY)).any()


# ---- other libraries

FOUND = Detections(
    np.array([[10, 20, 60.5, 80], [-2, 0, 210, 170]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([1, 0]),
    ("cat", "hard hat"),
    path=Path("photos/a.jpg"),
    size_hw=(160, 200),
)


def test_coco_is_what_pycocotools_reads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    (tmp_path / "a.json").write_text(json.dumps(FOUND.to_coco(image_id=7, first_id=30)))
    with redirect_stdout(StringIO()):
        coco = COCO(str(tmp_path / "a.json"))
    assert coco.imgs[7] == {"id": 7, "file_name": "a.jpg", "width": 200, "height": 160}
    rows = coco.loadAnns(coco.getAnnIds(7))
    assert [row["id"] for row in rows] == [30, 31]
    assert [coco.cats[row["category_id"]]["name"] for row in rows] == ["hard hat", "cat"]
    assert rows[0]["bbox"] == [10, 20, 50.5, 60]
    assert (rows[0]["area"], rows[0]["score"], rows[0]["segmentation"], rows[0]["iscrowd"]) == (3030, 0.75, [], 0)


def test_pandas_gets_a_row_per_box() -> None:
    frame = FOUND.to_pandas()
    assert frame.columns.tolist() == ["path", "name", "label", "score", "x1", "y1", "x2", "y2"]
    assert frame.iloc[0].tolist() == ["photos/a.jpg", "hard hat", 1, 0.75, 10, 20, 60.5, 80]
    assert len(Detections.empty(("cat",)).to_pandas()) == 0


def test_fiftyone_gets_shares_of_the_image() -> None:
    boxes = FOUND.to_fiftyone().detections
    assert [(box.label, box.confidence) for box in boxes] == [("hard hat", 0.75), ("cat", 0.5)]
    assert boxes[0].bounding_box == pytest.approx([0.05, 0.125, 0.2525, 0.375])


def test_json_holds_plain_values() -> None:
    content = json.loads(json.dumps(FOUND.to_json()))
    assert (content["path"], content["width"], content["height"]) == ("photos/a.jpg", 200, 160)
    assert content["boxes"][0] == {"name": "hard hat", "score": 0.75, "xyxy": [10, 20, 60.5, 80]}
    assert make(1).to_json()["width"] is None


def test_filtering_keeps_path_and_size() -> None:
    few = FOUND.filter(np.array([1]))
    assert (few.path, few.size_hw, few.names) == (FOUND.path, FOUND.size_hw, FOUND.names)


@pytest.mark.parametrize("method", ["to_coco", "to_fiftyone"])
def test_what_needs_the_size_of_the_image_says_so(method: str) -> None:
    with pytest.raises(InputError, match="size_hw"):
        getattr(make(), method)()


def test_drawing_reads_the_image_upright_from_its_path(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (160, 200), (90, 90, 90)).save(tmp_path / "a.png", exif=turned)
    found = replace(boxes((60, 80, 140, 140)), path=tmp_path / "a.png")
    assert np.array_equal(np.asarray(found.draw()), np.asarray(found.draw(GREY)))
    with pytest.raises(InputError, match="gone"):
        replace(found, path=tmp_path / "gone.png").draw()
    with pytest.raises(InputError, match="image"):
        boxes((60, 80, 140, 140)).draw()
