"""Photographs to learn from: what is asked, by which words, and which boxes answer."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from glip.data.cutouts import load_cutouts
from glip.data.photos import Looks, PhotoStream, photo_words, repeated_indices
from glip.data.synonyms import SYNONYMS
from glip.errors import InputError, JobFailed
from tests.data.photo_sets import write_cutouts, write_photos
from tests.data.sets import phrases, same

NAMES = ("dog", "car", "tv", "bird")
PLAIN = Looks(mosaic=0, pasted=0, synonyms=0, absent=(1, 2), repeat_below=0)
CANVAS = (96, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = [(0,), (1, 0), (2,), (0, 1), (), (3,)]
    return write_photos(tmp_path_factory.mktemp("photos") / "set", NAMES, labels)


def test_an_example_depends_on_its_position_alone(folder: Path) -> None:
    one, two = PhotoStream(folder), pickle.loads(pickle.dumps(PhotoStream(folder)))
    assert all(same(one.example(position, CANVAS), two.example(position, CANVAS)) for position in range(30))
    assert not same(one.example(0, CANVAS), one.example(1, CANVAS))
    assert not same(one.example(0, CANVAS), PhotoStream(folder, seed=1).example(0, CANVAS))


def test_every_image_comes_once_an_epoch(folder: Path) -> None:
    stream = PhotoStream(folder, looks=PLAIN)
    assert stream.epoch_length == 6
    assert sorted(stream._read(position, CANVAS)[0] for position in range(6, 12)) == [0, 1, 2, 3, 4, 5]


def test_boxes_are_named_by_their_class_among_absent_ones(folder: Path) -> None:
    stream = PhotoStream(folder, looks=PLAIN)
    colours = {"dog": 0, "car": 1, "tv": 2}
    absent = 0
    for position in range(60):
        example = stream.example(position, CANVAS)
        assert example.image.size == CANVAS
        for box, (name,) in zip(example.boxes, phrases(example), strict=True):
            middle = np.asarray(example.image)[int(box[[1, 3]].mean()), int(box[[0, 2]].mean())]
            if name in colours and len(np.unique(middle)) > 1:  # not the grey one of twenty
                assert int(np.argmax(middle)) == colours[name]
        asked = example.caption.split(". ")
        assert len(asked) == len(set(asked))
        assert set(asked) <= set(NAMES)
        named = {name for names in phrases(example) for name in names}
        absent += len(set(asked) - named)
        assert 1 <= len(set(asked) - named) <= 2 or len(asked) == 4
    assert absent > 60


def test_all_names_can_be_asked(folder: Path) -> None:
    example = PhotoStream(folder, looks=PLAIN).example(2, CANVAS, most_absent=80)
    assert set(example.caption.split(". ")) == set(NAMES)


def test_a_class_is_asked_by_its_synonyms_now_and_then(folder: Path) -> None:
    stream = PhotoStream(folder, looks=Looks(mosaic=0, pasted=0, synonyms=0.5))
    words = Counter(word for p in range(80) for names in phrases(stream.example(p, CANVAS)) for word in names)
    for name in ("dog", "car"):
        other = sum(words[word] for word in SYNONYMS[name])
        assert 0.25 < other / (other + words[name]) < 0.75
    assert set(words) <= {*NAMES, *(word for name in NAMES for word in SYNONYMS[name])}


def test_a_class_that_is_hardly_visible_is_not_asked(tmp_path: Path) -> None:
    write_photos(tmp_path / "set", ("dog", "car"), [(0, 1)], (400, 90))
    stream = PhotoStream(tmp_path / "set", looks=PLAIN)
    hidden = 0
    for position in range(60):
        example = stream.example(position, (64, 64))
        named = {name for names in phrases(example) for name in names}
        assert set(filter(None, example.caption.split(". "))) == named
        hidden += len(named) < 2
    assert hidden > 5


def test_a_pasted_thing_answers_to_its_name_and_to_its_class(folder: Path, tmp_path: Path) -> None:
    rows = [("animals/birds", "A crow."), ("vehicles", "A race car."), ("food", "A lemon.")]
    cutouts = load_cutouts(write_cutouts(tmp_path / "cutouts", rows))
    stream = PhotoStream(folder, looks=Looks(mosaic=0, pasted=1, synonyms=0, absent=(1, 1)), cutouts=cutouts)
    found = set()
    for position in range(60):
        example = stream.example(position, (160, 128))
        named = phrases(example)
        for box, names in zip(example.boxes, named, strict=True):
            if {"crow", "race car", "lemon"} & set(names):
                red, green, blue = example.image.getpixel((int(box[[0, 2]].mean()), int(box[[1, 3]].mean())))  # type: ignore[misc]
                assert green <= min(red, blue)
                found.add(tuple(sorted(names)))
    assert found == {("bird", "crow"), ("car", "race car"), ("lemon",)}


def test_a_mosaic_is_of_one_set(folder: Path) -> None:
    stream = PhotoStream(folder, looks=Looks(mosaic=1, pasted=0, synonyms=0))
    counts = [len(stream.example(position, CANVAS).boxes) for position in range(40)]
    assert max(counts) >= 4


def test_rare_classes_are_repeated() -> None:
    assert repeated_indices([[0], [0], [0], []], 0.0) == (0, 1, 2, 3)
    indices = Counter(repeated_indices([[0]] * 99 + [[0, 1]], 0.09))
    assert indices[99] == 3  # the root of 9
    assert {indices[index] for index in range(99)} == {1}
    half = repeated_indices([[number] for number in range(4)], 0.25 * 1.5**2)
    assert len(half) == 6


def test_an_image_is_shown_on_canvases_of_its_shape(tmp_path: Path) -> None:
    write_photos(tmp_path / "set", ("dog", "car"), [(0,)] * 4)
    dataset = (tmp_path / "set" / "annotations.json").read_text()
    assert '"width":120' in dataset
    stream = PhotoStream(tmp_path / "set", looks=PLAIN)
    assert stream._set.shown_on((128, 96)) == (0, 1, 2, 3)
    assert stream._set.shown_on((96, 128)) == (0, 1, 2, 3)  # none fits: all


def test_words_of_names_synonyms_and_cutouts_are_listed(folder: Path, tmp_path: Path) -> None:
    cutouts = load_cutouts(write_cutouts(tmp_path / "cutouts"))
    words = photo_words([PhotoStream(folder, cutouts=cutouts)])
    assert words == sorted(words)
    assert {"dog", "hound", "tv", "set", "crow"} <= set(words)


def test_a_broken_image_is_replaced_by_the_next(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "set", ("dog", "car"), [(0,), (1,)])
    (folder / "0.png").write_bytes(b"broken")
    stream = PhotoStream(folder, looks=PLAIN)
    assert {name for p in range(8) for names in phrases(stream.example(p, CANVAS)) for name in names} == {"car"}
    (folder / "1.png").unlink()
    with pytest.raises(JobFailed, match="of 2 images in a row"):
        stream.example(0, CANVAS)


def test_a_bad_set_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"annotations\.json"):
        PhotoStream(tmp_path)
    with pytest.raises(InputError, match="has no box"):
        PhotoStream(write_photos(tmp_path / "empty", ("dog",), [()]))
    with pytest.raises(InputError, match="'dog', 'Dog'"):
        PhotoStream(write_photos(tmp_path / "twice", ("dog", "Dog"), [(0,)]))
