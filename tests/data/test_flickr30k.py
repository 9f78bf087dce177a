"""Flickr30k Entities' own files and MDETR's JSON of them tell the same phrases and boxes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from glip.data.flickr30k import Sentence, read_entities, read_mdetr
from glip.errors import InputError

SENTENCES = """[/EN#7/people Two people] in [/EN#8/clothing/bodyparts red hats] near [/EN#0/notvisual it] .
[/EN#9/scene A street] with [/EN#7/people a  couple] .
Nothing here .
"""
ANNOTATIONS = """<annotation><filename>36.jpg</filename>
<size><width>500</width><height>375</height><depth>3</depth></size>
<object><name>7</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>60</xmax><ymax>90</ymax></bndbox></object>
<object><name>7</name><name>8</name>
  <bndbox><xmin>100</xmin><ymin>20</ymin><xmax>150</xmax><ymax>90</ymax></bndbox></object>
<object><name>9</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Sentences").mkdir()
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "val.txt").write_text("36\n")
    (tmp_path / "Sentences/36.txt").write_text(SENTENCES)
    (tmp_path / "Annotations/36.xml").write_text(ANNOTATIONS)
    return tmp_path


def mdetr_file(folder: Path) -> Path:
    """The same as MDETR publishes it; sizes partly in quotes, as there."""
    captions = ["Two people in red hats near it .", "A street with a couple ."]
    phrases = [[[[0, 10]], [[14, 22]]], [[[14, 22]]]]
    images = [
        {
            "id": number + 1,
            "file_name": "36.jpg",
            "width": "500",
            "height": 375,
            "caption": captions[number],
            "original_img_id": 36,
            "sentence_id": number,
            "tokens_positive_eval": phrases[number],
        }
        for number in range(2)
    ]
    boxes = [
        (1, [10, 20, 50, 70], [[0, 10]]),
        (1, [100, 20, 50, 70], [[0, 10]]),
        (1, [100, 20, 50, 70], [[14, 22]]),
        (2, [10, 20, 50, 70], [[14, 22]]),
        (2, [100, 20, 50, 70], [[14, 22]]),
    ]
    annotations = [
        {"id": id, "image_id": image, "bbox": bbox, "tokens_positive": spans}
        for id, (image, bbox, spans) in enumerate(boxes)
    ]
    path = folder / "final_flickr_separateGT_val.json"
    path.write_bytes(msgspec.json.encode({"images": images, "annotations": annotations}))
    return path


def plain(sentence: Sentence) -> tuple[object, ...]:
    phrases = [(phrase.spans, phrase.types, phrase.boxes.tolist()) for phrase in sentence.phrases]
    return sentence.image, sentence.number, sentence.caption, phrases


def test_phrases_without_boxes_are_left_out(folder: Path) -> None:
    first, second, third = read_entities(folder, "val")
    both = [[10, 20, 60, 90], [100, 20, 150, 90]]
    assert plain(first) == (
        *("36", 0, "Two people in red hats near it ."),
        [(((0, 10),), ("people",), both), (((14, 22),), ("clothing", "bodyparts"), [both[1]])],
    )
    assert plain(second) == ("36", 1, "A street with a couple .", [(((14, 22),), ("people",), both)])
    assert plain(third) == ("36", 2, "Nothing here .", [])


def test_mdetr_tells_the_same(folder: Path) -> None:
    sentences = read_mdetr(mdetr_file(folder), folder)
    assert [plain(sentence) for sentence in sentences] == [plain(one) for one in read_entities(folder, "val")[:2]]


def test_without_the_folder_types_are_not_known(folder: Path) -> None:
    sentences = read_mdetr(mdetr_file(folder))
    assert {phrase.types for sentence in sentences for phrase in sentence.phrases} == {()}
    assert np.array_equal(sentences[0].phrases[1].boxes, [[100, 20, 150, 90]])


def test_two_releases_that_differ_are_refused(folder: Path) -> None:
    path = mdetr_file(folder)
    (folder / "Sentences/36.txt").write_text(SENTENCES.replace("[/EN#8/clothing/bodyparts red hats]", "red hats"))
    with pytest.raises(InputError, match="other phrases of caption 0 of image 36"):
        read_mdetr(path, folder)


def test_a_phrase_to_score_without_a_box_is_refused(folder: Path) -> None:
    path = mdetr_file(folder)
    path.write_bytes(path.read_bytes().replace(b'"tokens_positive":[[0,10]]', b'"tokens_positive":[[0,3]]'))
    with pytest.raises(InputError, match="'Two people' to score"):
        read_mdetr(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Annotations/36.xml", None, r"There is no .*36\.xml"),
        ("Annotations/36.xml", "<annotation>", "not an annotation file"),
        ("Annotations/36.xml", ANNOTATIONS.replace("<xmin>10</xmin>", ""), "not an annotation file"),
        ("val.txt", None, r"There is no .*val\.txt"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, name: str, content: str | None, message: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_entities(folder, "val")
