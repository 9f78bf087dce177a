"""Flickr30k Entities' own files and MDETR's JSON give the same phrases and boxes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from glip.data.flickr30k import ENTITIES_FOLDER, Sentence, read_flickr30k
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
    folder = tmp_path / ENTITIES_FOLDER
    for name, content in (("val.txt", "36\n"), ("Sentences/36.txt", SENTENCES), ("Annotations/36.xml", ANNOTATIONS)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def mdetr_file(folder: Path) -> Path:
    """Writes the same phrases as MDETR publishes them; sizes partly in quotes, as there."""
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
    path = folder.parent / "mdetr_annotations/final_flickr_separateGT_val.json"
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode({"images": images, "annotations": annotations}))
    return path


def plain(sentence: Sentence) -> tuple[object, ...]:
    phrases = [(phrase.spans, phrase.types, phrase.boxes.tolist()) for phrase in sentence.phrases]
    return sentence.image, sentence.number, sentence.caption, phrases


def test_phrases_without_boxes_are_left_out(folder: Path) -> None:
    opened = read_flickr30k(folder / "val.txt")
    first, second, third = opened.sentences
    both = [[10, 20, 60, 90], [100, 20, 150, 90]]
    assert plain(first) == (
        *("36", 0, "Two people in red hats near it ."),
        [(((0, 10),), ("people",), both), (((14, 22),), ("clothing", "bodyparts"), [both[1]])],
    )
    assert plain(second) == ("36", 1, "A street with a couple .", [(((14, 22),), ("people",), both)])
    assert plain(third) == ("36", 2, "Nothing here .", [])


def test_mdetr_gives_the_same(folder: Path) -> None:
    mdetr, own = read_flickr30k(mdetr_file(folder)), read_flickr30k(folder / "val.txt")
    assert [plain(sentence) for sentence in mdetr.sentences] == [plain(sentence) for sentence in own.sentences[:2]]
    assert mdetr.file_names == own.file_names == {"36": "36.jpg"}
    assert mdetr.has_types and own.has_types


def test_first_images_keeps_their_sentences_only(folder: Path) -> None:
    opened = read_flickr30k(folder / "val.txt")
    assert len(opened.first_images(1).sentences) == 3
    assert opened.first_images(0).sentences == ()


def test_without_the_folder_types_are_unknown(folder: Path) -> None:
    path = mdetr_file(folder)
    folder.rename(folder.parent / "elsewhere")
    opened = read_flickr30k(path)
    assert not opened.has_types
    assert {phrase.types for sentence in opened.sentences for phrase in sentence.phrases} == {()}
    assert np.array_equal(opened.sentences[0].phrases[1].boxes, [[100, 20, 150, 90]])


def test_two_releases_that_differ_are_refused(folder: Path) -> None:
    path = mdetr_file(folder)
    (folder / "Sentences/36.txt").write_text(SENTENCES.replace("[/EN#8/clothing/bodyparts red hats]", "red hats"))
    with pytest.raises(InputError, match="caption 0 of image 36"):
        read_flickr30k(path)


def test_a_phrase_to_score_without_a_box_is_refused(folder: Path) -> None:
    path = mdetr_file(folder)
    path.write_bytes(path.read_bytes().replace(b'"tokens_positive":[[0,10]]', b'"tokens_positive":[[0,3]]'))
    with pytest.raises(InputError, match="'Two people'"):
        read_flickr30k(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("Annotations/36.xml", None),
        ("Annotations/36.xml", "<annotation>"),
        ("Annotations/36.xml", ANNOTATIONS.replace("<xmin>10</xmin>", "")),
        ("val.txt", None),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, name: str, content: str | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(str(folder / name))):
        read_flickr30k(folder / "val.txt")
