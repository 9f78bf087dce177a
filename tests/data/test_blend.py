"""Photographs and scenes in one stream: shares, canvases, numbers of names."""

from __future__ import annotations

from collections import Counter

import pytest

from glip.data.blend import Blend
from glip.data.photos import Looks, PhotoStream
from glip.data.synthetic.stream import SceneStream
from glip.errors import InputError
from tests.data.photo_sets import write_photos
from tests.data.sets import same

SCENES = SceneStream(names=0, shapes=1.0, objects=(1, 2))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[PhotoStream]:
    folder = tmp_path_factory.mktemp("sets")
    looks = Looks(mosaic=0, pasted=0, synonyms=0)
    animals = write_photos(folder / "animals", ("dog", "cat"), [(0,), (1,)] * 3)
    traffic = write_photos(folder / "traffic", ("car", "bus"), [(0,), (1,)] * 3)
    return [PhotoStream(animals, 0, looks), PhotoStream(traffic, 1, looks)]


def blend(photos: list[PhotoStream], **more: object) -> Blend:
    settings: dict[str, object] = {"scene_share": 0.25, "sides": (64, 96), "group": 4} | more
    return Blend(photos, (2.0, 1.0), SCENES, **settings)  # type: ignore[arg-type]


def kind(caption: str) -> str:
    words = set(caption.replace(".", "").split())
    return "animals" if words & {"dog", "cat"} else "traffic" if words & {"car", "bus"} else "scenes"


def test_sets_and_scenes_come_by_their_shares(photos: list[PhotoStream]) -> None:
    stream = blend(photos)
    counts = Counter(kind(stream.example(position).caption) for position in range(240))
    assert 0.15 < counts["scenes"] / 240 < 0.35
    assert 1.4 < counts["animals"] / counts["traffic"] < 2.8


def test_without_scenes_there_are_photographs_only(photos: list[PhotoStream]) -> None:
    stream = blend(photos, scene_share=0.0)
    assert {kind(stream.example(position).caption) for position in range(40)} == {"animals", "traffic"}


def test_the_images_of_a_batch_have_one_size(photos: list[PhotoStream]) -> None:
    stream = blend(photos)
    sizes = [{stream.example(4 * batch + index).image.size for index in range(4)} for batch in range(12)]
    assert {len(own) for own in sizes} == {1}
    every = {stream.canvas(batch)[0] for batch in range(200)}
    assert every == {(96, 64), (64, 96), (64, 64), (128, 96), (96, 128), (96, 96)}


def test_some_batches_ask_for_many_names(photos: list[PhotoStream]) -> None:
    counts = Counter(blend(photos, many=(0.3, 0.1)).canvas(batch)[1] for batch in range(1000))
    assert set(counts) == {None, 20, 80}
    assert 0.2 < counts[20] / 1000 < 0.4
    assert 0.05 < counts[80] / 1000 < 0.15


def test_an_example_depends_on_its_position_alone(photos: list[PhotoStream]) -> None:
    assert all(same(blend(photos).example(p), blend(photos).example(p)) for p in range(8))
    assert blend(photos).epoch_length is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sides": ()}, "sides"),
        ({"sides": (16,)}, "sides"),
        ({"scene_share": 1.0}, "scene_share is 1.0"),
        ({"many": (0.9, 0.2)}, "many"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    photos: list[PhotoStream], wrong: dict[str, object], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        blend(photos, **wrong)


def test_every_set_needs_a_weight_above_0(photos: list[PhotoStream]) -> None:
    with pytest.raises(InputError, match="above 0"):
        Blend(photos, (1.0, 0.0), SCENES, 0.2, (64,), 4)
    with pytest.raises(InputError):
        Blend(photos, (1.0,), SCENES, 0.2, (64,), 4)
