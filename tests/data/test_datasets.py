"""Data sets as streams: every image once an epoch, the same example for the same position, boxes as published."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from glip.data.captions import Packing
from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset
from glip.data.datasets import DetectionStream, GroundingStream
from glip.data.examples import Example, ExampleStream
from glip.data.grounding import GroundingAnnotation, GroundingDataset
from glip.errors import InputError
from glip.prompts import MAX_TOKENS, Wording
from tests.data.sets import HEIGHT, WIDTH, coco, grounding, number_of, phrases, same
from tests.tiny import letters_tokenizer

TOKENIZER = letters_tokenizer()
CLASSES = ((0,), (1, 0), (2,), (0, 0, 2), (1,))
CAPTIONS = ("a cat and a dog", "a dog", "two cats", "the emu")
SPANS = ([[(2, 5)], [(12, 15)]], [[(2, 5)]], [[(0, 8)], [(4, 8)]], [[(0, 3), (4, 7)]])


def detection(folder: Path, **options: Any) -> DetectionStream:
    return DetectionStream(coco(folder, CLASSES), folder, TOKENIZER, **options)


def grounded(folder: Path, **options: Any) -> GroundingStream:
    return GroundingStream(grounding(folder, CAPTIONS, SPANS), folder, TOKENIZER, **options)


STREAMS = pytest.mark.parametrize("make", [detection, grounded])


def numbers(stream: ExampleStream, start: int, count: int) -> list[int]:
    return [number_of(stream.example(position)) for position in range(start, start + count)]


@STREAMS
def test_each_epoch_shows_every_image_once_in_another_order(make: Any, tmp_path: Path) -> None:
    stream = make(tmp_path)
    length = stream.epoch_length
    assert length == {detection: 5, grounded: 4}[make]
    epochs = [numbers(stream, epoch * length, length) for epoch in range(6)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 3
    assert numbers(make(tmp_path, seed=1), 0, 6 * length) != [*chain.from_iterable(epochs)]


@STREAMS
def test_copies_show_every_image_that_often_in_an_epoch(make: Any, tmp_path: Path) -> None:
    stream = make(tmp_path, copies=3)
    length = make(tmp_path).epoch_length
    assert stream.epoch_length == 3 * length
    for epoch in (0, 1):
        assert set(Counter(numbers(stream, epoch * 3 * length, 3 * length)).values()) == {3}
    with pytest.raises(InputError, match="copies is 0"):
        make(tmp_path, copies=0)


@pytest.mark.parametrize("make", [detection, lambda folder: grounded(folder, packing=Packing(alone=0.3, maximum=3))])
def test_an_example_depends_on_its_position_alone(make: Any, tmp_path: Path) -> None:
    stream = make(tmp_path)
    forwards = [stream.example(position) for position in range(12)]
    sent = pickle.loads(pickle.dumps(make(tmp_path)))  # as to a worker
    backwards = [sent.example(position) for position in reversed(range(12))][::-1]
    assert all(map(same, forwards, backwards))
    assert len({example.caption for example in forwards}) > 3


def test_a_box_has_the_span_of_its_class_whatever_the_category_ids(tmp_path: Path) -> None:
    names = ("cat", "dog", "red kite")
    for first_id in (0, 1, 50):
        stream = DetectionStream(coco(tmp_path, CLASSES, first_id=first_id), tmp_path, TOKENIZER)
        for position in range(15):
            example = stream.example(position)
            classes = CLASSES[number_of(example)]
            assert phrases(example) == [[names[label]] for label in classes]
            assert example.boxes.tolist() == [[5 + label, 6, 25 + label, 16] for label in classes]
            assert example.boxes.dtype == np.float32


def test_all_names_are_asked_in_the_order_of_their_ids_if_wished(tmp_path: Path) -> None:
    stream = detection(tmp_path, sampling="all-names")
    assert {stream.example(position).caption for position in range(9)} == {"cat. dog. red kite"}
    shuffled = detection(tmp_path, sampling="all-names", shuffle_names=True)
    captions = {shuffled.example(position).caption for position in range(40)}
    assert len(captions) == 6
    assert all(sorted(caption.split(". ")) == ["cat", "dog", "red kite"] for caption in captions)
    wordings = (Wording("cat", "a ", " there"), Wording("hound"), Wording("kite"))
    worded = detection(tmp_path, sampling="all-names", wordings=wordings).example(0)
    assert worded.caption == "a cat there. hound. kite"
    assert {text for box in phrases(worded) for text in box} <= {"cat", "hound", "kite"}


def odd(tmp_path: Path, *boxes: dict[str, Any]) -> CocoDataset:
    """Images 0 (a cat) and 1 (the given boxes)."""
    dataset = coco(tmp_path, ((0,), ()), first_id=1)
    added = tuple(
        CocoAnnotation(**({"id": 50 + row, "image_id": 101, "category_id": 1} | box)) for row, box in enumerate(boxes)
    )
    return msgspec.structs.replace(dataset, annotations=dataset.annotations + added)


def of_image(stream: ExampleStream, number: int) -> Example:
    return next(
        example for example in map(stream.example, range(stream.epoch_length or 0)) if number_of(example) == number
    )


def test_boxes_are_cut_at_the_border_and_those_of_a_pixel_and_crowds_left_out(tmp_path: Path) -> None:
    dataset = odd(
        tmp_path,
        {"bbox": (3, 3, 1, 9), "category_id": 5},
        {"bbox": (-5, -5, 15, 15)},
        {"bbox": (30, 20, 100, 100), "category_id": 5},
        {"bbox": (3, 3, 1, 9)},
        {"bbox": (3, 3, 9, 0)},
        {"bbox": (3, 3, 1.5, 9)},
        {"bbox": (60, 60, 9, 9)},
        {"bbox": (3, 3, 9, 9), "iscrowd": 1},
    )
    example = of_image(DetectionStream(dataset, tmp_path, TOKENIZER), 1)
    assert example.boxes.tolist() == [[0, 0, 10, 10], [30, 20, WIDTH, HEIGHT], [3, 3, 4.5, 12]]
    assert phrases(example) == [["cat"], ["dog"], ["cat"]]


def test_images_without_a_box_are_left_out_unless_wanted(tmp_path: Path) -> None:
    dataset = odd(tmp_path, {"bbox": (3, 3, 1, 1)}, {"bbox": (3, 3, 9, 9), "iscrowd": 1})
    assert DetectionStream(dataset, tmp_path, TOKENIZER).epoch_length == 1
    stream = DetectionStream(dataset, tmp_path, TOKENIZER, keep_empty=True)
    assert stream.epoch_length == 2
    example = of_image(stream, 1)
    assert example.boxes.shape == (0, 4)
    assert example.spans == ()
    assert example.caption  # names of things that are not there
    assert of_image(stream, 0).boxes.tolist() == [[5, 6, 25, 16]]


def test_classes_whose_name_cannot_be_asked_are_left_out_with_their_boxes(tmp_path: Path) -> None:
    stream = DetectionStream(coco(tmp_path, ((0, 1), (1,)), names=("cat", " ")), tmp_path, TOKENIZER)
    assert stream.epoch_length == 1
    assert phrases(stream.example(0)) == [["cat"]]


def test_boxes_of_names_that_do_not_fit_into_the_caption_are_left_out(tmp_path: Path) -> None:
    names = [f"{'abcdefghij'[label] * 60}" for label in range(10)]  # 61 tokens each: four fit
    stream = DetectionStream(coco(tmp_path, (range(10),), names), tmp_path, TOKENIZER)
    kept = Counter[str]()
    for position in range(40):
        example = stream.example(position)
        assert len(TOKENIZER.encode(example.caption).ids) <= MAX_TOKENS
        assert len(example.boxes) == 4
        for box, [text] in zip(example.boxes.tolist(), phrases(example), strict=True):
            assert text == names[int(box[0]) - 5]
            kept[text] += 1
    assert len(kept) == 10  # another choice each time


def test_a_set_with_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a box"):
        DetectionStream(coco(tmp_path, ((), ())), tmp_path, TOKENIZER)
    with pytest.raises(InputError, match="category"):
        DetectionStream(CocoDataset((), (), ()), tmp_path, TOKENIZER)
    with pytest.raises(InputError, match="1 class names"):
        DetectionStream(CocoDataset((), (), (CocoCategory(1, "(x)"),)), tmp_path, TOKENIZER)
    with pytest.raises(InputError, match=r"0\.9"):
        GroundingStream(grounding(tmp_path, CAPTIONS, SPANS, score=0.8), tmp_path, TOKENIZER, score_floor=0.9)
    with pytest.raises(InputError, match="folder"):
        GroundingStream(grounding(tmp_path, CAPTIONS, SPANS), tmp_path / "none", TOKENIZER)


def test_a_caption_comes_with_its_boxes_and_all_of_their_ranges(tmp_path: Path) -> None:
    stream = grounded(tmp_path)
    for position in range(8):
        example = stream.example(position)
        number = number_of(example)
        assert example.caption == CAPTIONS[number]
        assert example.spans == tuple(tuple(group) for group in SPANS[number])
        assert example.boxes.tolist() == [[5, 6, 25, 16]] * len(SPANS[number])


def test_ranges_stay_with_their_boxes_where_others_are_left_out(tmp_path: Path) -> None:
    dataset = grounding(tmp_path, CAPTIONS[:2], ([], [[(2, 5)]]))
    boxes = [
        GroundingAnnotation(10 + row, 0, (row, row, side, 9), spans)
        for row, (side, spans) in enumerate([(1, ((0, 1),)), (9, ((2, 5), (0, 1))), (0, ((6, 9),)), (7, ((12, 15),))])
    ]
    dataset = GroundingDataset(dataset.images, (*dataset.annotations, *boxes))
    example = of_image(GroundingStream(dataset, tmp_path, TOKENIZER), 0)
    assert example.boxes.tolist() == [[1, 1, 10, 10], [3, 3, 10, 12]]
    assert example.spans == (((2, 5), (0, 1)), ((12, 15),))


def test_captions_without_boxes_are_left_out_unless_wanted(tmp_path: Path) -> None:
    dataset = grounding(tmp_path, CAPTIONS, (*SPANS[:3], []))
    assert GroundingStream(dataset, tmp_path, TOKENIZER).epoch_length == 3
    stream = GroundingStream(dataset, tmp_path, TOKENIZER, keep_empty=True)
    example = of_image(stream, 3)
    assert (example.caption, example.boxes.shape, example.spans) == ("the emu", (0, 4), ())


def test_pseudo_labels_must_be_scored_above_the_floor_and_those_of_people_are_all_taken(tmp_path: Path) -> None:
    dataset = grounding(tmp_path, ("a cat and a dog", "a dog"), ([[(2, 5)]], [[(2, 5)]]))
    boxes = [
        GroundingAnnotation(10 + row, 0, (row, 0, 9, 9), ((2, 5),), score=score)
        for row, score in enumerate((0.5, 0.51, 0.2, 0.9))
    ]
    crowd = GroundingAnnotation(20, 0, (9, 0, 9, 9), ((2, 5),), iscrowd=1)
    nameless = GroundingAnnotation(21, 0, (9, 0, 9, 9), ())
    dataset = GroundingDataset(dataset.images, (*dataset.annotations, *boxes, crowd, nameless))

    def lefts(**options: Any) -> list[float]:
        return of_image(GroundingStream(dataset, tmp_path, TOKENIZER, **options), 0).boxes[:, 0].tolist()

    assert lefts() == [5, 1, 3]
    assert lefts(score_floor=0.1) == [5, 0, 1, 2, 3]


def test_long_captions_are_cut_and_boxes_named_beyond_the_cut_left_out(tmp_path: Path) -> None:
    text = " ".join(["abcd"] * 100)
    stream = GroundingStream(
        grounding(tmp_path, (text,), ([[(0, 4), (490, 494)], [(490, 494)], [(300, 304)]],)), tmp_path, TOKENIZER
    )
    example = stream.example(0)
    assert len(TOKENIZER.encode(example.caption).ids) == MAX_TOKENS
    assert example.spans == (((0, 4),), ((300, 304),))
    assert len(example.boxes) == 2


def test_packed_captions_keep_their_spans(tmp_path: Path) -> None:
    stream = grounded(tmp_path, packing=Packing(alone=0.2, maximum=3))
    lengths = set()
    for position in range(60):
        example = stream.example(position)
        number = number_of(example)
        texts = [[CAPTIONS[number][start:end] for start, end in group] for group in SPANS[number]]
        assert phrases(example) == texts
        assert len(TOKENIZER.encode(example.caption).ids) <= MAX_TOKENS
        lengths.add(example.caption.count("."))
        assert example.caption.count(CAPTIONS[number]) == 1 or number == 1  # 'a dog' stands in another caption too
    assert lengths >= {0, 2, 3, 4}
